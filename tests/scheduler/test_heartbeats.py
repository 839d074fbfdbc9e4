"""Silence is known once the marks of all lanes were read back, and as of when they were sent."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogRefused, LogUnanswered
from ftjm.adapters.records import Receipt, Record
from ftjm.core.records.levels import LEVEL
from ftjm.core.records.messages import MemberVersion, SessionState, SlotOffer, TakeSnapshot, WorkerHeartbeat
from ftjm.core.state.model import Finalized
from ftjm.engine.liveness import CONFIRM_EVERY_MS, CONFIRM_SELDOM_MS, Liveness
from ftjm.engine.member_versions import ANNOUNCE_MS, MemberVersions
from ftjm.runtime import config
from ftjm.scheduler import heartbeats as module
from ftjm.scheduler import lane_marks
from ftjm.scheduler.heartbeats import MARKS_SECONDS, PLACE_SECONDS, Heartbeats
from ftjm.scheduler.lane_marks import MARK, MARK_SECONDS

LANES = 2


class Reader:
    """One that has read so far."""

    def __init__(self, *_: Any, whole: bool, **__: Any) -> None:
        self.whole = whole
        self.read_to = dict.fromkeys(range(LANES), 0)

    def reached(self, ends: Mapping[int, int]) -> bool:
        return all(self.read_to[lane] >= end for lane, end in ends.items())


class Site:
    """Heartbeats whose producer, reader and clocks are the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ms = 10_000
        self.woken: list[int] = []
        self.sent: list[tuple[int, bytes, Any]] = []
        self.announced: list[str] = []
        self.confirmed: list[tuple[str, float]] = []
        self.broken = self.passive = False
        monkeypatch.setattr(module, "LaneReader", Reader)
        for patched in (module, lane_marks):
            monkeypatch.setattr(patched, "boot_ms", lambda: self.ms)
            monkeypatch.setattr(patched, "time", SimpleNamespace(monotonic=lambda: self.ms / 1_000))
        confirmed = self.confirmed

        class Noting(Liveness):
            def confirm(self, now: int) -> bool:
                confirmed.append(("workers", now))
                return super().confirm(now)

        context: Any = SimpleNamespace(
            settings=config.load(bootstrap="127.0.0.1:1"),
            instance="here@host:1",
            clock=SimpleNamespace(error_ms=0),
            snapshot_requests={},
            lanes=LANES,
            liveness=Noting(0),
            members=MemberVersions(0),
            finalize_requests={},
            finalized={3: Finalized(level=LEVEL, state_version=1)},
            heartbeat_due=threading.Event(),
            producer=SimpleNamespace(warm=lambda _: LANES, send_for_receipt=self._send, send=self._announced),
        )
        peers: Any = SimpleNamespace(confirm=lambda at: self.confirmed.append(("peers", at)))
        nothing: Any = None
        runner: Any = SimpleNamespace(wake=lambda: self.woken.append(self.ms))
        self.heartbeats = Heartbeats(context, {0: runner}, peers, nothing, 0, lambda: self.passive)
        self.context = context
        self.reader: Any = self.heartbeats._reader

    def _send(self, _topic: str, value: bytes, *, partition: int, received: Any) -> None:
        if self.broken:
            raise LogUnanswered("no connection")
        self.sent.append((partition, value, received))

    def _announced(self, _topic: str, value: bytes, **_: Any) -> None:
        self.announced.append(codec.decode(value).role)

    def confirm_silence(self, after_ms: int = 0) -> None:
        self.ms += after_ms
        self.heartbeats._confirm_silence()

    def acknowledge(self, mark: int, offset: int, time_ms: int = 0) -> None:
        lane, _, received = self.sent[mark]
        received(Receipt(lane, offset, time_ms, 0.0))

    def read_marks(self) -> None:
        """Send marks, and let the log have them and the reader read them."""
        self.confirm_silence()
        for mark in range(LANES):
            self.acknowledge(mark - LANES, 40)
        self.reader.read_to = dict.fromkeys(range(LANES), 41)
        self.confirm_silence()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


def test_each_lane_gets_a_mark_and_no_second_one_meanwhile(site: Site) -> None:
    for _ in range(3):
        site.confirm_silence(5_000)
    assert [(lane, value) for lane, value, _ in site.sent] == [(0, MARK), (1, MARK)]
    assert site.reader.whole, "what a lane still has is not passed over: a heartbeat may be there"


def test_silence_is_known_as_of_the_sending_once_all_were_read(site: Site) -> None:
    site.confirm_silence()
    site.acknowledge(0, 40)
    site.reader.read_to = {0: 41, 1: 99}
    site.confirm_silence(300)
    assert site.confirmed == [], "a lane whose mark the log does not have yet"
    site.acknowledge(1, 100)
    site.confirm_silence(300)
    assert site.confirmed == [], "a mark that was not read yet"
    site.reader.read_to[1] = 101
    site.confirm_silence(300)
    assert site.confirmed == [("workers", 10_000), ("peers", 10.0)]
    assert len(site.sent) == LANES


