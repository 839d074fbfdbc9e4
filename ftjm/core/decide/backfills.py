"""Decisions about backfills: requests to make the jobs of instants of a schedule that have passed.

A backfill is a process (`processes.py`). It first counts its instants, so that one that is about too many is stopped
before it has made a job. Then it looks at each instant, in the order of time:

    there is no job of the instant's id ────────────► JobSubmitted, ScheduleFired (BACKFILL)
    there is one of the schedule, which has ended,
        and `reprocess` names its state ────────────► JobRerun
    else ───────────────────────────────────────────► the job is left alone

The ids are those that firings give, so an instant never has two jobs, whichever of the two comes first. At most
`max_active` of the runs that it has begun have not ended. While so many have not, it has no turn: the end of one of
them gives it the next one. It ends with its last run.

`overlap` is about firings, and does not hold a backfill up. Neither does a pause, nor overload: what the latter guards
against is a flood, and `max_active` lets none come.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from ftjm.core.backfill_rows import PROGRESS
from ftjm.core.calendar import Recurrence, interval_start, next_instant
from ftjm.core.decide import jobs
from ftjm.core.decide.decision import Events, Policy, Rejected
from ftjm.core.decide.schedules import (
    backfill_stopped,
    fired,
    not_reckoned,
    recurrence_of,
    unknown_calendar,
    unknown_schedule,
)
from ftjm.core.decide.submissions import new_job, overloaded
from ftjm.core.limits import BACKFILL_INSTANTS_MAX
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.schedule_jobs import firing_id, job_spec
from ftjm.core.state.backfills import Backfill, Reprocess, backfill_name
from ftjm.core.state.model import TERMINAL, JobSpec, JobState, job_key
from ftjm.core.state.schedules import FiredBy, Schedule, ScheduleSpec, schedule_key
from ftjm.core.state.view import StateView
from ftjm.core.utc import iso_time

LOOKED_MAX = 50
"""Instants that a slice counts, or looks at: 2 to 5 ms of an expression of cron."""
BEGUN_MAX = 20
"""Runs that a slice begins."""
ROWS_OF_A_RUN = 8
"""About so many rows a run writes: the job's, its specification, its place, the queue's and its timers."""
BYTES_MAX = 1024 * 1024
"""Bytes of the templates that a slice submits, unless one alone is larger."""
REPROCESSED = {
    Reprocess.NONE: frozenset[JobState](),
    Reprocess.FAILED: TERMINAL - {JobState.SUCCEEDED},
    Reprocess.COMPLETED: TERMINAL,
}
"""The states of jobs that run again."""


def begin(state: StateView, command: c.BackfillSchedule, now: int, policy: Policy) -> Events | Rejected:
    """`BackfillBegun`."""
    key = schedule_key(command.queue, command.name)
    row = state.schedule(key)
    if row is None:
        return unknown_schedule(command)
    if not is_name(command.command_id):
        return Rejected("INVALID", "command_id: expected a name, so that a repeated request is recognised")
    known = state.backfill(backfill_name(command.queue, command.name, command.command_id))
    if known is not None:
        if (known.from_at, known.to_at, known.reprocess, known.max_active) != _asks(command):
            text = f"expected another id than {command.command_id}, which an earlier backfill of {key} has"
            return Rejected("IDENTITY_TAKEN", f"{text}; leave --command-id out, or use another")
        return Rejected("REPEATED", f"the backfill {command.command_id} of {key} was accepted before")
    if row.backfill:
        text = f"expected no backfill of {key} to be under way, but {row.backfill} is"
        return Rejected("UNDER_WAY", f"{text}; wait for its end, or stop it")
    if (calendar := recurrence_of(state, row.spec, policy)) is None:
        return unknown_calendar(row.spec)
    if fault := _fault(command, row, key, now, calendar):
        return Rejected("INVALID", fault)
    if policy.overload:
        return overloaded(policy)
    return [
        e.BackfillBegun(
            queue=command.queue,
            name=command.name,
            backfill=command.command_id,
            from_at=command.from_at,
            to_at=command.to_at,
            reprocess=command.reprocess,
            max_active=command.max_active,
        )
    ]


def _asks(command: c.BackfillSchedule) -> tuple[int, int, Reprocess, int]:
    return command.from_at, command.to_at, command.reprocess, command.max_active


def _fault(command: c.BackfillSchedule, row: Schedule, key: str, now: int, calendar: Recurrence) -> str:
    if command.to_at < command.from_at:
        return f"to: expected {iso_time(command.from_at)}, which is from, or later, but found {iso_time(command.to_at)}"
    if command.to_at > now:
        text = f"to: expected a time that has passed, at most {iso_time(now)}, but found {iso_time(command.to_at)}"
        return f"{text}; instants to come fire by themselves"
    if fault := calendar.fault(row.spec, key):
        return fault
    if not 0 < next_instant(calendar, row.spec, key, command.from_at - 1) <= command.to_at:
        between = f"from {iso_time(command.from_at)} to {iso_time(command.to_at)}"
        return f"from, to: expected an instant of {key} {between}, but there is none"
    return ""


def stop(state: StateView, command: c.StopBackfill, now: int, policy: Policy) -> Events | Rejected:
    """`BackfillStopped`."""
    key = schedule_key(command.queue, command.name)
    row = state.schedule(key)
    if row is None or row.backfill != command.backfill:
        text = f"expected a backfill {command.backfill} of {key} to be under way, but there is none"
        return Rejected("UNKNOWN_BACKFILL", text)
    return [backfill_stopped(key, command.backfill)]


def next_slice(state: StateView, key: str, rows: int, now: int, policy: Policy) -> Events:
    """The events of the next slice: those of its jobs, and a `BackfillAdvanced`; or a `BackfillStopped`.

    Args:
        key: the schedule's, `queue/name`.
        rows: how many rows the batch may change yet.
    """
    schedule = state.schedule(key)
    assert schedule is not None
    backfill = state.backfill(f"{key}/{schedule.backfill}")
    assert backfill is not None
    calendar = recurrence_of(state, schedule.spec, policy)
    if calendar is None:
        return [backfill_stopped(key, schedule.backfill, f"the calendar {schedule.spec.calendar} was deleted")]
    if reason := not_reckoned(calendar, schedule.spec, key):
        return [backfill_stopped(key, schedule.backfill, reason)]
    if backfill.counted_to < backfill.to_at:
        return [_counted(backfill, schedule, key, calendar)]
    return _Slice(state, schedule, backfill, now, policy).decide(calendar, rows)


def _instants(calendar: Recurrence, spec: ScheduleSpec, key: str, after: int, to_at: int) -> Iterator[int]:
    """The instants after a time, up to another."""
    while 0 < (after := next_instant(calendar, spec, key, after)) <= to_at:
        yield after


def _counted(backfill: Backfill, schedule: Schedule, key: str, calendar: Recurrence) -> e.Event:
    """Count some more instants."""
    instants = _instants(calendar, schedule.spec, key, backfill.counted_to, backfill.to_at)
    found = list(islice(instants, LOOKED_MAX))
    count = backfill.instants + len(found)
    if count > BACKFILL_INSTANTS_MAX:
        reason = f"expected at most {BACKFILL_INSTANTS_MAX} instants, but found more; ask for a shorter time"
        return backfill_stopped(key, schedule.backfill, reason)
    counted_to = found[-1] if len(found) == LOOKED_MAX else backfill.to_at
    counted = msgspec.structs.replace(backfill, instants=count, counted_to=counted_to)
    return _advanced(counted, schedule.backfill, [])


def _advanced(backfill: Backfill, command_id: str, jobs: list[str]) -> e.BackfillAdvanced:
    """The event by which a backfill comes so far.

    Args:
        command_id: names the request.
        jobs: ids of the jobs whose runs the slice begins.
    """
    progress = {field: getattr(backfill, field) for field in PROGRESS}
    return e.BackfillAdvanced(queue=backfill.queue, name=backfill.name, backfill=command_id, jobs=jobs, **progress)


class _Slice:
    """A look at some instants, and the runs that it begins."""

    def __init__(self, state: StateView, schedule: Schedule, backfill: Backfill, now: int, policy: Policy) -> None:
        self._state = state
        self._schedule = schedule
        self._backfill = backfill
        self._now = now
        self._policy = policy
        self._events: Events = []
        self._jobs: list[str] = []
        """Ids of the jobs whose runs it begins."""
        self._looked = 0
        self._reruns = 0

    def decide(self, calendar: Recurrence, rows: int) -> Events:
        """Look at the next instants, as far as runs may be begun."""
        before, spec = self._backfill, self._schedule.spec
        key = schedule_key(before.queue, before.name)
        room = before.max_active - len(before.active)
        most = min(room, BEGUN_MAX, max(1, BYTES_MAX // _size(spec.job)), rows // ROWS_OF_A_RUN)
        looked_to = before.looked_to
        for instant in _instants(calendar, spec, key, looked_to, before.to_at):
            if self._looked == LOOKED_MAX or len(self._jobs) == most:
                break
            start = looked_to if self._looked else interval_start(calendar, spec, key, instant)
            self._look_at(instant, start)
            looked_to = instant
        else:
            looked_to = before.to_at
        after = msgspec.structs.replace(
            before,
            looked_to=looked_to,
            submitted=before.submitted + len(self._jobs) - self._reruns,
            rerun=before.rerun + self._reruns,
            kept=before.kept + self._looked - len(self._jobs),
        )
        return [*self._events, _advanced(after, self._schedule.backfill, self._jobs)]

    def _look_at(self, instant: int, start: int) -> None:
        """Make the job of an instant, run it again, or leave it alone. `start` is the begin of its data interval."""
        self._looked += 1
        queue, schedule = self._backfill.queue, self._backfill.name
        name: dict[str, Any] = {"queue": queue, "job_id": firing_id(schedule, instant)}
        job = self._state.job(job_key(**name))
        if job is None:
            self._jobs.append(name["job_id"])
            self._events += self._fire(name, instant, start)
        elif job.schedule == schedule and job.state in REPROCESSED[self._backfill.reprocess]:
            command = c.RerunJob(**name, command_id=self._schedule.backfill)
            decided = jobs.rerun(self._state, command, self._now, self._policy)
            if not isinstance(decided, Rejected):  # else a person has run it again under this id
                self._jobs.append(name["job_id"])
                self._reruns += 1
                self._events += decided

    def _fire(self, name: dict[str, Any], instant: int, start: int) -> Events:
        """The job of an instant, as a firing makes it. It does not wait for its jitter."""
        row = self._schedule
        job = job_spec(row.spec, self._backfill.name, instant, start)
        submitted = new_job(self._state, name, job, self._now, self._policy, explicit=row.spec.explicit)
        return fired(submitted, self._backfill.name, row, FiredBy.BACKFILL, instant, row.next_at)


def _size(job: JobSpec) -> int:
    """About how many bytes a template has."""
    variables = sum(len(name) + len(value) for name, value in job.environment.items())
    return 1 + len(job.payload) + sum(map(len, job.command)) + variables
