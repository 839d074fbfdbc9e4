"""What follows from the declaration of a schedule: its instants, and the jobs that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from ftjm.core.records import events as e
from ftjm.core.state.schedules import FiredBy, ScheduleSpec
from ftjm.lab.checker.calendars import Calendars
from ftjm.lab.checker.submissions import Submissions, differences
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind


class SeenSchedule(msgspec.Struct):
    """A schedule as its events tell it."""

    name: str
    spec: ScheduleSpec
    next_at: int = 0
    begin: int = 0
    """The instant before `next_at`."""
    decided_to: int = 0
    tzdata: str = ""
    paused: bool = False
    stale: bool = False
    """Whether its calendar has changed since `next_at` was reckoned."""
    waiting: int = 0
    waiting_begin: int = 0
    last_job: str = ""
    timer_at: int = 0
    timer: int = 0
    """Number of its newest timer."""


class ScheduleTimer(NamedTuple):
    name: JobName
    told: SeenSchedule
    due_at: int
    number: int
    batch_no: int

    def counts(self) -> bool:
        return self.told.timer_at > 0 and self.told.timer == self.number


def wrong(kind: ViolationKind, event: e.ScheduleEvent, expected: str, found: object) -> Violation:
    """Return a violation of this kind by an event of a schedule."""
    what = f"{event.queue}/{event.name} in {type(event).__name__}"
    return Violation(kind, f"{what}: expected {expected}, but found {found}")


def utc(instant: int) -> datetime:
    """Return a time in ms since the Unix epoch as one of UTC, without its fraction of a second."""
    return datetime.fromtimestamp(instant // 1000, UTC)


def job_id_of(name: str, instant: int) -> str:
    """Return the id of the job of an instant."""
    return f"{name}.{utc(instant):%Y%m%dT%H%M%SZ}"


def recurrence(spec: ScheduleSpec) -> tuple[object, ...]:
    """Return what two declarations with the same instants, but for their end, have in common."""
    return spec.cron, spec.every_ms, spec.start_at, spec.time_zone, spec.dst, spec.calendar


def first_instant(spec: ScheduleSpec, begin: int) -> int:
    """Return the first instant of an interval from a time on, be it behind its end."""
    earliest = max(begin, spec.start_at)
    return spec.start_at + -(-(earliest - spec.start_at) // spec.every_ms) * spec.every_ms


def check_next(
    spec: ScheduleSpec, event: e.ScheduleEvent, after: int, found: int, calendars: Calendars
) -> Iterator[Violation]:
    """Judge a next instant: of an interval by division, of a cron expression by its bounds; and its day."""
    if found and not calendars.counts(spec.calendar, found):
        yield wrong(ViolationKind.TIMER, event, f"a next instant on a day of {spec.calendar}", found)
    elif spec.every_ms and calendars.knows(spec.calendar):
        wanted = calendars.first(spec.calendar, first_instant(spec, after + 1), spec.every_ms)
        if found != (wanted if not spec.end_at or wanted <= spec.end_at else 0):
            yield wrong(ViolationKind.TIMER, event, f"the next instant {wanted}", found)
    elif found and not max(after + 1, spec.start_at) <= found <= (spec.end_at or found):
        yield wrong(ViolationKind.TIMER, event, f"a next instant after {after}, from start to end", found)


def check_job(
    spec: ScheduleSpec, event: e.ScheduleFired, submitted: e.JobSubmitted, begin: int, submissions: Submissions
) -> Iterator[Violation]:
    """Judge the job of a firing: the template, with the defaults of its queue and the variables of its instant, and up
    to its jitter later.

    Args:
        begin: of its data interval; 0 if it is not known.
        submissions: knows the defaults of the queue.
    """
    job = submitted.spec
    instant = f"{utc(event.instant):%Y-%m-%dT%H:%M:%SZ}"
    variables = {"FTJM_SCHEDULE": event.name, "FTJM_SCHEDULED_AT": instant, "FTJM_INTERVAL_END": instant}
    start = job.environment.get("FTJM_INTERVAL_START", "")
    begins = f"{utc(begin):%Y-%m-%dT%H:%M:%SZ}"
    variables["FTJM_INTERVAL_START"] = begins if begin else start
    template = msgspec.structs.replace(
        spec.job,
        environment=spec.job.environment | variables,
        start_at=job.start_at,
    )
    if names := differences(submissions.expected(event.queue, template, spec.explicit), job):
        yield wrong(ViolationKind.TRANSITION, event, "its job to be the template", f"others for {', '.join(names)}")
    jitter_ms = 0 if event.by in (FiredBy.TRIGGERED, FiredBy.BACKFILL) else spec.jitter_ms
    if job.start_at and not event.instant < job.start_at <= event.instant + jitter_ms:
        yield wrong(ViolationKind.TIMER, event, f"a start up to {jitter_ms} ms after its instant", job.start_at)
    if (submitted.cause, submitted.cause_ref) != (event.cause, event.cause_ref):
        yield wrong(ViolationKind.CAUSE, event, f"the cause of its job, {submitted.cause_ref}", event.cause_ref)
