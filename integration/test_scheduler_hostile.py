"""Any program may write any bytes to `commands`: invalid records are refused by offset, and the partition goes on."""

from __future__ import annotations

from collections.abc import Sequence

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.records import Receipt
from ftjm.client.command_client import Client
from ftjm.core.records import events as e
from ftjm.core.records.commands import Command, SubmitJob
from ftjm.core.state.model import JobSpec
from integration.harness import QUEUES, QUICK, Cluster
from integration.planted import MARK
from integration.waiting import LIMIT_SECONDS, until

P = 0
"""The partition that everything here goes to."""
QUEUE = QUEUES[P]
Headers = Sequence[tuple[str, bytes]]

HOSTILE_HEADERS: list[Headers] = [
    [("ftjm-reply-to", b"../..")],
    [("ftjm-reply-to", b"0/../../x/y")],
    [("ftjm-reply-to", b"9999/session/1")],
    [("ftjm-reply-to", b"\xff\xfe")],
    [("ftjm-reply-to", b"")],
    [("ftjm-source", b"abc"), ("ftjm-number", b"1")],
    [("ftjm-source", b"-1"), ("ftjm-number", b"1")],
    [("ftjm-source", "²".encode()), ("ftjm-number", b"1")],
    [("ftjm-source", b"99999999999999999999999"), ("ftjm-number", b"1")],
    [("x" * 300, b"y" * 10_000)],
]


def submission(job_id: str, **fields: object) -> bytes:
    return codec.encode(SubmitJob(queue=QUEUE, job_id=job_id, spec=JobSpec(command=QUICK), **fields))  # type: ignore[arg-type]


def put(cluster: Cluster, records: Sequence[tuple[bytes, Headers]]) -> list[int]:
    """Append raw records to one partition of `commands`. Return their offsets."""
    offsets: list[int] = []
    producer = ConfirmingProducer(cluster.settings.kafka_settings("test"))
    try:
        for value, headers in records:
            producer.send_for_receipt(
                cluster.settings.topic("commands"),
                value,
                partition=P,
                headers=headers,
                received=lambda receipt: offsets.append(receipt.offset if isinstance(receipt, Receipt) else -1),
            )
        assert producer.flush(120) == 0
    finally:
        producer.close()
    assert -1 not in offsets
    return offsets


def answers(cluster: Cluster, offsets: Sequence[int]) -> list[e.Event]:
    """Wait until all commands are decided. Return the event that answers each."""

    def decided() -> dict[str, e.Event] | None:
        found = {
            event.cause_ref: event
            for batch in cluster.log().batches[P]
            for event in batch.events
            if event.cause is e.Cause.COMMAND
        }
        return found if all(str(offset) in found for offset in offsets) else None

    found = until(decided, f"the commands at {offsets} to be decided")
    return [found[str(offset)] for offset in offsets]


def test_a_record_that_is_no_command_is_refused_by_its_offset(running: Cluster) -> None:
    scheduler = running.scheduler()
    running.worker()
    good = submission("truncated")
    cases = {
        b"": "NOT_SINGLE_OBJECT",
        b"\0": "NOT_SINGLE_OBJECT",
        b"\xff" * 1_000: "NOT_SINGLE_OBJECT",
        b'{"queue": "q", "job_id": "j"}': "NOT_SINGLE_OBJECT",
        b"\xc3\x01" + b"\0" * 50: "UNKNOWN_FINGERPRINT",
        good[:-1]: "BAD_BODY",
        good[:10]: "BAD_BODY",
        good[:10] + b"\xff" * 100: "BAD_BODY",
        good + b"\0": "TRAILING_BYTES",
        codec.encode(e.JobQueued(queue=QUEUE, job_id="j")): "NOT_A_COMMAND",
        b"\xc3\x01" + b"x" * (4 * 1024 * 1024 - 2_000): "TOO_LARGE",
        codec.encode(large(b"p" * 3_000_000)): "INVALID",  # its payload is too large; the record is not
    }
    offsets = put(running, [(value, ()) for value in cases])
    for event, code in zip(answers(running, offsets), cases.values(), strict=True):
        assert isinstance(event, e.CommandRejected)
        assert event.code == code
        assert len(event.text) < 5_000
    assert_goes_on(running)
    assert scheduler.error_lines() == []


def large(payload: bytes) -> Command:
    return SubmitJob(queue=QUEUE, job_id="large", spec=JobSpec(command=QUICK, payload=payload))


def test_hostile_headers_change_nothing(running: Cluster) -> None:
    running.scheduler()
    running.worker()
    offsets = put(running, [(submission(f"h-{n}"), headers) for n, headers in enumerate(HOSTILE_HEADERS)])
    assert [type(event) for event in answers(running, offsets)] == [e.JobSubmitted] * len(offsets)
    assert {event.reply for event in answers(running, offsets)} == {""}
    # A command forwarded by a partition that does not exist, and one whose number is not the next.
    forged = [[("ftjm-source", b"77"), ("ftjm-number", b"1")], [("ftjm-source", b"1"), ("ftjm-number", b"5")]]
    refused = answers(running, put(running, [(submission(f"f-{n}"), h) for n, h in enumerate(forged)]))
    assert [getattr(event, "code", type(event)) for event in refused] == ["INVALID", "OUT_OF_TURN"]
    jobs = [(QUEUE, f"h-{n}") for n in range(len(HOSTILE_HEADERS))]
    running.until_done(jobs).check(jobs)
    assert_goes_on(running)


def test_a_bug_in_deciding_stops_no_partition(running: Cluster) -> None:
    first = running.scheduler("a", module="integration.planted")
    running.worker()
    offsets = put(running, [(submission(job_id), ()) for job_id in ("before", f"{MARK}-1", "between", f"{MARK}-2")])
    before, one, between, two = answers(running, offsets)
    assert isinstance(before, e.JobSubmitted)
    assert isinstance(between, e.JobSubmitted)
    for event, offset in ((one, offsets[1]), (two, offsets[3])):
        assert isinstance(event, e.CommandRejected)
        assert (event.code, event.cause_ref) == ("INTERNAL_ERROR", str(offset))
        assert "a planted fault" in event.text
    until(lambda: len(first.log_lines("internal_error")) >= 2, "both alarms")
    alarms = [line["text"] for line in first.log_lines("internal_error")]
    assert [f"offset {offset}" in text for offset, text in zip((offsets[1], offsets[3]), alarms, strict=True)]

    # The successor has the same bug; it is nominated while poison arrives and has poison in its log, too.
    second = running.scheduler("b", module="integration.planted")
    running.until_owners("a", "b")
    more = put(running, [(submission(f"{MARK}-{n}"), ()) for n in range(3, 13)])
    first.kill()
    running.until_owners("b")
    refused = answers(running, [*more, *put(running, [(submission(f"{MARK}-last"), ())])])
    assert {getattr(event, "code", None) for event in refused} == {"INTERNAL_ERROR"}
    assert second.log_lines("partition_stopped") == []
    jobs = [(QUEUE, "before"), (QUEUE, "between")]
    running.until_done(jobs).check(jobs)
    assert_goes_on(running)


def assert_goes_on(cluster: Cluster) -> None:
    """Check that the partition accepts and runs another job."""
    with Client(cluster.settings) as client:
        ticket = client.send(SubmitJob(queue=QUEUE, job_id="after", spec=JobSpec(command=QUICK), awaits=True))
        client.confirm()
        assert client.ended([ticket], LIMIT_SECONDS)
    assert ticket.outcome is not None
    assert ticket.outcome.state == "SUCCEEDED"
    cluster.log().check([(QUEUE, "after")])
