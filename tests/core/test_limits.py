"""The limits add up: the largest record that is accepted leads to records that the log takes."""

from __future__ import annotations

from typing import Any

import annotated_types
import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka import connection, topics
from ftjm.core import limits
from ftjm.core.bounds import confine
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records import messages as m
from ftjm.core.state.model import FailureReason, JobSpec
from ftjm.engine.outbox import Outbox
from ftjm.engine.ports import Parcel
from ftjm.runtime.config import Settings
from tests.engine.world import OTHER_QUEUE, QUEUE, World, offer

INLINE = limits.INLINE_BYTES_MAX
KAFKA_BYTES = 64 * 1024
"""Room for what Kafka adds to a record: the batch's header, the record's key and headers, a bad compression."""
NAME = "x" * 128
TITLE = "\U0001f600" * limits.TITLE_CHARACTERS_MAX
ERROR = "\U0001f600" * limits.ERROR_CHARACTERS_MAX
ABOUT: dict[str, Any] = {"queue": QUEUE, "job_id": NAME, "actor": TITLE, "sent_at": limits.TIME_MAX_MS}
END: dict[str, Any] = {
    "run": 1,
    "attempt": 1,
    "session": "s1",
    "started_at": limits.TIME_MAX_MS,
    "ended_at": limits.TIME_MAX_MS,
    "exit_code": -limits.SMALL_MAX,
    "stdout": b"o" * INLINE,
    "stderr": b"e" * INLINE,
    "stdout_cut": limits.COUNT_MAX,
    "stderr_cut": limits.COUNT_MAX,
}


def largest_spec() -> JobSpec:
    """Words of one byte have the most overhead: each has a length of its own."""
    words = ["w"] * (limits.WORDS_MAX - 1)
    return JobSpec(
        command=[*words, "x" * limits.WORD_CHARACTERS_MAX],
        payload=b"p" * INLINE,
        environment={f"E{number}": "x" * 50 for number in range(limits.WORDS_MAX)},
        labels={f"l{number}": "x" * 10 for number in range(limits.WORDS_MAX)},
        working_directory="\U0001f600" * limits.PATH_CHARACTERS_MAX,
        max_attempts=2,
    )


def large_world() -> World:
    world = World()
    world.policy = world.owner.policy = type(world.policy)(partition=0, partitions=4, inline_bytes_max=INLINE)
    return world


def submitted() -> World:
    world = large_world()
    command = c.SubmitJob(**ABOUT, spec=largest_spec(), awaits=True)
    assert confine(command) == ""
    assert len(codec.encode(command)) <= limits.COMMAND_BYTES_MAX
    world.send(command, "0/client/1")
    world.work_all()
    world.work(offers=[offer()])
    assert [type(event) for event in world.events() if isinstance(event, e.Event)] == [
        e.UpgradeFinalized,
        e.JobSubmitted,
        e.AttemptDispatched,
    ]
    return world


def check_that_the_log_takes_all(world: World) -> list[Any]:
    """Every record of the events, and every message. Returns the messages."""
    for record in world.log.events(0, 0):
        assert len(record.value) + KAFKA_BYTES < limits.RECORD_BYTES_MAX
    sent: list[Parcel] = []
    outbox = Outbox(0, codec, lambda parcel, _told: sent.append(parcel), 0)
    outbox.send(world.owner.state, world.owner.state.outbox(0))
    assert not outbox.take_skipped()
    for parcel in sent:
        assert len(parcel.value) + KAFKA_BYTES < limits.RECORD_BYTES_MAX
    return [codec.decode(parcel.value) for parcel in sent]


def test_the_largest_job_can_be_submitted_and_dispatched():
    world = submitted()
    checkpoint = c.CheckpointAttempt(
        **ABOUT, run=1, attempt=1, session="s1", data=b"1" * limits.CHECKPOINT_BYTES_MAX, text="\U0001f600" * 1_000
    )
    world.send(checkpoint)
    world.work_all()
    (run,) = [message for message in check_that_the_log_takes_all(world) if isinstance(message, m.RunAttempt)]
    assert len(run.checkpoint) == limits.CHECKPOINT_BYTES_MAX


