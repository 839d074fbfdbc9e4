"""A worker's report is sent until the log has it. A checkpoint is not sent again if there is a newer one."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError, LogRefused, TopicUnknown
from ftjm.adapters.records import Receipt
from ftjm.core.records.commands import AttemptReport, CheckpointAttempt, CompleteAttempt
from ftjm.core.records.messages import SessionState, WorkerHeartbeat
from ftjm.worker import log_link as module
from ftjm.worker.inbox import HeartbeatAcknowledged, Inbox, ReportConfirmed
from ftjm.worker.log_link import LogLink, Topics

UNKNOWN = TopicUnknown("Unknown partition")
TOO_LARGE = LogRefused("Message size too large")
COMPLETE = CompleteAttempt(queue="q", job_id="j", run=1, attempt=1, session="s", started_at=1, ended_at=2)

HEARTBEAT = WorkerHeartbeat(
    session="s", worker="w", host="h", pid=1, state=SessionState.OPEN, lane=0, lease_ms=5_000, slots=1, busy=0,
    queues=["q"], offers=[],
)  # fmt: skip


class Site:
    """A log link whose producer and timers the test controls."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, Any]] = []
        self.later: list[Any] = []
        self.confirmed: list[Any] = []
        topics, inbox, producer = Topics("t.{}".format, 1, 1), self, self
        self.wire = LogLink({}, topics, producer, inbox, 5.0)  # type: ignore[arg-type]

    fault = None

    def send(self, _topic: str, value: bytes, *, delivered: Any, **_: Any) -> None:
        self.sent.append((codec.decode(value), delivered))

    def send_for_receipt(self, _topic: str, value: bytes, *, received: Any, **_: Any) -> None:
        self.sent.append((codec.decode(value), received))

    def put(self, item: Any) -> None:
        self.confirmed.append(item)

    put_patiently = put

    def answer(self, number: int, error: LogError | None) -> None:
        self.sent[number][1](error)

    def wait(self) -> None:
        """Let the timers fire."""
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

    monkeypatch.setattr("ftjm.worker.log_link.threading.Timer", Timer)
    monkeypatch.setattr(module, "_Listener", Listener)
    made = Site()
    return made


def checkpoint(data: bytes) -> AttemptReport:
    return CheckpointAttempt(queue="q", job_id="j", run=1, attempt=1, session="s", data=data)


def test_a_report_is_sent_until_the_log_has_it(site: Site) -> None:
    site.wire.report("s", COMPLETE)
    for number, error in enumerate((UNKNOWN, TOO_LARGE)):
        site.answer(number, error)
        assert site.confirmed == []
        site.wait()
    site.answer(2, None)
    assert site.confirmed == [ReportConfirmed("s")]
    assert len(site.sent) == 3


