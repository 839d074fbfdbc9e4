"""One batch: what it holds, where it ends, and what is left when it cannot be committed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import AHEAD_LEVEL
from ftjm.core.state.model import STATE_VERSION, Ahead, FailureReason, Finalized, JobSpec, JobState
from ftjm.engine import batch as batch_module
from ftjm.engine import partition as partition_module
from ftjm.engine.batch import DISPATCHES_MAX, Lapse
from ftjm.engine.partition import Diverged, Partition
from ftjm.engine.ports import Fenced
from tests.core.consistency import check_state, state_rows
from tests.engine.world import NOW, OTHER_QUEUE, QUEUE, Broken, World, offer

pytestmark = pytest.mark.usefixtures("first_level")


def batches(world: World) -> list[e.BatchClosed]:
    return [event for event in world.events() if isinstance(event, e.BatchClosed)]


def test_an_owner_begins_with_a_batch_that_says_so():
    world = World()
    assert world.work() == 0
    (closed,) = batches(world)
    assert (closed.batch_no, closed.owner_epoch, closed.owner, closed.events, closed.next_command) == (
        1,
        1,
        "owner",
        0,
        0,
    )
    world.work()
    assert len(batches(world)) == 1, "nothing is written where there is nothing to say"


def test_the_position_is_in_the_log_and_in_the_store():
    world = World()
    world.submit("a")
    world.submit("b")
    assert world.work() == 2
    (closed,) = batches(world)
    position = world.owner.position
    assert (closed.next_command, closed.events, closed.now) == (2, 2, NOW)
    assert (position.next_command, position.applied_offset, position.batch_no) == (2, 2, 1)
    assert Partition(world.policy, world.owner.store, codec, "").position == position
    world.check()


def test_every_event_says_when_and_why_and_whose_wish_it_was():
    world = World()
    offset = world.send(c.SubmitJob(queue=QUEUE, job_id="a", spec=JobSpec(command=["true"]), actor="ann"), "0/client/1")
    world.work(offers=[offer(number=9)])
    submitted, dispatched = world.events()[:2]
    assert isinstance(submitted, e.JobSubmitted)
    assert isinstance(dispatched, e.AttemptDispatched)
    assert (submitted.at, submitted.cause, submitted.cause_ref) == (NOW, e.Cause.COMMAND, str(offset))
    assert (submitted.actor, submitted.reply) == ("ann", "0/client/1")
    assert (dispatched.at, dispatched.cause, dispatched.cause_ref, dispatched.actor) == (NOW, e.Cause.OFFER, "s1/9", "")


@pytest.mark.parametrize("ahead", [0, 5])
def test_a_session_that_sends_back_what_was_ahead_of_its_slots_goes_on_getting_work(ahead):
    world = World()
    world.submit("a")
    world.owner.state.save_finalized(Finalized(AHEAD_LEVEL, STATE_VERSION))
    world.work(offers=[offer(slots=0 if ahead else 1, ahead=ahead)])
    job = world.owner.state.job(f"{QUEUE}/a")
    assert job is not None
    assert job.ahead is (Ahead.UNSTARTED if ahead else Ahead.NO)
    world.send(c.DeclineAttempt(queue=QUEUE, job_id="a", run=1, attempt=1, session="s1"))
    world.work(offers=[offer()])
    assert world.last.declined == (frozenset() if ahead else {"s1"})
    assert job.state is (JobState.DISPATCHED if ahead else JobState.READY)


def test_only_the_first_event_of_a_command_answers_it():
    world = World()
    world.submit("a")
    world.work(offers=[offer()])
    failed = c.FailAttempt(
        queue=QUEUE,
        job_id="a",
        run=1,
        attempt=1,
        session="s1",
        started_at=0,
        ended_at=0,
        reason=FailureReason.EXIT_CODE,
    )
    offset = world.send(failed, "0/client/1")
    world.work()
    assert [(type(event), event.reply) for event in world.of(offset)] == [
        (e.AttemptFailed, "0/client/1"),
        (e.JobFailed, ""),
    ]


def test_time_never_goes_back():
    world = World()
    world.submit("a")
    world.work()
    world.now = NOW - 60_000
    world.submit("b")
    world.work()
    assert world.job("b").submitted_at == NOW
    world.check()


def test_time_comes_before_commands():
    """A job whose deadline has passed has failed when the command that would have held it is judged."""
    world = World()
    world.submit("a", deadline_ms=500)
    world.work()
    world.now += 500
    offset = world.send(c.HoldJob(queue=QUEUE, job_id="a"))
    world.work()
    (answer,) = world.of(offset)
    assert isinstance(answer, e.CommandRejected)
    assert answer.code == "WRONG_STATE"


def test_a_full_batch_leaves_the_rest_to_the_next(monkeypatch):
    world = World()
    for i in range(20):
        world.submit(f"j{i}")
    monkeypatch.setattr(batch_module, "BATCH_ROWS_MAX", 10)
    first = world.work()
    assert 0 < first < 20
    world.work_all()
    assert sum(closed.events for closed in batches(world)) == 20
    world.check()


@pytest.mark.parametrize("limit", [{"BATCH_ROWS_MAX": 4}, {"BATCH_BYTES_MAX": 1}, {"BATCH_ROWS_MAX": 40}], ids=str)
def test_small_batches_lead_where_large_ones_do(monkeypatch, limit):
    def played(limits: dict[str, int]) -> World:
        world = World()
        with monkeypatch.context() as patch:
            for name, value in limits.items():
                patch.setattr(batch_module, name, value)
            for i in range(30):
                world.submit(f"j{i}", priority=i % 3, delay_ms=1_000 * (i % 2), reply_to="0/client/1", awaits=True)
            for i in range(0, 30, 3):
                world.send(c.CancelJob(queue=QUEUE, job_id=f"j{i}"), "0/client/2")
            world.submit("elsewhere", queue=OTHER_QUEUE)
            world.work_all()
            world.now += 1_000
            while list(world.owner.state.due(world.now)):
                world.work()
        world.check()
        return world

    small, large = played(limit), played({})
    assert len(batches(small)) >= len(batches(large))
    assert state_rows(small.owner.store) == state_rows(large.owner.store)


def test_many_timers_at_once_are_spread_over_batches(monkeypatch):
    monkeypatch.setattr(batch_module, "TIMERS_MAX", 5)
    world = World()
    for i in range(12):
        world.submit(f"j{i}", delay_ms=5)
    world.work_all()
    world.now += 5
    world.work()
    assert 0 < len(list(world.owner.state.due(world.now))) < 12
    while list(world.owner.state.due(world.now)):
        world.work()
    assert len(list(world.owner.state.ready(QUEUE))) == 12
    world.check()


def test_a_job_that_is_submitted_after_its_deadline_fails_without_being_started():
    world = World()
    world.submit("late", deadline_at=NOW)
    world.submit("timely", deadline_at=NOW + 1)
    world.work(offers=[offer(slots=9)])
    assert [event.job_id for event in world.last.events if isinstance(event, e.AttemptDispatched)] == ["timely"]
    world.work(offers=[offer(slots=9)])
    (failed,) = world.last.events
    assert isinstance(failed, e.JobFailed)
    assert (failed.job_id, failed.reason) == ("late", "DEADLINE")
    world.check()


def test_a_deadline_whose_timer_is_late_is_kept_all_the_same(monkeypatch):
    world = World()
    for i in range(12):
        world.submit(f"j{i}", deadline_ms=5)
    world.work_all()
    world.now += 5
    monkeypatch.setattr(batch_module, "BATCH_ROWS_MAX", 8)
    monkeypatch.setattr(batch_module.Batch, "full", False)
    while list(world.owner.state.due(world.now)):
        world.work(offers=[offer(slots=9)])
        assert {type(event) for event in world.last.events} == {e.JobFailed}
    world.check()


def test_a_timer_that_an_earlier_one_of_the_batch_has_cleared_does_not_fire():
    world = World()
    world.submit("a", delay_ms=20, deadline_ms=10)
    world.work()
    world.now += 20
    world.work()
    assert [type(event) for event in world.events()][-2:] == [e.JobFailed, e.BatchClosed]
    world.check()


def test_no_dispatch_joins_a_batch_that_is_full(monkeypatch):
    monkeypatch.setattr(batch_module, "BATCH_ROWS_MAX", 1)
    world = World()
    world.submit("a")
    world.work(offers=[offer()])
    assert world.job("a").state is JobState.READY
    world.work(offers=[offer()])
    assert world.job("a").state is JobState.DISPATCHED


def test_the_outbox_moves_on_with_a_batch_or_when_it_is_far_ahead():
    world = World()
    world.submit("a", reply_to="0/client/1")
    world.work()
    world.work(outbox_sent=1)
    assert world.owner.position.outbox_sent == 0, "not worth a transaction of its own"
    world.submit("b", reply_to="0/client/1")
    world.work(outbox_sent=1)
    assert world.owner.position.outbox_sent == 1
    world.owner.settle(world.now, 1)
    written = len(batches(world))
    world.owner.settle(world.now, 2)
    assert world.owner.position.outbox_sent == 2
    assert len(batches(world)) == written + 1
    assert list(world.owner.state.outbox(0)) == []
    world.check()


def test_the_outbox_moves_on_by_itself_after_many(monkeypatch):
    monkeypatch.setattr(partition_module, "DISPATCHES_MAX", 2)
    world = World()
    for name in "ab":
        world.submit(name, reply_to="0/client/1")
    world.work()
    world.work(outbox_sent=2)
    assert world.owner.position.outbox_sent == 2
    assert DISPATCHES_MAX > 2


def test_what_is_committed_is_what_is_to_be_shipped():
    world = World()
    world.submit("a", reply_to="0/client/1")
    world.work(offers=[offer()])
    assert [number for number, _ in world.last.messages] == [1, 2]
    assert [message for _, message in world.last.messages] == [message for _, message in world.owner.state.outbox(0)]


@pytest.mark.parametrize("breaks", ["before", "after"])
def test_a_batch_that_could_not_be_committed_leaves_nothing(breaks):
    world = World()
    world.submit("a")
    world.work()
    before = world.rows()
    world.submit("b", reply_to="0/client/1")
    world.writer.breaks = breaks
    with pytest.raises(Broken):
        world.work(offers=[offer()], lapses=[Lapse("s9", 10**9)])
    assert world.rows() == before
    world.owner.reopen()
    assert world.owner.leadership is None
    assert world.owner.state.job(f"{QUEUE}/b") is None
    assert (list(world.last.messages), world.owner.state.pushed) == ([], [])
    assert world.job("a").state is JobState.READY
    world.lead()
    world.work_all()
    world.work(offers=[offer()])
    assert world.job("b").state is JobState.DISPATCHED
    assert world.owner.position.owner_epoch == 2
    world.check()


def test_a_fenced_owner_cannot_decide():
    world = World()
    world.work()
    world.log.fence(0)
    world.submit("a")
    with pytest.raises(Fenced):
        world.work()
    assert len(batches(world)) == 1


def test_deciding_needs_leadership():
    world = World()
    world.owner.reopen()
    with pytest.raises(AssertionError):
        world.work()


def test_an_owner_is_not_made_in_the_middle_of_a_batch():
    world = World()
    world.submit("a")
    world.work()
    follower = world.partition()
    follower.fold(next(world.log.events(0, 0)))
    with pytest.raises(AssertionError):
        follower.lead(world.log.fence(0), "too early")


def test_a_follower_applies_whole_batches_only():
    world = World()
    world.submit("a")
    world.work()
    follower = world.partition()
    first, last = world.log.events(0, 0)
    assert follower.fold(first) is None
    assert state_rows(follower.store) == {}
    assert follower.fold(last) is not None
    assert state_rows(follower.store) == state_rows(world.owner.store)


def test_a_follower_whose_state_differs_stops():
    world = World()
    world.submit("a")
    world.work()
    world.send(c.HoldJob(queue=QUEUE, job_id="a"))
    world.work()
    follower = world.partition()
    records = list(world.log.events(0, 0))
    for record in records[:2]:
        follower.fold(record)
    # A bit that flipped on a disk.
    follower.state.position.state_hash = bytes(16)
    held, closed = records[2:]
    follower.fold(held)
    with pytest.raises(Diverged, match="batch 2"):
        follower.fold(closed)


def test_a_hash_of_another_version_of_the_rows_is_not_compared(monkeypatch):
    world = World()
    world.submit("a")
    world.work()
    monkeypatch.setattr(partition_module, "STATE_VERSION", STATE_VERSION + 1)
    follower = world.partition()
    follower.state.position.state_hash = b"another version"
    world.catch_up(follower)
    assert follower.position.batch_no == 1


def test_a_lapse_and_an_offer_of_one_batch_do_not_meet():
    world = World()
    world.submit("a")
    world.work(offers=[offer()])
    world.work(lapses=[Lapse("s1", 5_000)], offers=[offer()])
    assert world.job("a").state is JobState.READY
    assert [type(event) for event in world.events()][-3:] == [e.WorkerLost, e.AttemptLost, e.BatchClosed]
    world.check()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 6))
def test_a_takeover_at_any_point_goes_on_where_the_log_ends(groups, at):
    """The next owner learns from the log alone which command is the next."""
    world = World()
    number = 0
    for i, size in enumerate(groups):
        if i == at:
            world.owner = Partition(world.policy, MemoryStore(), codec, world.log.log_id)
            world.lead()
        for _ in range(size):
            world.submit(f"j{number}")
            number += 1
        world.work()
    assert len(list(world.owner.state.ready(QUEUE))) == number
    check_state(world.owner.store)
    world.check()
