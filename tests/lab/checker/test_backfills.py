"""The checker passes a history with backfills that the engine has made, and names each fault that is planted in it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.backfills import Reprocess
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import FiredBy, ScheduleSpec
from tests.engine.world import QUEUE, World
from tests.lab.checker.test_schedules import Events, faults

MINUTE = 60_000


def request(world: World, command_id: str, reprocess: Reprocess, instants: int) -> c.BackfillSchedule:
    to_at = world.now - world.now % MINUTE
    from_at = to_at - (instants - 1) * MINUTE
    return c.BackfillSchedule(
        queue=QUEUE, name="n", command_id=command_id, reprocess=reprocess, max_active=2, from_at=from_at, to_at=to_at
    )


def history() -> Events:
    """Two backfills of a schedule of every minute: the second one runs a cancelled job again."""
    world = World()
    spec = ScheduleSpec(job=JobSpec(command=["true"]), every_ms=MINUTE)
    world.send(c.ApplySchedule(queue=QUEUE, name="n", spec=spec))
    world.work()
    for command_id, reprocess, instants in (("b1", Reprocess.NONE, 3), ("b2", Reprocess.FAILED, 4)):
        world.send(request(world, command_id, reprocess, instants))
        for _ in range(12):
            world.work()
            world.now += 100
            for key in list(world.owner.state.job_keys(QUEUE, "")):
                job = world.owner.state.job(key)
                assert job is not None
                if job.state.name == "READY":
                    world.send(c.CancelJob(queue=QUEUE, job_id=key.partition("/")[2]))
    world.check()
    return world.events()


HISTORY = history()


def find(kind: type[Any], which: int = 0) -> int:
    return [place for place, event in enumerate(HISTORY) if isinstance(event, kind)][which]


def changed(place: int, **fields: Any) -> Events:
    return [*HISTORY[:place], msgspec.structs.replace(HISTORY[place], **fields), *HISTORY[place + 1 :]]


def test_the_history_of_the_engine_passes():
    begun = [event for event in HISTORY if isinstance(event, e.BackfillBegun)]
    reruns = [event for event in HISTORY if isinstance(event, e.JobRerun)]
    fired = [event for event in HISTORY if isinstance(event, e.ScheduleFired) and event.by is FiredBy.BACKFILL]
    assert (len(begun), len(reruns), len(fired)) == (2, 3, 4)
    assert faults(HISTORY) == []


def test_more_runs_than_are_allowed_are_a_fault():
    assert any("at most 1 runs" in fault for fault in faults(changed(find(e.BackfillBegun), max_active=1)))


def test_a_job_that_should_be_left_alone_and_runs_again_is_a_fault():
    wrong = faults(changed(find(e.BackfillBegun, 1), reprocess=Reprocess.NONE))
    assert any("to run jobs again as none says" in fault for fault in wrong)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"submitted": 7}, "submitted"),
        ({"failed": 7}, "failed"),
        ({"jobs": ["n.other"]}, "expected the jobs"),
    ],
)
def test_numbers_that_are_not_those_of_the_events_are_a_fault(fields: dict[str, Any], words: str):
    assert any(words in fault for fault in faults(changed(find(e.BackfillAdvanced, 2), **fields)))


def test_an_instant_outside_of_its_time_is_a_fault():
    begun = HISTORY[find(e.BackfillBegun)]
    assert isinstance(begun, e.BackfillBegun)
    wrong = faults(changed(find(e.BackfillBegun), from_at=begun.from_at + 1))
    assert any("an instant in range" in fault for fault in wrong)


def test_an_instant_that_was_left_out_is_a_fault():
    begun = HISTORY[find(e.BackfillBegun)]
    assert isinstance(begun, e.BackfillBegun)
    wrong = faults(changed(find(e.BackfillBegun), from_at=begun.from_at - 2 * MINUTE))
    assert any("a job of the instant" in fault for fault in wrong)


def test_an_instant_to_come_is_a_fault():
    begun = HISTORY[find(e.BackfillBegun)]
    assert isinstance(begun, e.BackfillBegun)
    assert any("instants up to" in fault for fault in faults(changed(find(e.BackfillBegun), to_at=begun.at + 1)))


def test_what_a_backfill_causes_that_is_not_under_way_is_a_fault():
    place = find(e.BackfillBegun)
    wrong = faults([*HISTORY[:place], *HISTORY[place + 1 :]])
    assert any("to be under way" in fault or "that is under way" in fault for fault in wrong)


def test_a_second_one_while_one_is_under_way_is_a_fault():
    place = find(e.BackfillBegun)
    assert any("only b1 to be under way" in fault for fault in faults([*HISTORY[: place + 1], *HISTORY[place:]]))


def test_one_that_does_not_end_once_it_is_stopped_is_a_fault():
    place = find(e.BackfillAdvanced)
    event = HISTORY[place]
    assert isinstance(event, e.BackfillAdvanced)
    stopped = e.BackfillStopped(
        queue=QUEUE, name="n", backfill="b1", at=event.at, cause=event.cause, cause_ref=event.cause_ref
    )
    wrong = faults([*HISTORY[:place], stopped, *HISTORY[place:]])
    assert any("a backfill that is under way" in fault for fault in wrong)


def test_a_backfill_that_cancels_a_job_is_a_fault():
    place = find(e.JobCancelled)
    ref = f"BACKFILL/{QUEUE}/n"
    wrong = faults(changed(place, cause=e.Cause.CONTINUATION, cause_ref=ref))
    assert any("to begin runs alone" in fault for fault in wrong)