def test_a_checkpoint_is_sent_again_if_the_topic_was_unknown(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    site.answer(0, UNKNOWN)
    site.wait()
    site.answer(1, None)
    assert [command.data for command, _ in site.sent] == [b"1", b"1"]
    assert site.confirmed == [ReportConfirmed("s")]


def test_a_checkpoint_that_is_refused_for_good_is_dropped(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    site.answer(0, TOO_LARGE)
    assert site.confirmed == [ReportConfirmed("s")]
    assert site.later == []


@pytest.mark.parametrize("failed_first", [True, False])
def test_a_checkpoint_is_not_sent_after_a_newer_one(site: Site, failed_first: bool) -> None:
    site.wire.report("s", checkpoint(b"1"))
    if failed_first:
        site.answer(0, UNKNOWN)
    site.wire.report("s", checkpoint(b"2"))
    if not failed_first:
        site.answer(0, UNKNOWN)
    site.wait()
    assert [command.data for command, _ in site.sent] == [b"1", b"2"]
    assert site.confirmed == [ReportConfirmed("s")]
    site.answer(1, None)
    assert site.confirmed == [ReportConfirmed("s")] * 2


def test_a_checkpoint_is_not_sent_after_a_newer_one_that_the_log_has(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    site.answer(0, UNKNOWN)
    site.wire.report("s", checkpoint(b"2"))
    site.answer(1, None)
    site.wait()
    assert [command.data for command, _ in site.sent] == [b"1", b"2"]
    assert site.confirmed == [ReportConfirmed("s")] * 2


def test_no_checkpoint_of_an_ended_attempt_is_kept(site: Site) -> None:
    site.wire.report("s", checkpoint(b"1"))
    assert len(site.wire._checkpoints) == 1
    site.wire.report("s", COMPLETE)
    site.answer(1, None)
    assert site.wire._checkpoints == {}


def test_the_last_checkpoint_is_sent_again_even_if_the_end_was_sent(site: Site) -> None:
    """The next attempt begins with this checkpoint."""
    site.wire.report("s", checkpoint(b"1"))
    site.wire.report("s", COMPLETE)
    site.answer(0, UNKNOWN)
    site.answer(1, UNKNOWN)
    site.wait()
    assert [type(command) for command, _ in site.sent] == [CheckpointAttempt, CompleteAttempt] * 2


class SilentLane:
    """A lane without records, and its reader. Kafka answers `delay_seconds` after it was asked, until `until`."""

    def __init__(self, delay_seconds: float, until: float) -> None:
        self.now = 1000.0
        self.began = self.now
        self.answered_at: float | None = None
        self._delay, self._until = delay_seconds, self.now + until
        self._asked_at: float | None = self.now

    def read(self, timeout_seconds: float) -> list[Any]:
        self.now += timeout_seconds
        if self._asked_at is not None and self._asked_at + self._delay <= self.now < self._until:
            self.answered_at = self._asked_at + self._delay
            self._asked_at = None
        return []

    def reassign(self) -> None:
        self._asked_at = self._asked_at or self.now

    def close(self) -> None:
        pass


@pytest.mark.parametrize("lease", [1.0, 5.0, 30.0])
@pytest.mark.parametrize("lasting", [True, False])
def test_a_silent_lane_is_readable_as_long_as_kafka_answers_within_a_lease(
    monkeypatch: pytest.MonkeyPatch, lease: float, lasting: bool
) -> None:
    lane = SilentLane(delay_seconds=0.3, until=1e9 if lasting else 60.0)
    monkeypatch.setattr(module, "LaneReader", lambda *_, **__: lane)
    monkeypatch.setattr("ftjm.worker.log_link.time.monotonic", lambda: lane.now)
    inbox = Inbox()
    listener = module._Dispatches({}, "t.dispatch", [0], lambda _: None, inbox)
    opened, unreadable = [], []

    def read(seconds: float) -> list[Any]:
        if lane.now - lane.began > 120:
            listener.stop()
        return SilentLane.read(lane, seconds)

    monkeypatch.setattr(lane, "read", read)
    listener.ready = lambda: opened.append(lane.now - lane.began)
    listener.unreadable = lambda: unreadable.append(lane.now - lane.began)
    listener.lease_seconds = lease
    listener.run()
    inbox.close()
    assert len(opened) == 1
    if lasting:
        assert unreadable == []
    else:
        assert len(unreadable) == 1
        assert lease + 58 <= unreadable[0] <= lease + 60.5


def test_an_acknowledged_heartbeat_tells_when_the_log_took_it(site: Site) -> None:
    site.wire.beat("s", 7, HEARTBEAT)
    site.wire.beat("s", 8, HEARTBEAT)
    answers = [answer for record, answer in site.sent if isinstance(record, WorkerHeartbeat)]
    answers[0](UNKNOWN)
    answers[1](Receipt(0, 3, 1_900_000_000_000, 0.1))
    assert site.confirmed == [HeartbeatAcknowledged("s", 8, 1_900_000_000_000)]


def test_a_heartbeat_of_a_broken_producer_is_passed_over_and_another_error_is_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TOO_LARGE

    monkeypatch.setattr(site, "send_for_receipt", refuse)
    with pytest.raises(LogRefused):
        site.wire.beat("s", 7, HEARTBEAT)
    monkeypatch.setattr(site, "fault", TOO_LARGE)
    site.wire.beat("s", 7, HEARTBEAT)
    assert site.confirmed == []
