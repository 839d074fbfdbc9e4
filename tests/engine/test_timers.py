"""Timers beside commands: many that are due leave a batch room for commands, and schedules leave room for others."""

from __future__ import annotations

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import CatchUp, ScheduleSpec
from ftjm.engine.batch import FIRINGS_MAX
from tests.engine.world import QUEUE, World, offer

MINUTE = 60_000


def test_catching_up_on_many_schedules_leaves_room_for_commands_jobs_and_their_timers():
    world = World()
    spec = ScheduleSpec(job=JobSpec(command=["true"]), every_ms=MINUTE, catch_up=CatchUp.ALL)
    for number in range(4 * FIRINGS_MAX):
        world.send(c.ApplySchedule(queue=QUEUE, name=f"s{number}", spec=spec))
    world.submit("delayed", delay_ms=119 * MINUTE)
    world.work_all()
    world.now += 120 * MINUTE
    world.submit("beside")
    world.work(offers=[offer(slots=5)])
    kinds = [type(event) for event in world.last.events]
    assert kinds.count(e.ScheduleFired) == FIRINGS_MAX
    assert world.job("beside")
    assert kinds.count(e.AttemptDispatched) == 5
    for _ in range(4):
        world.work()
    fired = [event for event in world.events() if isinstance(event, e.ScheduleFired)]
    assert {event.name for event in fired} == {f"s{number}" for number in range(4 * FIRINGS_MAX)}, "all have their turn"
    world.check()
