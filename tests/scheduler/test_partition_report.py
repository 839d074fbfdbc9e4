"""What an owner reports of the queues of its partition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide.decision import Policy
from ftjm.core.evolve.handlers import evolve
from ftjm.core.placement import Offer
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.messages import PartitionReport, SchedulerHeartbeat, SessionState, SlotOffer, WorkerHeartbeat
from ftjm.core.state.model import JobState
from ftjm.core.state.queues import QueueSpec
from ftjm.engine.liveness import Liveness
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.partition_report import (
    ALL_OTHER_QUEUES_MAX,
    UNCHANGED_MS,
    WAITING_QUEUES_MAX,
    QueueStatisticsReader,
    Reporter,
    must_report_soon,
    partition_report,
)
from ftjm.scheduler.queue_starts import QueueStarts
from tests.core.consistency import check_state
from tests.engine.world import NOW, QUEUE, World, offer


def test_the_report_tells_since_when_the_job_waits_that_is_served_next():
    world = World()
    world.submit("low", priority=10)
    world.work()
    for number in range(3):
        world.now += 1_000
        world.submit(f"high-{number}", priority=90)
        world.work()
    reader = QueueStatisticsReader(1)
    found = reader.read(world.owner.state, world.now, world.now)
    assert found.oldest_at == {QUEUE: NOW + 1_000}
    assert found.counts[QUEUE][JobState.READY] == 4
    world.work([Offer("s1", "w", 0, 5_000, (QUEUE,), 1, 4)])
    soon, later = world.now + 500, world.now + 1_500
    assert reader.read(world.owner.state, soon, soon).oldest_at == {QUEUE: NOW + 1_000}, "searched for a moment ago"
    assert reader.read(world.owner.state, later, later).oldest_at == {}
    assert list(world.owner.state.ready(QUEUE)) == []


def test_a_report_has_all_queues_and_is_urgent_for_those_that_wait():
    world = World()
    world.submit("a")
    world.submit("held", held=True, queue=QUEUE)
    world.work()
    state, reader = world.owner.state, QueueStatisticsReader(1)

    def report() -> PartitionReport:
        return partition_report(0, "owner", state, reader.read(state, world.now, world.now), Liveness(0), world.now)

    before = report()
    [demand] = before.demand
    assert (demand.queue, demand.ready, demand.oldest_at, demand.counts[JobState.HELD]) == (QUEUE, 1, NOW, 1)
    assert not must_report_soon(before, report())
    world.work([offer()])
    after = report()
    assert [demand.ready for demand in after.demand] == [0]
    assert must_report_soon(before, after)


def happened(world: World, *events: e.Event) -> None:
    """A batch with these events was committed."""
    state = world.owner.state
    for event in events:
        evolve(state, event)
    state.rows.write(state.seal()[0])  # type: ignore[attr-defined]
    state.written()


def test_a_paused_queue_is_told_of_and_waits_for_no_slot():
    world = World()
    world.submit("a")
    world.work()
    state, reader = world.owner.state, QueueStatisticsReader(1)

    def report() -> PartitionReport:
        return partition_report(0, "owner", state, reader.read(state, world.now, world.now), Liveness(0), world.now)

    before = report()
    assert reader.read(state, world.now, world.now).waiting_jobs == 1
    for event, paused in ((e.QueuePaused(queue=QUEUE), True), (e.QueueResumed(queue=QUEUE), False)):
        happened(world, event)
        after = report()
        assert [(demand.ready, demand.paused) for demand in after.demand] == [(1, paused)]
        assert reader.read(state, world.now, world.now).waiting_jobs == (not paused)
        assert must_report_soon(before, after)
        before = after


def declared(revision: int, **spec: Any) -> e.QueueApplied:
    return e.QueueApplied(queue=QUEUE, revision=revision, spec=QueueSpec(**spec), labels={})


def test_a_queue_at_its_limit_is_told_of_and_waits_for_no_slot():
    world = World()
    world.submit("a")
    world.work([Offer("s1", "w", 0, 5_000, (QUEUE,), 1, 1)])
    world.submit("b")
    world.work()
    happened(world, declared(3, concurrency=1))
    state, reader = world.owner.state, QueueStatisticsReader(1)
    found = reader.read(state, world.now, world.now)
    assert [(demand.ready, demand.limited) for demand in found.demand] == [(1, True)]
    assert found.waiting_jobs == 0
    happened(world, e.QueueDeleted(queue=QUEUE))
    found = reader.read(state, world.now, world.now)
    assert [(demand.ready, demand.limited) for demand in found.demand] == [(1, False)]
    assert found.waiting_jobs == 1


def test_a_queue_waits_for_slots_again_a_second_before_its_rate_lets_a_job_start():
    world = World()
    for name in ("a", "b"):
        world.submit(name)
    world.work()
    happened(world, declared(3, rate_limit=1, rate_per_ms=60_000))
    world.work([Offer("s1", "w", 0, 5_000, (QUEUE,), 1, 1)])
    state, reader = world.owner.state, QueueStatisticsReader(1)

    def limited(after_ms: int) -> list[bool]:
        at = world.now + after_ms
        return [demand.limited for demand in reader.read(state, at, at).demand]

    assert limited(0) == [True]
    assert limited(58_000) == [True]
    assert limited(59_500) == [False]


def test_a_paused_queue_without_jobs_is_told_of_before_idle_ones():
    world = World()
    for number in range(20):
        world.submit("a", queue=f"q{number:02d}", held=True)
    world.work()
    state = world.owner.state
    happened(world, e.QueuePaused(queue="empty"), e.QueuePaused(queue="q19"))
    reader = QueueStatisticsReader(ALL_OTHER_QUEUES_MAX // 5)
    statistics = reader.read(state, world.now, world.now)
    told = [(demand.queue, demand.paused) for demand in statistics.demand]
    assert told[:2] == [("empty", True), ("q19", True)]
    assert sorted(statistics.paused) == ["empty", "q19"]
    assert len([queue for queue, paused in told if not paused]) <= 5
    happened(world, e.QueueResumed(queue="empty"))
    assert reader.read(state, world.now, world.now).paused == {"q19"}


def test_what_cannot_differ_is_not_reported_again():
    world = World()
    liveness, state, now = Liveness(world.now), world.owner.state, world.now
    reporter = Reporter(0, 1, liveness)

    def taken(role: Role = Role.OWNER) -> list[tuple[str, int]] | None:
        changes = reporter.changes(role, state, now)
        return None if changes is None else [(each.session, each.number) for each in changes[1].taken]

    assert [taken(), taken()] == [[], None]
    world.submit("a")
    world.work()
    assert [taken(), taken()] == [[], None], "a batch was committed"
    heard = WorkerHeartbeat(
        session="s1",
        worker="w",
        host="h",
        pid=1,
        state=SessionState.OPEN,
        lane=0,
        lease_ms=5_000,
        slots=1,
        busy=0,
        queues=[QUEUE],
        offers=[SlotOffer(partition=0, number=7, slots=1)],
    )
    liveness.receive(heard, now)
    assert [taken(), taken()] == [[("s1", 7)], None], "a worker has offered slots"
    assert [taken(Role.STANDBY), taken(Role.STANDBY), taken()] == [[], None, [("s1", 7)]], "the role has changed"
    now += UNCHANGED_MS
    assert [taken(), taken()] == [[("s1", 7)], None], "time has passed"
    now += 5_001
    assert taken() == [], "the session has fallen silent"


# -- many queues


class Counting(MemoryStore):
    """A store that counts the rows that are read from it."""

    reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        for row in super().scan(start, end):
            self.reads += 1
            yield row


def names(count: int) -> list[str]:
    return [f"tenant-{number:06}" for number in range(count)]


def with_queues(count: int, **fields: Any) -> tuple[World, Counting]:
    """A partition in which each of so many queues has a job."""
    store = Counting()
    world = World(make_store=lambda: store)
    world.owner.policy = Policy(partition=0, partitions=1)
    for name in names(count):
        world.submit("j", queue=name, **fields)
    world.work_all()
    return world, store


def test_a_look_costs_what_has_changed_and_not_what_there_is():
    world, store = with_queues(5_000, held=True)
    reader = QueueStatisticsReader(1)
    reader.read(world.owner.state, world.now, world.now)
    for turn in range(1, 4):
        store.reads = 0
        reader.read(world.owner.state, world.now + turn, world.now + turn)
        assert store.reads == 0
    world.submit("k", queue="tenant-004000")
    world.work_all()
    store.reads = 0
    found = reader.read(world.owner.state, world.now + 10, world.now + 10)
    assert store.reads < 10
    assert [(demand.queue, demand.ready) for demand in found.demand if demand.ready] == [("tenant-004000", 1)]
    assert found.waiting_jobs == 1


def test_a_queue_without_jobs_is_no_row_and_not_told_of():
    world, store = with_queues(2_000, held=True, retention_ms=1_000)
    reader = QueueStatisticsReader(1)
    assert len(reader.read(world.owner.state, world.now, world.now).counts) == 2_000
    for name in names(2_000):
        world.send(c.CancelJob(queue=name, job_id="j"))
    world.work_all()
    world.now += 2_000
    while world.owner.state.next_due() is not None:
        world.work()
    assert not list(store.scan(b"q", b"r"))
    found = reader.read(world.owner.state, world.now, world.now)
    assert (found.counts, found.demand) == ({}, [])
    world.submit("waits", queue="zeta")
    world.work_all()
    found = reader.read(world.owner.state, world.now + 1, world.now + 1)
    assert [(demand.queue, demand.ready) for demand in found.demand] == [("zeta", 1)]
    check_state(world.owner.store)


def test_queues_that_wait_are_told_first_and_the_others_within_a_bound():
    world, _ = with_queues(3_000, held=True)
    world.submit("waits", queue="zeta")
    world.work_all()
    found = QueueStatisticsReader(16).read(world.owner.state, world.now, world.now)
    assert found.demand[0].queue == "zeta"
    assert len(found.demand) == 1 + ALL_OTHER_QUEUES_MAX // 16
    heartbeat = partition_report(0, "owner", world.owner.state, found, Liveness(0), world.now)
    assert len(codec.encode(heartbeat_of([heartbeat] * 16))) < 150_000


def test_more_waiting_queues_than_are_listed_are_told_of_as_one():
    world, _ = with_queues(WAITING_QUEUES_MAX + 500)
    reader = QueueStatisticsReader(1)
    found = reader.read(world.owner.state, world.now, world.now)
    listed = [demand for demand in found.demand if demand.queue]
    assert (len(listed), found.demand[-1].queue, found.demand[-1].ready) == (WAITING_QUEUES_MAX, "", 500)
    assert found.waiting_jobs == WAITING_QUEUES_MAX + 500

    def report(at: int) -> PartitionReport:
        return partition_report(0, "owner", world.owner.state, reader.read(world.owner.state, at, at), None, at)

    before = report(world.now)
    world.send(c.HoldJob(queue="tenant-000003", job_id="j"))
    world.work_all()
    after = report(world.now + 1)
    assert before.demand != after.demand
    assert not must_report_soon(before, after), "workers offer their slots to this partition already"
    for name in names(600):
        world.send(c.HoldJob(queue=name, job_id="j"))
    world.work_all()
    last = report(world.now + 2)
    assert all(demand.queue for demand in last.demand)
    assert must_report_soon(after, last)


def heartbeat_of(partitions: list[PartitionReport]) -> SchedulerHeartbeat:
    return SchedulerHeartbeat(instance="s", host="h", pid=1, port=1, partitions=partitions)


def test_a_new_state_is_looked_at_as_a_whole():
    """After a takeover, or after a batch that was dropped."""
    world, _ = with_queues(3)
    reader = QueueStatisticsReader(1)
    reader.read(world.owner.state, world.now, world.now)
    world.owner.reopen()
    world.lead()
    world.send(c.HoldJob(queue="tenant-000001", job_id="j"))
    world.work_all()
    found = reader.read(world.owner.state, world.now + 1, world.now + 1)
    assert [demand.queue for demand in found.demand if demand.ready] == ["tenant-000000", "tenant-000002"]


def test_a_report_has_the_weight_of_a_queue_and_its_starts_of_the_last_minute():
    world, starts = World(), QueueStarts()
    for name in ("a", "b", "c"):
        world.submit(name)
    world.work()
    happened(world, declared(4, weight=3))
    reader = QueueStatisticsReader(1, starts)

    def told(at: int) -> list[tuple[int, int]]:
        state = world.owner.state
        return [(demand.weight, demand.starts_per_minute) for demand in reader.read(state, at, at).demand]

    assert told(world.now) == [(3, 0)]
    dispatch = e.AttemptDispatched(
        queue=QUEUE, job_id="a", run=1, attempt=1, session="s", worker="w", lane=0, lease_ms=1, offer=1
    )
    starts.note([dispatch, dispatch], world.now)
    starts.note([dispatch], world.now + 10)
    starts.note([dispatch], world.now + 30_000)
    assert told(world.now + 31_000) == [(3, 4)]
    assert told(world.now + 70_000) == [(3, 1)]
    assert told(world.now + 99_000) == [(3, 0)]
    happened(world, e.QueueDeleted(queue=QUEUE))
    assert told(world.now + 99_500) == [(1, 0)]


def test_the_oldest_of_a_queue_with_shares_is_the_one_with_the_lowest_score():
    world = World()
    for number, share in enumerate(("x", "y", "x")):
        world.now += 1_000
        world.submit(f"job-{number}", share_identifier=share, priority=90 if number == 1 else 10)
        world.work()
    found = QueueStatisticsReader(1).read(world.owner.state, world.now, world.now)
    assert found.oldest_at == {QUEUE: NOW + 2_000}
