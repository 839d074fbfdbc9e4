"""Processes: work that goes on over many batches, beside commands, over takeovers, and in turns."""

from __future__ import annotations

from ftjm.core.identity import partition_for
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.queues import QueueSpec
from ftjm.engine.batch import BATCH_ROWS_MAX, SLICE_PAUSE_MS, SLICE_WAIT_MS
from tests.engine.test_owner import Led
from tests.engine.world import PARTITIONS, QUEUE, World, offer


def declare(ageing_ms: int, queue: str = QUEUE) -> c.ApplyQueue:
    return c.ApplyQueue(queue=queue, spec=QueueSpec(ageing_ms=ageing_ms))


def with_jobs(count: int, *queues: str) -> World:
    """A world in which the jobs of these queues wait, and each queue has a new ageing."""
    world = World()
    for number in range(count):
        for queue in queues or (QUEUE,):
            world.submit(f"j{number:04}", queue=queue, priority=7)
    world.work_all()
    for queue in queues or (QUEUE,):
        world.send(declare(1, queue))
    return world


def slices(world: World) -> list[tuple[int, e.QueueReordered]]:
    """The slices in the log, each with the number of its batch."""
    found, batch = [], 1
    for event in world.events():
        if isinstance(event, e.QueueReordered):
            found.append((batch, event))
        elif isinstance(event, e.BatchClosed):
            batch = event.batch_no + 1
    return found


def moved(world: World) -> list[int]:
    """How many jobs each slice moved, of those that moved some. (Jobs that were moved ahead are met again.)"""
    return [len(event.jobs) for _, event in slices(world) if event.jobs]


def go_on(world: World) -> None:
    """Work whenever a batch is due, until no process is under way."""
    while world.last.more_at is not None:
        world.now = max(world.now, world.last.more_at)
        world.work()


def test_slices_are_done_with_pauses_until_all_is_done():
    world = with_jobs(600)
    world.work()
    assert world.last.more_at == world.now
    world.work()
    assert world.last.more_at == world.now + SLICE_PAUSE_MS
    assert not world.work()
    assert len(slices(world)) == 1, "it is not due yet"
    world.submit("beside")
    world.work()
    go_on(world)
    done = slices(world)
    assert moved(world) == [100] * 6
    assert len({batch for batch, _ in done}) == len(done)
    assert {event.cause for _, event in done} == {e.Cause.CONTINUATION}
    assert {event.cause_ref for _, event in done} == {f"REORDER/{QUEUE}"}
    assert not world.work()
    world.check()


def test_a_slice_waits_for_a_batch_without_commands_but_not_for_long():
    world = with_jobs(600)
    world.work()
    world.work()
    first = world.now
    for number in range(SLICE_WAIT_MS // SLICE_PAUSE_MS + 1):
        world.now = first + number * SLICE_PAUSE_MS
        world.submit(f"beside{number}")
        assert len(slices(world)) == 1
        world.work()
        assert world.job(f"beside{number}")
    assert len(slices(world)) == 2
    go_on(world)
    world.check()


def test_the_next_owner_goes_on_where_the_last_one_died():
    world = with_jobs(600)
    world.work()
    world.work()
    world.owner = world.partition()
    world.lead()
    go_on(world)
    assert moved(world) == [100] * 6
    world.check()


def test_free_slots_are_filled_meanwhile():
    world = with_jobs(600)
    world.work()
    world.work(offers=[offer(slots=3)])
    assert sum(isinstance(event, e.AttemptDispatched) for event in world.last.events) == 3
    assert world.last.more_at == world.now + SLICE_PAUSE_MS


def test_no_load_of_commands_stops_a_process():
    world = with_jobs(600)
    for number in range(3 * BATCH_ROWS_MAX):
        world.submit(f"more{number}")
    while len(slices(world)) < 2:
        world.work()
        assert world.waiting, "each batch is full of commands"
        world.now += SLICE_PAUSE_MS
    world.work_all()
    go_on(world)
    world.check()


def test_processes_take_turns():
    there = [name for name in (f"other{number}" for number in range(99)) if partition_for(name, PARTITIONS) == 0][:2]
    world = with_jobs(150, *there)
    world.work_all()
    go_on(world)
    turns = [event.queue for _, event in slices(world)]
    assert sorted(turns) == sorted(there * 2)
    assert turns[0] != turns[1]
    world.check()


def test_processes_take_turns_also_with_other_batches_in_between():
    there = [name for name in (f"other{number}" for number in range(99)) if partition_for(name, PARTITIONS) == 0][:2]
    world = with_jobs(350, *there)
    world.work_all()
    while world.last.more_at is not None:
        world.now = max(world.now, world.last.more_at)
        world.work()
        world.submit(f"beside{world.now}")
        world.work()  # too soon for another slice
    turns = [event.queue for _, event in slices(world)]
    assert turns[:6] == [*sorted(there)] * 3


def test_an_owner_steps_again_at_once_while_a_process_is_under_way():
    led = Led(with_jobs(600))
    led.step()
    assert led.owner.seconds_until_due(1.0) == 0.0
    led.step()
    assert led.owner.seconds_until_due(1.0) == SLICE_PAUSE_MS / 1000
    while led.owner.seconds_until_due(1.0) <= SLICE_PAUSE_MS / 1000:
        led.passes(SLICE_PAUSE_MS)
        led.step()
    assert moved(led.world) == [100] * 6


def test_an_owner_looks_again_when_the_rate_of_a_queue_lets_a_job_start():
    led = Led()
    for name in ("a", "b"):
        led.world.submit(name)
    led.world.send(c.ApplyQueue(queue=QUEUE, spec=QueueSpec(rate_limit=2)))
    led.offered = [offer(slots=9)]
    led.step()
    assert led.owner.seconds_until_due(1.0) == 0.5
    led.passes(500)
    led.step()
    assert led.owner.seconds_until_due(1.0) == 1.0
    assert [led.world.job(name).attempt for name in ("a", "b")] == [1, 1]
