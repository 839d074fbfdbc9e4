"""What a worker has to say is said until the log has it; a checkpoint, unless a newer one has taken its place."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from ftjm.adapters import codec
from ftjm.core.commands import AttemptReport, CheckpointAttempt, CompleteAttempt
from ftjm.worker import kafka_wire as module
from ftjm.worker.inbox import Confirmed
from ftjm.worker.kafka_wire import KafkaWire, Topics

UNKNOWN = KafkaError(KafkaError._UNKNOWN_PARTITION)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
COMPLETE = CompleteAttempt(queue="q", job_id="j", run=1, attempt=1, session="s", started_at=1, ended_at=2)


class Site:
    """A wire whose outlet and timers are the test's."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, Any]] = []
        self.later: list[Any] = []
        self.told: list[Any] = []
        topics, inbox, outlet = Topics("t.{}".format, 1, 1), self, self
        self.wire = KafkaWire({}, topics, outlet, inbox, 5.0)  # type: ignore[arg-type]

    fault = None

    def send(self, _topic: str, value: bytes, *, delivered: Any, **_: Any) -> None:
        self.sent.append((codec.decode(value), delivered))

    def put(self, item: Any) -> None:
        self.told.append(item)

    def tell(self, number: int, error: KafkaError | None) -> None:
        self.sent[number][1](error, None)

    def wait(self) -> None:
        """The timers run out."""
        later, self.later = self.later, []
        for function, arguments in later:
            function(*arguments)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    class Timer:
        def __init__(self, _seconds: float, function: Any, arguments: Any) -> None:
            self.start = lambda: made.later.append((function, arguments))

    class Listener:
        def __init__(self, *_: Any) -> None:
            self.start = lambda: None

    monkeypatch.setattr("ftjm.worker.kafka_wire.threading.Timer", Timer)
    monkeypatch.setattr(module, "_Listener", Listener)
    made = Site()
    return made


def checkpoint(data: bytes) -> AttemptReport:
    return CheckpointAttempt(queue="q", job_id="j", run=1, attempt=1, session="s", data=data)


def test_a_report_is_sent_until_the_log_has_it(site: Site) -> None:
    site.wire.report("s", COMPLETE)
    for number, error in enumerate((UNKNOWN, TOO_LARGE)):
        site.tell(number, error)
        assert site.told == []
        site.wait()
    site.tell(2, None)
    assert site.told == [Confirmed("s")]
    assert len(site.sent) == 3


def test_a_checkpoint_is_sent_again_where_the_topic_was_not_known(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    site.tell(0, UNKNOWN)
    site.wait()
    site.tell(1, None)
    assert [command.data for command, _ in site.sent] == [b"1", b"1"]
    assert site.told == [Confirmed("s")]


def test_a_checkpoint_that_is_refused_for_good_is_left(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    site.tell(0, TOO_LARGE)
    assert site.told == [Confirmed("s")]
    assert site.later == []


@pytest.mark.parametrize("told_first", [True, False])
def test_a_checkpoint_is_not_sent_behind_a_newer_one(site: Site, told_first: bool) -> None:
    site.wire.report("s", checkpoint(b"1"))
    if told_first:
        site.tell(0, UNKNOWN)
    site.wire.report("s", checkpoint(b"2"))
    if not told_first:
        site.tell(0, UNKNOWN)
    site.wait()
    assert [command.data for command, _ in site.sent] == [b"1", b"2"]
    assert site.told == [Confirmed("s")]
    site.tell(1, None)
    assert site.told == [Confirmed("s")] * 2


def test_a_checkpoint_is_not_sent_behind_a_newer_one_that_the_log_has(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    site.tell(0, UNKNOWN)
    site.wire.report("s", checkpoint(b"2"))
    site.tell(1, None)
    site.wait()
    assert [command.data for command, _ in site.sent] == [b"1", b"2"]
    assert site.told == [Confirmed("s")] * 2


def test_of_an_attempt_that_is_over_no_checkpoint_is_kept(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    assert len(site.wire._checkpoints) == 1
    site.wire.report("s", COMPLETE)
    site.tell(1, None)
    assert site.wire._checkpoints == {}


def test_the_last_checkpoint_of_an_attempt_is_sent_again_though_its_end_is_on_its_way(site: Site) -> None:
    """The next attempt begins with it."""
    site.wire.report("s", checkpoint(b"1"))
    site.wire.report("s", COMPLETE)
    site.tell(0, UNKNOWN)
    site.tell(1, UNKNOWN)
    site.wait()
    assert [type(command) for command, _ in site.sent] == [CheckpointAttempt, CompleteAttempt] * 2
