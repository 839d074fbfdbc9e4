"""Who is there: silence is measured from consuming the last heartbeat, and only as far as the lanes were read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core.messages import SessionState, SlotOffer, WorkerHeartbeat
from ftjm.engine import liveness as liveness_module
from ftjm.engine.liveness import CONFIRM_EVERY_MS, FORGET_MS, STALL_MS, Liveness, plausible
from ftjm.engine.partition import Lapse
from tests.engine.world import QUEUE, World, offer

LEASE_MS = 5_000


def heartbeat(session: str = "s1", slots: int = 2, number: int = 1, **fields: Any) -> WorkerHeartbeat:
    return WorkerHeartbeat(
        **{
            "session": session,
            "worker": "w",
            "host": "h",
            "pid": 1,
            "state": SessionState.OPEN,
            "lane": 3,
            "lease_ms": LEASE_MS,
            "slots": slots,
            "busy": 0,
            "queues": [QUEUE],
            "offers": [SlotOffer(partition=0, number=number, slots=slots)],
            **fields,
        }
    )


@pytest.fixture
def world() -> World:
    """One job runs on session s1."""
    world = World()
    world.submit("a")
    world.work(offers=[offer("s1")])
    return world


def listening(now: int = 0) -> Liveness:
    """Ticks go on by themselves, so that there is no stall but where a test makes one."""
    liveness = Liveness(now)
    liveness.tick(now)
    return liveness


def run(liveness: Liveness, until: int) -> None:
    """The process runs without a pause, and has read the lanes to their ends all the time."""
    at = liveness._ticked
    while at < until:
        at = min(until, at + STALL_MS)
        liveness.tick(at)
    liveness.confirm(until)


def test_an_open_session_that_was_heard_lately_offers_its_slots():
    liveness = listening()
    liveness.heard(heartbeat(slots=2, number=7), 100)
    (found,) = liveness.offers(0, 200)
    assert (found.session, found.worker, found.lane, found.lease_ms) == ("s1", "w", 3, LEASE_MS)
    assert (found.queues, found.number, found.slots) == ((QUEUE,), 7, 2)
    assert liveness.offers(1, 200) == [], "each offer is one partition's"
    assert liveness.taken(0, 200) == {"s1": 7}
    assert liveness.taken(1, 200) == {}


def test_a_session_that_was_silent_for_part_of_its_lease_gets_no_new_work():
    liveness = listening()
    liveness.heard(heartbeat(), 0)
    assert liveness.offers(0, 3_000)
    assert not liveness.offers(0, 3_001)
    assert liveness.taken(0, LEASE_MS)
    assert not liveness.taken(0, LEASE_MS + 1)


@pytest.mark.parametrize("state", [SessionState.DRAINING, SessionState.CLOSED])
def test_a_session_that_leaves_offers_nothing(state):
    liveness = listening()
    liveness.heard(heartbeat(state=state), 0)
    assert not liveness.offers(0, 0)


def test_only_what_changes_the_offers_counts_as_a_change():
    liveness = listening()
    changes = []
    for beat in (
        heartbeat(),
        heartbeat(busy=1),
        heartbeat(slots=1),
        heartbeat(slots=1, queues=["x"]),
        heartbeat(slots=1, queues=["x"], state=SessionState.DRAINING),
    ):
        before = liveness.changed
        liveness.heard(beat, 0)
        changes.append(liveness.changed - before)
    assert changes == [1, 0, 1, 1, 1]


def test_a_session_lapses_at_its_lease_and_not_before(world):
    liveness = listening()
    liveness.heard(heartbeat(), 1_000)
    run(liveness, 5_999)
    assert liveness.lapses(world.owner.state, 0) == []
    run(liveness, 6_000)
    assert liveness.lapses(world.owner.state, 0) == [Lapse("s1", LEASE_MS)]


def test_silence_counts_only_as_far_as_the_lanes_were_read(world):
    liveness = listening()
    liveness.heard(heartbeat(), 0)
    run(liveness, 4_000)
    for at in range(4_000, 9_000, STALL_MS):
        liveness.tick(at)
    assert liveness.lapses(world.owner.state, 0) == [], "a heartbeat may be waiting there"
    liveness.heard(heartbeat(), 8_500)
    liveness.confirm(9_000)
    assert liveness.lapses(world.owner.state, 0) == []


def test_what_was_confirmed_later_is_not_taken_back(world):
    liveness = listening()
    run(liveness, LEASE_MS)
    liveness.confirm(1)
    assert liveness.lapses(world.owner.state, 0) == [Lapse("s1", LEASE_MS)]


def test_a_new_owner_waits_a_whole_lease(world):
    liveness = listening()
    run(liveness, 20_000)
    assert liveness.lapses(world.owner.state, since=16_000) == []
    run(liveness, 21_000)
    assert liveness.lapses(world.owner.state, since=16_000) == [Lapse("s1", LEASE_MS)]


def test_after_a_stall_of_our_own_all_silences_start_again(world):
    liveness = listening()
    liveness.heard(heartbeat(), 0)
    run(liveness, 4_000)
    liveness.tick(4_000 + STALL_MS + 1)
    run(liveness, 9_000)
    assert liveness.lapses(world.owner.state, 0) == []
    run(liveness, 4_000 + STALL_MS + 1 + LEASE_MS)
    assert liveness.lapses(world.owner.state, 0) == [Lapse("s1", LEASE_MS)]


def test_a_session_that_closed_is_not_told_of_while_it_holds_something_nor_twice(world):
    state = world.owner.state
    liveness = listening()
    liveness.heard(heartbeat(state=SessionState.CLOSED), 0)
    assert liveness.lapses(state, 0) == [], "its report of the attempt is on the way"
    world.work(lapses=[Lapse("s1", 0, closed=True)])
    assert liveness.lapses(state, 0) == [], "it is given up already"


def test_a_session_that_closed_after_its_last_attempt_is_given_up_at_once(world):
    row = world.owner.state.session("s1")
    assert row is not None
    row.live = 0
    world.owner.state.save_session("s1", row)
    changes, _ = world.owner.state.seal()
    world.owner.store.write(changes)
    liveness = listening()
    liveness.heard(heartbeat(state=SessionState.CLOSED), 0)
    assert liveness.lapses(world.owner.state, 0) == [Lapse("s1", 0, closed=True)]


def test_an_attempt_that_may_continue_is_told_of_again_when_its_time_is_over():
    world = World()
    world.submit("a", continue_for_ms=10_000)
    world.work(offers=[offer("s1")])
    liveness = listening()
    liveness.heard(heartbeat(), 0)
    run(liveness, LEASE_MS)
    world.work(lapses=liveness.lapses(world.owner.state, 0))
    assert world.job("a").session == "s1"
    assert liveness.lapses(world.owner.state, 0) == []
    run(liveness, LEASE_MS + 9_999)
    assert liveness.lapses(world.owner.state, 0) == []
    run(liveness, LEASE_MS + 10_000)
    world.work(lapses=liveness.lapses(world.owner.state, 0))
    assert world.job("a").session == ""
    world.check()


def test_the_lanes_are_read_to_their_ends_when_a_lease_has_run_out_since():
    liveness = listening()
    liveness.heard(heartbeat(lease_ms=1_000), 0)
    liveness.confirm(900)
    assert not liveness.suspects(999)
    assert liveness.suspects(1_000)
    liveness.confirm(1_000)
    assert not liveness.suspects(1_001)
    assert liveness.suspects(1_000 + CONFIRM_EVERY_MS), "for sessions that were never heard"


def test_sessions_that_are_long_gone_are_forgotten(monkeypatch):
    monkeypatch.setattr(liveness_module, "SESSIONS_MAX", 2)
    liveness = listening()
    for i in range(4):
        liveness.heard(heartbeat(f"s{i}"), 0)
    liveness.heard(heartbeat("new"), FORGET_MS)
    assert [found.session for found in liveness.offers(0, FORGET_MS)] == ["new"]
    assert set(liveness._heard) == {"new"}


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
    ],
    ids=str,
)
def test_a_heartbeat_that_no_worker_of_ours_would_send_is_passed_over(fields):
    assert plausible(heartbeat())
    assert not plausible(msgspec.structs.replace(heartbeat(), **fields))