def test_a_lapse_wakes_the_partitions_and_nothing_else_does(site: Site) -> None:
    site.context.liveness.receive(beat(lease_ms=1_500), site.ms)
    for passed in range(4):
        site.confirm_silence(600)
        for mark in range(len(site.sent) - LANES, len(site.sent)):
            site.acknowledge(mark, 40 + passed)
        site.reader.read_to = dict.fromkeys(range(LANES), 100)
        site.confirm_silence()
    assert site.woken == [11_800], "its lease ended at 11,500"


def test_the_reader_sleeps_until_something_is_due(site: Site) -> None:
    assert site.heartbeats._seconds_until_due(site.ms / 1_000) == MARKS_SECONDS, "no mark was ever sent"
    site.read_marks()
    assert site.heartbeats._seconds_until_due(site.ms / 1_000) == PLACE_SECONDS
    assert site.heartbeats._seconds_until_due(site.ms / 1_000 - 0.15) == pytest.approx(PLACE_SECONDS - 0.15)
    site.context.liveness.receive(beat(lease_ms=100), site.ms)
    assert site.heartbeats._seconds_until_due(site.ms / 1_000) == 0.1
    site.confirm_silence(5_000)
    assert site.heartbeats._seconds_until_due(site.ms / 1_000) == MARKS_SECONDS, "marks are under way"


def test_marks_are_sent_while_something_may_be_silent_and_seldom_else(site: Site) -> None:
    """All processes read each mark. A passive standby has to know whether it is alone."""
    site.read_marks()
    site.confirm_silence(CONFIRM_EVERY_MS)
    assert len(site.sent) == LANES
    site.passive = True
    site.confirm_silence()
    assert len(site.sent) == 2 * LANES
    site.passive = False
    site.read_marks()
    site.confirm_silence(CONFIRM_SELDOM_MS - 1)
    assert len(site.sent) == 2 * LANES
    site.confirm_silence(1)
    assert len(site.sent) == 3 * LANES


def test_marks_that_are_not_read_in_time_are_followed_by_others(site: Site) -> None:
    site.confirm_silence()
    for lane in range(LANES):
        site.acknowledge(lane, 10)
    site.confirm_silence()
    site.confirm_silence(int(MARK_SECONDS * 1_000) + 1)
    assert len(site.sent) == 2 * LANES
    for lane in range(LANES):
        site.acknowledge(LANES + lane, 20)
    site.reader.read_to = dict.fromkeys(range(LANES), 15)
    site.confirm_silence()
    assert site.confirmed == [], "the first marks are nobody's any more"
    site.reader.read_to = dict.fromkeys(range(LANES), 21)
    site.confirm_silence()
    assert [at for _, at in site.confirmed] == [11_001, 11.001]


def test_marks_of_which_one_is_refused_are_followed_by_others(site: Site) -> None:
    site.confirm_silence()
    site.acknowledge(0, 10)
    site.sent[1][2](LogRefused("Topic authorization failed"))
    site.reader.read_to = dict.fromkeys(range(LANES), 99)
    site.confirm_silence()
    assert site.confirmed == []
    assert len(site.sent) == 2 * LANES


def test_marks_that_could_not_be_sent_are_followed_by_others(site: Site) -> None:
    """Nobody's lease would ever end."""
    site.broken = True
    with pytest.raises(LogUnanswered):
        site.confirm_silence()
    site.broken = False
    site.confirm_silence()
    assert len(site.sent) == LANES


def beat(lease_ms: int, *offers: SlotOffer) -> WorkerHeartbeat:
    return WorkerHeartbeat(
        session="s1",
        worker="w",
        host="h",
        pid=1,
        state=SessionState.OPEN,
        lane=0,
        lease_ms=lease_ms,
        slots=1,
        busy=0,
        queues=["default"],
        offers=list(offers),
    )


def record(heartbeat: WorkerHeartbeat | TakeSnapshot | MemberVersion, at_ms: int) -> Record:
    return Record(0, 0, b"", codec.encode(heartbeat), at_ms, [])


@pytest.mark.parametrize(("age_ms", "heard"), [(0, True), (60_000, True), (66_000, False), (3_000_000, False)])
@pytest.mark.parametrize("skew_ms", [0, -500_000, 500_000])
def test_what_was_said_long_ago_is_not_heard(site: Site, age_ms: int, heard: bool, skew_ms: int) -> None:
    """A lane that is read from its beginning has an hour of it, of sessions that are gone. Whatever the clock of who
    leads it says: by a wrong one living workers would be silent."""
    site.confirm_silence()
    site.acknowledge(0, 1, 10_000_000 + skew_ms)
    site.ms += 1_000
    request = TakeSnapshot(partitions=[0], full=True)
    messages: list[WorkerHeartbeat | TakeSnapshot] = [beat(5_000, SlotOffer(partition=0, number=1, slots=1)), request]
    site.heartbeats._receive([record(message, 10_001_000 + skew_ms - age_ms) for message in messages])
    assert bool(site.context.liveness.offers(0, site.ms)) is heard
    assert bool(site.context.snapshot_requests) is (age_ms < 60_000)


