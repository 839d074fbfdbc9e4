"""Silence is known once the marks of all lanes were read back, and as of when they were sent."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm import config
from ftjm.adapters import codec
from ftjm.core.messages import SessionState, SlotOffer, TakeSnapshot, WorkerHeartbeat
from ftjm.engine.liveness import Liveness
from ftjm.scheduler import heartbeats as module
from ftjm.scheduler.heartbeats import MARK, MARK_SECONDS, Heartbeats

LANES = 2


class Reader:
    """One that has read so far."""

    def __init__(self, *_: Any, whole: bool, **__: Any) -> None:
        self.whole = whole
        self.read_to = dict.fromkeys(range(LANES), 0)

    def reached(self, ends: Mapping[int, int]) -> bool:
        return all(self.read_to[lane] >= end for lane, end in ends.items())


class Delivered:
    """A mark at an offset of its lane."""

    def __init__(self, lane: int, offset: int, time_ms: int = 0) -> None:
        self.timestamp = lambda: (1, time_ms)
        self.partition = lambda: lane
        self.offset = lambda: offset


class Site:
    """Heartbeats whose outlet, reader and clocks are the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ms = 10_000
        self.sent: list[tuple[int, bytes, Any]] = []
        self.confirmed: list[tuple[str, float]] = []
        self.broken = False
        monkeypatch.setattr(module, "LaneReader", Reader)
        monkeypatch.setattr(module, "boot_ms", lambda: self.ms)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.ms / 1_000))
        confirmed = self.confirmed

        class Noting(Liveness):
            def confirm(self, now: int) -> None:
                confirmed.append(("workers", now))
                super().confirm(now)

        context: Any = SimpleNamespace(
            settings=config.load(bootstrap="127.0.0.1:1"),
            instance="here@host:1",
            clock=SimpleNamespace(error_ms=0),
            wishes={},
            liveness=Noting(0),
            outlet=SimpleNamespace(warm=lambda _: LANES, send=self._send),
        )
        peers: Any = SimpleNamespace(confirm=lambda at: self.confirmed.append(("peers", at)))
        nothing: Any = None
        self.heartbeats = Heartbeats(context, {}, peers, nothing, 0, lambda: False)
        self.context = context
        self.reader: Any = self.heartbeats._reader

    def _send(self, _topic: str, value: bytes, *, partition: int, delivered: Any) -> None:
        if self.broken:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        self.sent.append((partition, value, delivered))

    def look(self, after_ms: int = 0) -> None:
        self.ms += after_ms
        self.heartbeats._confirm()

    def acknowledge(self, mark: int, offset: int, time_ms: int = 0) -> None:
        lane, _, delivered = self.sent[mark]
        delivered(None, Delivered(lane, offset, time_ms))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_each_lane_gets_a_mark_and_no_second_one_meanwhile(site: Site) -> None:
    for _ in range(3):
        site.look(5_000)
    assert [(lane, value) for lane, value, _ in site.sent] == [(0, MARK), (1, MARK)]
    assert site.reader.whole, "what a lane still has is not passed over: a heartbeat may be there"


def test_silence_is_known_as_of_the_sending_once_all_were_read(site: Site) -> None:
    site.look()
    site.acknowledge(0, 40)
    site.reader.read_to = {0: 41, 1: 99}
    site.look(300)
    assert site.confirmed == [], "a lane whose mark the log does not have yet"
    site.acknowledge(1, 100)
    site.look(300)
    assert site.confirmed == [], "a mark that was not read yet"
    site.reader.read_to[1] = 101
    site.look(300)
    assert site.confirmed == [("workers", 10_000), ("peers", 10.0)]
    assert len(site.sent) == LANES


def test_marks_that_are_not_read_in_time_are_followed_by_others(site: Site) -> None:
    site.look()
    for lane in range(LANES):
        site.acknowledge(lane, 10)
    site.look()
    site.look(int(MARK_SECONDS * 1_000) + 1)
    assert len(site.sent) == 2 * LANES
    for lane in range(LANES):
        site.acknowledge(LANES + lane, 20)
    site.reader.read_to = dict.fromkeys(range(LANES), 15)
    site.look()
    assert site.confirmed == [], "the first marks are nobody's any more"
    site.reader.read_to = dict.fromkeys(range(LANES), 21)
    site.look()
    assert [at for _, at in site.confirmed] == [11_001, 11.001]


def test_marks_of_which_one_is_refused_are_followed_by_others(site: Site) -> None:
    site.look()
    site.acknowledge(0, 10)
    site.sent[1][2](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), Delivered(1, 0))
    site.reader.read_to = dict.fromkeys(range(LANES), 99)
    site.look()
    assert site.confirmed == []
    assert len(site.sent) == 2 * LANES


def test_marks_that_could_not_be_sent_are_followed_by_others(site: Site) -> None:
    """Nobody's lease would ever end."""
    site.broken = True
    with pytest.raises(KafkaException):
        site.look()
    site.broken = False
    site.look()
    assert len(site.sent) == LANES


class Said:
    """A heartbeat as the log took it."""

    def __init__(self, heartbeat: WorkerHeartbeat | TakeSnapshot, at_ms: int) -> None:
        self.value = lambda: codec.encode(heartbeat)
        self.timestamp = lambda: (1, at_ms)
        self.partition = lambda: 0


@pytest.mark.parametrize(("age_ms", "heard"), [(0, True), (60_000, True), (66_000, False), (3_000_000, False)])
@pytest.mark.parametrize("skew_ms", [0, -500_000, 500_000])
def test_what_was_said_long_ago_is_not_heard(site: Site, age_ms: int, heard: bool, skew_ms: int) -> None:
    """A lane that is read from its beginning has an hour of it, of sessions that are gone. Whatever the clock of who
    leads it says: by a wrong one living workers would be silent."""
    site.look()
    site.acknowledge(0, 1, 10_000_000 + skew_ms)
    site.ms += 1_000
    beat = WorkerHeartbeat(
        session="s1",
        worker="w",
        host="h",
        pid=1,
        state=SessionState.OPEN,
        lane=0,
        lease_ms=5_000,
        slots=1,
        busy=0,
        queues=["q"],
        offers=[SlotOffer(partition=0, number=1, slots=1)],
    )
    wish = TakeSnapshot(partitions=[0], full=True)
    site.heartbeats._hear([Said(said, 10_001_000 + skew_ms - age_ms) for said in (beat, wish)])  # type: ignore[misc]
    assert bool(site.context.liveness.offers(0, site.ms)) is heard
    assert bool(site.context.wishes) is (age_ms < 60_000)


def test_before_its_lane_s_clock_is_known_nothing_is_old(site: Site) -> None:
    site.heartbeats._hear([Said(TakeSnapshot(partitions=[0]), 1)])  # type: ignore[list-item]
    assert site.context.wishes == {0: False}