@pytest.mark.parametrize("kind", [c.CompleteAttempt, c.FailAttempt])
def test_the_largest_report_is_taken_and_answered(kind):
    world = submitted()
    fields: dict[str, Any] = {"result": b"1" * INLINE} if kind is c.CompleteAttempt else {}
    if kind is c.FailAttempt:
        fields = {"reason": FailureReason.EXIT_CODE, "error": ERROR}
    report = kind(**ABOUT, **END, **fields)
    assert confine(report) == ""
    assert len(codec.encode(report)) <= limits.COMMAND_BYTES_MAX
    world.send(report)
    world.work_all()
    (answer, *_) = world.of(1)
    assert isinstance(answer, e.AttemptSucceeded | e.AttemptFailed)
    assert (len(answer.stdout), len(answer.stderr)) == (INLINE, INLINE)
    check_that_the_log_takes_all(world)


def test_the_largest_command_can_be_forwarded():
    world = large_world()
    body = c.SubmitJob(queue=OTHER_QUEUE, job_id=NAME, actor=TITLE, spec=JobSpec(command=["x"]))
    body.spec = JobSpec(command=["x"], payload=bytes(limits.COMMAND_BYTES_MAX - len(codec.encode(body)) - 3))
    assert len(codec.encode(body)) == limits.COMMAND_BYTES_MAX
    world.send(body, "0/" + NAME + "/" + NAME)
    world.work_all()
    (forwarded,) = world.of(0)
    assert isinstance(forwarded, e.CommandForwarded)
    assert len(codec.encode(forwarded)) < limits.COMMAND_BYTES_MAX + limits.FORWARD_BYTES_MAX
    check_that_the_log_takes_all(world)


def test_the_sums():
    """A report is two outputs and a result. A forwarded command is in an event, with its address."""
    assert limits.COMMAND_BYTES_MAX >= 3 * limits.INLINE_BYTES_MAX + 4 * limits.ERROR_CHARACTERS_MAX
    assert limits.COMMAND_BYTES_MAX + limits.FORWARD_BYTES_MAX + KAFKA_BYTES <= limits.RECORD_BYTES_MAX


def test_kafka_and_the_settings_have_the_same_limits():
    assert connection.PRODUCER["message.max.bytes"] == limits.RECORD_BYTES_MAX
    assert connection.CONSUMER["fetch.message.max.bytes"] == limits.RECORD_BYTES_MAX
    assert {"max.message.bytes": str(limits.RECORD_BYTES_MAX)} == topics.LARGE_RECORDS
    assert most("inline_limit_bytes") == limits.INLINE_BYTES_MAX
    assert most("partitions") == limits.PARTITIONS_MAX
    assert most("lanes") == limits.LANES_MAX
    assert most("lease_seconds") * 1_000 == limits.LEASE_MS_MAX


def most(setting: str) -> float:
    (bound,) = [b.le for b in Settings.model_fields[setting].metadata if isinstance(b, annotated_types.Le)]
    assert isinstance(bound, int | float)
    return bound


@pytest.mark.parametrize("inline", [1_024, 256 * 1_024, INLINE])
@pytest.mark.parametrize("size", [INLINE, 1_300_000])
def test_a_report_over_the_limits_of_its_partition_ends_its_attempt_with_the_reason(inline, size):
    """Its worker has other settings, or is another program. Refused, it would leave the job running for ever."""
    world = World()
    world.policy = world.owner.policy = type(world.policy)(partition=0, partitions=4, inline_bytes_max=inline)
    world.submit("a")
    world.work(offers=[offer()])
    report = c.CompleteAttempt(
        **{**ABOUT, "job_id": "a"},
        **{**END, "stdout": b"o" * size, "stderr": b"e" * size},
        result=b"1" * size,
    )
    assert len(codec.encode(report)) <= limits.RECORD_BYTES_MAX
    world.send(report)
    world.work_all()
    (answer, *_) = world.of(1)
    if size <= inline:
        assert isinstance(answer, e.AttemptSucceeded)
    else:
        assert isinstance(answer, e.AttemptFailed)
        assert answer.reason is FailureReason.RESULT_REFUSED
        assert f"at most {inline} bytes, but found {size}" in answer.error
        assert "inline_limit_bytes" in answer.error
    assert (len(answer.stdout), answer.stdout_cut) == (min(size, inline), limits.COUNT_MAX + max(0, size - inline))
    check_that_the_log_takes_all(world)


def test_a_report_over_the_limit_that_lies_in_another_partition_is_refused():
    """As an event it would be larger than a record may be."""
    world = World()
    world.send(c.CompleteAttempt(**{**ABOUT, "queue": OTHER_QUEUE}, **END, result=b"1" * 1_900_000))
    world.work_all()
    (answer,) = world.of(0)
    assert isinstance(answer, e.CommandRejected)
    assert answer.code == "TOO_LARGE"
    assert str(limits.COMMAND_BYTES_MAX) in answer.text