def test_before_its_lane_s_clock_is_known_nothing_is_old(site: Site) -> None:
    site.heartbeats._receive([record(TakeSnapshot(partitions=[0]), 1)])
    assert site.context.snapshot_requests == {0: False}


@pytest.mark.parametrize(
    "fields",
    [
        {"session": "a/b"},
        {"session": ""},
        {"worker": "x" * 200},
        {"queues": ["q", "\0"]},
        {"lease_ms": 0},
        {"lease_ms": 2**40},
        {"lane": -1},
        {"lane": LANES},
        {"lane": 2**40},
        {"offers": [SlotOffer(partition=0, number=2**62, slots=1)]},
    ],
    ids=str,
)
def test_a_heartbeat_with_a_value_out_of_its_bounds_is_passed_over_and_the_reason_is_logged(
    site: Site, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, dict[str, Any]]] = []
    log = SimpleNamespace(warning=lambda event, **about: logged.append((event, about)))
    monkeypatch.setattr(module, "log", log)
    good = WorkerHeartbeat(
        session="s1", worker="w", host="h", pid=1, state=SessionState.OPEN, lane=LANES - 1, lease_ms=5_000, slots=1,
        busy=0, queues=["q"], offers=[SlotOffer(partition=0, number=1, slots=1)],
    )  # fmt: skip
    bad = msgspec.structs.replace(good, **fields)
    site.heartbeats._receive([Record(0, 0, b"s1", codec.encode(bad), 0, [])])
    assert site.context.liveness.offers(0, site.ms) == []
    assert not site.context.members.present(site.ms)
    ((event, reason),) = logged
    assert event == "heartbeat_refused"
    assert reason["error"].startswith(next(iter(fields)))
    site.heartbeats._receive([Record(0, 1, b"s1", codec.encode(good), 0, [])])
    assert [offer.session for offer in site.context.liveness.offers(0, site.ms)] == ["s1"]


def test_after_a_broker_s_clock_has_gone_back_its_time_is_asked_for_within_a_second(site: Site) -> None:
    """Else living workers would seem to be silent until the next mark."""
    living = beat(5_000, SlotOffer(partition=0, number=1, slots=1))
    site.confirm_silence()
    for mark in range(LANES):
        site.acknowledge(mark, 1, 10_000_000)
    site.reader.read_to = dict.fromkeys(range(LANES), 2)
    site.confirm_silence()
    site.heartbeats._receive([record(living, 9_000_000)])
    assert not site.context.liveness.offers(0, site.ms)
    site.confirm_silence(CONFIRM_EVERY_MS)
    for mark in range(LANES, 2 * LANES):
        site.acknowledge(mark, 3, 9_001_000)
    site.heartbeats._receive([record(living, 9_001_000)])
    assert site.context.liveness.offers(0, site.ms)


@pytest.mark.parametrize("time_ms", [9_994_000, 10_003_000])
def test_after_a_record_of_an_odd_age_marks_follow_within_a_second(site: Site, time_ms: int) -> None:
    """The clock of the lane's leader has gone back or forward, so that all ages in the lane are wrong."""
    site.confirm_silence()
    for mark in range(LANES):
        site.acknowledge(mark, 1, 10_000_000)
    site.reader.read_to = dict.fromkeys(range(LANES), 2)
    site.confirm_silence()
    site.confirm_silence(CONFIRM_EVERY_MS)
    assert len(site.sent) == LANES, "nothing seems wrong"
    site.heartbeats._receive([record(TakeSnapshot(partitions=[0]), time_ms)])
    site.confirm_silence(CONFIRM_EVERY_MS)
    assert len(site.sent) == 2 * LANES


def test_a_new_worker_is_told_at_once_what_is_final(site: Site) -> None:
    """It takes nothing ahead of its slots before it knows."""

    def version(member: str, role: str = "worker") -> Record:
        announced = MemberVersion(member=member, name=member, role=role, release="1", level=LEVEL, state_version=0)
        return record(announced, site.ms)

    def announce() -> int:
        """As the sender does at each heartbeat. Return how many announcements were sent so far."""
        site.heartbeats._announce_version(0, leaving=False)
        return len(site.announced)

    assert [announce(), announce()] == [1, 1]
    site.heartbeats._receive([version("s1")])
    assert site.context.heartbeat_due.is_set()
    assert [announce(), announce()] == [2, 2]
    site.heartbeats._receive([version("s1"), version("api", "api")])
    assert announce() == 2, "it is known, or takes no work"
    site.ms += ANNOUNCE_MS
    assert announce() == 3
