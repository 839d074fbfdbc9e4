"""The checker passes a history with schedules that the engine has made, and names each fault that is planted in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import CatchUp, Overlap, ScheduleSpec
from ftjm.lab.checker import Evidence, LogEntry, Verdict, check
from tests.engine.world import PARTITIONS, QUEUE, World

Events = list[e.Event | e.BatchClosed]


def history() -> Events:
    """Three schedules of every minute: `n` fires, is late, is paused and triggered; `q` waits; `r` replaces."""
    world = World()
    for name, overlap in (("n", Overlap.ALLOW), ("q", Overlap.QUEUE), ("r", Overlap.REPLACE)):
        spec = ScheduleSpec(
            job=JobSpec(command=["true"]), every_ms=60_000, overlap=overlap, catch_up=CatchUp.NONE, jitter_ms=500
        )
        world.send(c.ApplySchedule(queue=QUEUE, name=name, spec=spec))
    world.work()
    world.now += 60_000 - world.now % 60_000
    for _ in range(3):
        world.work()
        world.now += 60_000
    world.send(c.CancelJob(queue=QUEUE, job_id=last_job(world, "q")))
    world.work()
    world.send(c.PauseSchedule(queue=QUEUE, name="n"))
    world.send(c.TriggerSchedule(queue=QUEUE, name="n", command_id="wish"))
    world.work()
    world.now += 60_000
    world.send(c.ResumeSchedule(queue=QUEUE, name="n"))
    world.work()
    world.now += 3_600_000
    while list(world.owner.state.due(world.now)):
        world.work()
    world.send(c.DeleteSchedule(queue=QUEUE, name="r"))
    world.work()
    world.check()
    return world.events()


def last_job(world: World, name: str) -> str:
    row = world.owner.state.schedule(f"{QUEUE}/{name}")
    assert row is not None
    return row.last_job


def judged(events: Events) -> Verdict:
    entries = [
        LogEntry(0, offset, event, event.now if isinstance(event, e.BatchClosed) else event.at)
        for offset, event in enumerate(events)
    ]
    return check(entries, evidence=Evidence(partitions=PARTITIONS))


def faults(events: Events) -> list[str]:
    """What is wrong, but for jobs that have not ended: no worker runs any."""
    return [text for text in judged(events).violations if "expected it to have ended" not in text]


HISTORY = history()


def test_the_history_of_the_engine_passes():
    kinds = {type(event).__name__ for event in HISTORY}
    assert kinds >= {"ScheduleFired", "ScheduleSkipped", "ScheduleDelayed", "ScheduleResumed", "ScheduleDeleted"}
    assert faults(HISTORY) == []


def find(kind: type[Any], which: int = 0, **fields: Any) -> int:
    """The place of the event of this kind with these fields."""
    found = [
        place
        for place, event in enumerate(HISTORY)
        if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items())
    ]
    return found[which]


def changed(place: int, **fields: Any) -> Events:
    return [*HISTORY[:place], msgspec.structs.replace(HISTORY[place], **fields), *HISTORY[place + 1 :]]


def without(place: int) -> Events:
    return [*HISTORY[:place], *HISTORY[place + 1 :]]


def again(place: int) -> Events:
    return [*HISTORY[: place + 1], HISTORY[place], *HISTORY[place + 1 :]]


FIRED = find(e.ScheduleFired, name="n")
LATE = find(e.ScheduleSkipped, name="n", reason="MISSED")
DELAYED = find(e.ScheduleDelayed, name="r")
EVENT: Any = HISTORY


def changed_to_reckoned() -> Events:
    fired = EVENT[FIRED]
    reckoned = e.ScheduleReckoned(
        queue=QUEUE,
        name="n",
        next_at=fired.instant,
        interval_start=fired.instant - 60_000,
        tzdata=fired.tzdata,
        at=fired.at,
        cause=fired.cause,
        cause_ref=fired.cause_ref,
    )
    return [*HISTORY[: FIRED - 1], reckoned, *HISTORY[FIRED - 1 :]]


FAULTS: dict[str, tuple[Callable[[], Events], str]] = {
    "an instant fires twice": (lambda: again(FIRED), "to be decided, but found"),
    "a firing without its job": (lambda: without(FIRED - 1), "its job to be submitted in the same batch"),
    "a job of a timer without a firing": (lambda: without(FIRED), "the firing of a job that no client submits"),
    "another job": (lambda: changed(FIRED, job_id="n.19700101T000000Z"), "expected the job n."),
    "another instant": (lambda: changed(FIRED, instant=EVENT[FIRED].instant + 60_000), "to be decided"),
    "another next instant": (lambda: changed(FIRED, next_at=EVENT[FIRED].next_at + 60_000), "the next instant"),
    "a timer that there is not": (lambda: changed(FIRED, cause_ref="7"), "expected a timer for"),
    "a firing while it is paused": (
        lambda: [*HISTORY[:FIRED], e.SchedulePaused(queue=QUEUE, name="n", at=EVENT[FIRED].at), *HISTORY[FIRED:]],
        "no firing while it is paused",
    ),
    "a firing of what does not exist": (lambda: changed(FIRED, name="x"), "a schedule that exists"),
    "a job with other fields": (
        lambda: changed(FIRED - 1, spec=msgspec.structs.replace(EVENT[FIRED - 1].spec, priority=9)),
        "others for priority",
    ),
    "a job with another start": (
        lambda: changed(FIRED - 1, spec=msgspec.structs.replace(EVENT[FIRED - 1].spec, start_at=EVENT[FIRED].at + 501)),
        "a start up to 500 ms",
    ),
    "a skip of what is in time": (lambda: changed(LATE, until=EVENT[LATE].at), "skipped as MISSED"),
    "a skip for no overlap": (lambda: changed(LATE, reason="OVERLAP"), "skipped as OVERLAP"),
    "a skip for no job": (lambda: changed(LATE, reason="EXISTS"), "skipped as EXISTS"),
    "a replaced job that goes on": (lambda: without(DELAYED + 1), "it to be asked to stop"),
    "a job that is cancelled by a timer": (
        lambda: without(DELAYED),
        "expected a timer to cancel only what is replaced",
    ),
    "an older revision": (lambda: changed(find(e.ScheduleApplied, 1), revision=1), "a revision above 1"),
    "a declaration that begins in the past": (
        lambda: changed(find(e.ScheduleApplied), decided_to=5),
        "it to begin at",
    ),
    "a timer that is left behind": (lambda: [*HISTORY[: FIRED - 1], *HISTORY[FIRED + 1 :]], "found it left behind"),
    "a pause that is caught up": (
        lambda: changed(find(e.ScheduleResumed), decided_to=EVENT[find(e.ScheduleResumed)].at - 60_000),
        "it to begin at",
    ),
    "zones that are the same": (
        changed_to_reckoned,
        "other time zones or another calendar",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str):
    planted, text = FAULTS[fault]
    found = faults(planted())
    assert any(text in violation for violation in found), found
