"""Who is there: silence is measured from consuming the last heartbeat, and only as far as the lanes were read."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records.messages import SessionState, SlotOffer, WorkerHeartbeat
from ftjm.engine import liveness as liveness_module
from ftjm.engine.batch import Lapse
from ftjm.engine.liveness import CONFIRM_EVERY_MS, CONFIRM_SELDOM_MS, FORGET_MS, SERVED_MS, STALL_MS, Liveness
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
    liveness.receive(heartbeat(slots=2, number=7), 100)
    (found,) = liveness.offers(0, 200)
    assert (found.session, found.worker, found.lane, found.lease_ms) == ("s1", "w", 3, LEASE_MS)
    assert (found.queues, found.number, found.slots) == ((QUEUE,), 7, 2)
    assert liveness.offers(1, 200) == [], "each offer is one partition's"
    assert liveness.taken(0, 200) == {"s1": 7}
    assert liveness.taken(1, 200) == {}


def test_a_session_that_was_silent_for_part_of_its_lease_gets_no_new_work():
    liveness = listening()
    liveness.receive(heartbeat(), 0)
    assert liveness.offers(0, 3_000)
    assert not liveness.offers(0, 3_001)
    assert liveness.taken(0, LEASE_MS)
    assert not liveness.taken(0, LEASE_MS + 1)


@pytest.mark.parametrize("state", [SessionState.DRAINING, SessionState.CLOSED])
def test_a_session_that_leaves_offers_nothing(state):
    liveness = listening()
    liveness.receive(heartbeat(state=state), 0)
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
        liveness.receive(beat, 0)
        changes.append(liveness.changed - before)
    assert changes == [1, 0, 1, 1, 1]


def test_a_session_lapses_at_its_lease_and_not_before(world):
    liveness = listening()
    liveness.receive(heartbeat(), 1_000)
    run(liveness, 5_999)
    assert liveness.lapses(world.owner.state, 0) == []
    run(liveness, 6_000)
    assert liveness.lapses(world.owner.state, 0) == [Lapse("s1", LEASE_MS)]


def test_silence_counts_only_as_far_as_the_lanes_were_read(world):
    liveness = listening()
    liveness.receive(heartbeat(), 0)
    run(liveness, 4_000)
    for at in range(4_000, 9_000, STALL_MS):
        liveness.tick(at)
    assert liveness.lapses(world.owner.state, 0) == [], "a heartbeat may be waiting there"
    liveness.receive(heartbeat(), 8_500)
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
    liveness.receive(heartbeat(), 0)
    run(liveness, 4_000)
    liveness.tick(4_000 + STALL_MS + 1)
    run(liveness, 9_000)
    assert liveness.lapses(world.owner.state, 0) == []
    run(liveness, 4_000 + STALL_MS + 1 + LEASE_MS)
    assert liveness.lapses(world.owner.state, 0) == [Lapse("s1", LEASE_MS)]


def test_a_session_that_closed_is_not_told_of_while_it_holds_something_nor_twice(world):
    state = world.owner.state
    liveness = listening()
    liveness.receive(heartbeat(state=SessionState.CLOSED), 0)
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
    liveness.receive(heartbeat(state=SessionState.CLOSED), 0)
    assert liveness.lapses(world.owner.state, 0) == [Lapse("s1", 0, closed=True)]


def test_an_attempt_that_may_continue_is_told_of_again_when_its_time_is_over():
    world = World()
    world.submit("a", continue_for_ms=10_000)
    world.work(offers=[offer("s1")])
    liveness = listening()
    liveness.receive(heartbeat(), 0)
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
    liveness.receive(heartbeat(lease_ms=1_000), 0)
    liveness.confirm(900)
    assert liveness.suspects_in_ms(999)
    assert not liveness.suspects_in_ms(1_000)
    liveness.confirm(1_000)
    assert liveness.suspects_in_ms(1_000 + CONFIRM_EVERY_MS)
    assert not liveness.suspects_in_ms(1_000 + CONFIRM_SELDOM_MS)


def test_they_are_read_every_second_while_a_session_was_never_heard():
    world, liveness = World(), listening()
    world.submit("a")
    world.work(offers=[offer("s1")])
    assert liveness.suspects_in_ms(CONFIRM_EVERY_MS)
    liveness.lapses(world.owner.state, 0)
    assert liveness.suspects_in_ms(CONFIRM_EVERY_MS - 1)
    assert not liveness.suspects_in_ms(CONFIRM_EVERY_MS)
    liveness.confirm(CONFIRM_EVERY_MS)
    liveness.receive(heartbeat(lease_ms=LEASE_MS), CONFIRM_EVERY_MS)
    liveness.lapses(world.owner.state, 0)
    assert liveness.suspects_in_ms(2 * CONFIRM_EVERY_MS)


def test_sessions_that_are_long_gone_are_forgotten(monkeypatch):
    monkeypatch.setattr(liveness_module, "SESSIONS_MAX", 2)
    liveness = listening()
    for i in range(4):
        liveness.receive(heartbeat(f"s{i}"), 0)
    liveness.receive(heartbeat("new"), FORGET_MS)
    assert [found.session for found in liveness.offers(0, FORGET_MS)] == ["new"]
    assert set(liveness._heard) == {"new"}


def test_a_session_that_holds_an_attempt_is_not_forgotten_however_many_others_there_are(monkeypatch):
    """Its attempt may go on for an hour. Without the last heartbeat, the silence would begin with the ownership."""
    monkeypatch.setattr(liveness_module, "SESSIONS_MAX", 2)
    world = World()
    world.submit("a", continue_for_ms=2 * FORGET_MS)
    world.work(offers=[offer("s1")])
    state, liveness = world.owner.state, listening()
    heard_at = 3 * FORGET_MS
    run(liveness, heard_at)
    liveness.receive(heartbeat(), heard_at)
    for at in range(heard_at + LEASE_MS, heard_at + LEASE_MS + 2 * FORGET_MS, 60_000):
        run(liveness, at)
        for i in range(3):
            liveness.receive(heartbeat(f"other{i}"), at)
        world.work(lapses=liveness.lapses(state, 0))
        assert world.job("a").session == "s1"
    run(liveness, heard_at + LEASE_MS + 2 * FORGET_MS)
    world.work(lapses=liveness.lapses(state, 0))
    assert world.job("a").session == ""


def test_a_session_with_a_long_lease_is_known_for_its_lease(monkeypatch):
    monkeypatch.setattr(liveness_module, "SESSIONS_MAX", 0)
    liveness = listening()
    liveness.receive(heartbeat(lease_ms=3 * FORGET_MS), 0)
    liveness.receive(heartbeat("s2"), FORGET_MS)
    assert [found.session for found in liveness.offers(0, FORGET_MS)] == ["s1", "s2"]


def test_a_confirmation_says_whether_partitions_should_look_for_lapsed_sessions():
    liveness = listening()
    liveness.receive(heartbeat(lease_ms=1_000), 0)
    assert not liveness.confirm(999)
    assert liveness.confirm(1_000)
    assert not liveness.confirm(2_000), "what has lapsed was looked for"
    liveness.receive(heartbeat(lease_ms=1_000), 2_100)
    assert not liveness.confirm(3_000)
    assert liveness.confirm(3_100)


@pytest.mark.parametrize("heard_at", [None, 50])
def test_partitions_look_after_each_confirmation_while_only_they_know_when_a_silence_ends(heard_at: int | None):
    """A new owner measures a silence from its takeover, and not from the last heartbeat."""
    world, liveness = World(), listening()
    world.submit("a")
    world.work(offers=[offer("s1")])
    if heard_at is not None:
        liveness.receive(heartbeat("s1", lease_ms=LEASE_MS), heard_at)
    assert not liveness.confirm(100)
    liveness.lapses(world.owner.state, 60)
    assert liveness.confirm(200)
    assert not liveness.confirm(300), "no partition has asked since"
    liveness.lapses(world.owner.state, 40)
    assert liveness.confirm(400) is (heard_at is None)


def test_it_is_known_when_a_lease_may_run_out_next():
    liveness = listening()
    assert liveness.suspects_in_ms(100) == CONFIRM_SELDOM_MS - 100
    assert liveness.suspects_in_ms(100, CONFIRM_EVERY_MS) == CONFIRM_EVERY_MS - 100
    liveness.receive(heartbeat(lease_ms=700), 100)
    assert liveness.suspects_in_ms(200) == 600
    assert liveness.suspects_in_ms(900) == 0
    liveness.confirm(900)
    assert liveness.suspects_in_ms(900) == CONFIRM_SELDOM_MS


def test_a_heartbeat_after_a_silence_is_a_change_of_what_is_offered():
    liveness = listening()
    liveness.receive(heartbeat(lease_ms=1_000), 0)
    before = liveness.changed
    liveness.receive(heartbeat(lease_ms=1_000), 600)
    assert liveness.changed == before
    liveness.receive(heartbeat(lease_ms=1_000), 1_201)
    assert liveness.changed == before + 1


def test_the_queues_that_workers_serve_are_known_within_a_second():
    liveness = Liveness(0)
    assert liveness.served(0) == frozenset()
    liveness.receive(heartbeat(), 10)
    liveness.receive(heartbeat("s2", queues=["other"], state=SessionState.DRAINING), 10)
    assert liveness.served(10) == frozenset(), "it was asked a moment ago"
    assert liveness.served(SERVED_MS) == {QUEUE}
    assert liveness.served(LEASE_MS + SERVED_MS) == frozenset()
