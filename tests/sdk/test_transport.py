"""Jobs that are submitted together, over a transport whose producer and reader are the test's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

import ftjm
from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError, LogRefused
from ftjm.adapters.records import Receipt
from ftjm.client import answers, command_client
from ftjm.client.groups import GROUP_MAX
from ftjm.core.records.commands import CancelJob
from ftjm.runtime import config
from ftjm.sdk import transport as module
from ftjm.sdk.transport import KafkaTransport
from integration.waiting import until
from tests.client.no_answers import NoAnswers
from tests.sdk.app import resize

JOBS = 2 * GROUP_MAX + 7


class Taking:
    """A producer that takes each record at once, but those of one job."""

    fault: LogError | None = None
    forgotten = False

    def __init__(self, *_: Any, **__: Any) -> None:
        self.sent: list[str] = []
        self.refused = ""
        self.is_slow = False
        self.not_told: list[Callable[[], None]] = []
        """If the producer is slow: each function tells the sender of one record that the log has the record."""

    def warm(self, *_: Any) -> int:
        return 1

    def send_for_receipt(self, _topic: str, *, value: bytes, received: Any, **_: Any) -> None:
        command = codec.decode(value)
        if command.job_id == self.refused:
            raise LogRefused("it is too large")
        self.sent.append(f"{type(command).__name__} {command.job_id}")
        receipt = Receipt(0, len(self.sent), 0, 0.0)
        if self.is_slow:
            self.not_told.append(lambda: received(receipt))
        else:
            received(receipt)

    def close(self, _seconds: float) -> int:
        return 0


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> Taking:
    made = Taking()
    monkeypatch.setattr(command_client, "ConfirmingProducer", lambda *_, **__: made)
    monkeypatch.setattr(answers, "LaneReader", NoAnswers)
    return made


@pytest.fixture
def transport(producer: Taking) -> Iterator[KafkaTransport]:
    connected = KafkaTransport(config.load(bootstrap="127.0.0.1:1"), 5.0)
    yield connected
    connected.close()


@pytest.fixture
def client(transport: KafkaTransport) -> ftjm.Client:
    return ftjm.Client(transport=transport)


def test_many_jobs_are_sent_in_their_order(client: ftjm.Client, producer: Taking) -> None:
    handles = client.submit_many((f"job-{number}", resize("a.png")) for number in range(JOBS))
    assert [handle.job_id for handle in handles] == [f"job-{number}" for number in range(JOBS)]
    assert producer.sent == [f"SubmitJob job-{number}" for number in range(JOBS)]


def test_jobs_are_sent_though_the_next_one_does_not_come(client: ftjm.Client, producer: Taking) -> None:
    """The source may wait for what a job before does."""

    def source() -> Iterator[Any]:
        for number in range(3):
            yield f"job-{number}", resize("a.png")
        until(lambda: len(producer.sent) == 3, "the jobs to be sent")
        yield "last", resize("a.png")

    assert len(client.submit_many(source())) == len(producer.sent) == 4


def test_another_command_does_not_overtake_jobs_that_are_held(
    client: ftjm.Client, transport: KafkaTransport, producer: Taking
) -> None:
    def source() -> Iterator[Any]:
        for number in range(3):
            yield f"job-{number}", resize("a.png")
        transport.send(CancelJob(queue="thumbnails", job_id="job-2"))

    client.submit_many(source())
    assert producer.sent == [*(f"SubmitJob job-{number}" for number in range(3)), "CancelJob job-2"]


@pytest.mark.parametrize("error", [ftjm.InvalidJobError([]), KeyboardInterrupt(), SystemExit(3)])
def test_jobs_before_an_error_of_their_source_are_sent(
    client: ftjm.Client, producer: Taking, error: BaseException
) -> None:
    def source() -> Iterator[Any]:
        for number in range(3):
            yield f"job-{number}", resize("a.png")
        raise error

    with pytest.raises(type(error)):
        client.submit_many(source())
    assert producer.sent == [f"SubmitJob job-{number}" for number in range(3)]


@pytest.mark.parametrize("refused", [0, 3, GROUP_MAX + 3, JOBS - 1])
def test_jobs_before_one_that_cannot_be_sent_are_sent_and_it_is_told(
    client: ftjm.Client, producer: Taking, refused: int
) -> None:
    producer.refused = f"job-{refused}"
    with pytest.raises(ftjm.FtjmError, match="it is too large"):
        client.submit_many([(f"job-{number}", resize("a.png")) for number in range(JOBS)])
    assert producer.sent[:refused] == [f"SubmitJob job-{number}" for number in range(refused)]
    assert f"SubmitJob job-{refused}" not in producer.sent
    assert client.submit_many([("after", resize("a.png"))])


@pytest.mark.parametrize("refused", [0, JOBS - 1])
def test_whoever_is_told_of_a_failure_has_had_the_others_confirmed(
    client: ftjm.Client, producer: Taking, refused: int
) -> None:
    """Its program may end then, and with it the client."""
    producer.is_slow, producer.refused = True, f"job-{refused}"
    raised: list[BaseException] = []

    def submit() -> None:
        try:
            client.submit_many([(f"job-{number}", resize("a.png")) for number in range(JOBS)])
        except ftjm.FtjmError as error:
            raised.append(error)

    submitting = threading.Thread(target=submit)
    submitting.start()
    until(lambda: len(producer.sent) >= min(refused, 1), "jobs to be sent")
    while submitting.is_alive():
        if producer.not_told:
            assert not raised, "it waits for these"
            producer.not_told.pop(0)()
        submitting.join(0.001)
    assert "it is too large" in str(raised[0])
    assert not producer.not_told


def test_a_group_is_sent_when_it_is_full(
    transport: KafkaTransport, producer: Taking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", inf)
    monkeypatch.setattr(module, "HELD_SECONDS", inf)
    for number in range(GROUP_MAX - 1):
        transport.add(CancelJob(queue="q", job_id=str(number)))
    assert producer.sent == []
    transport.add(CancelJob(queue="q", job_id="last"))
    assert len(producer.sent) == GROUP_MAX


def test_one_thread_is_not_told_of_the_failure_of_another(
    transport: KafkaTransport, producer: Taking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", inf)
    monkeypatch.setattr(module, "HELD_SECONDS", inf)
    producer.refused = "bad"
    held = transport.add(CancelJob(queue="q", job_id="bad"))
    sent = transport.send(CancelJob(queue="q", job_id="good"))
    transport.confirm([sent])
    with pytest.raises(ftjm.FtjmError, match="it is too large"):
        transport.confirm([held])


def test_what_the_listening_thread_cannot_send_is_told_to_who_submitted_it(
    client: ftjm.Client, transport: KafkaTransport, producer: Taking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", inf)
    producer.refused = "job-1"

    def source() -> Iterator[Any]:
        for number in range(3):
            yield f"job-{number}", resize("a.png")
        until(lambda: not transport._group, "the held jobs to be sent")

    with pytest.raises(ftjm.FtjmError, match="it is too large"):
        client.submit_many(source())
    assert producer.sent[0] == "SubmitJob job-0"


def test_a_slow_source_has_each_job_sent_at_once(
    transport: KafkaTransport, producer: Taking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", -1.0)
    for number in range(3):
        transport.add(CancelJob(queue="q", job_id=str(number)))
        assert len(producer.sent) == number + 1
