"""Decisions about a schedule as a whole: declare, delete, pause, resume, trigger.

As with queues, a declaration that is so already is accepted, whatever revision its sender expects, and so are a pause
and its end: who repeats a request, because its answer was lost, has what was asked for.

A declaration begins at the time of its decision: instants before it are no firings that were missed. One that changes
nothing of the recurrence goes on where it was.
"""

from typing import Any

from ftjm.core.calendar import OnDays, Recurrence, interval_start, next_instant
from ftjm.core.decide.decision import Events, Policy, Rejected, calendar_of, conflict, named
from ftjm.core.decide.submissions import fault_of, new_job, overloaded
from ftjm.core.job_defaults import explicit_fault
from ftjm.core.limits import INSTANT_MAX_MS, SCHEDULE_NAME_CHARACTERS_MAX
from ftjm.core.names import NAME_TEXT, is_name
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.schedule_jobs import VARIABLES, is_under_way, job_spec, request_id
from ftjm.core.state.model import job_key
from ftjm.core.state.schedules import FiredBy, Overlap, Schedule, ScheduleSpec, is_same_recurrence, schedule_key
from ftjm.core.state.view import StateView

SECOND_MS = 1_000
"""Instants are whole seconds, since the ids of their jobs have no fractions."""


def apply(state: StateView, command: c.ApplySchedule, now: int, policy: Policy) -> Events | Rejected:
    """`ScheduleApplied`, or `ScheduleUnchanged` where the schedule is declared so already."""
    key, spec = schedule_key(command.queue, command.name), command.spec
    before = state.schedule(key)
    if before is not None and (before.spec, before.labels) == (spec, command.labels):
        return [e.ScheduleUnchanged(queue=command.queue, name=command.name, revision=before.revision)]
    calendar = recurrence_of(state, spec, policy)
    if calendar is None:
        return unknown_calendar(spec)
    if fault := _fault(command, policy, calendar, now):
        return Rejected("INVALID", fault)
    if (refusal := _conflict(command, before)) is not None:
        return refusal
    goes_on = before is not None and before.next_at and is_same_recurrence(before.spec, spec)
    decided_to = before.decided_to if before is not None and goes_on else now
    next_at = 0 if before is not None and before.paused_at else next_instant(calendar, spec, key, decided_to)
    return [
        e.ScheduleApplied(
            queue=command.queue,
            name=command.name,
            # As with queues: a revision is never given out twice.
            revision=state.counters.order + 1,
            spec=spec,
            labels=command.labels,
            next_at=next_at,
            interval_start=interval_start(calendar, spec, key, next_at) if next_at else 0,
            decided_to=decided_to,
            tzdata=calendar.version,
        )
    ]


def delete(state: StateView, command: c.DeleteSchedule, now: int, policy: Policy) -> Events | Rejected:
    """`ScheduleDeleted`, and `BackfillStopped` if one is under way. `ScheduleUnchanged` where there is no such
    schedule."""
    before = state.schedule(schedule_key(command.queue, command.name))
    if before is None:
        return [e.ScheduleUnchanged(queue=command.queue, name=command.name)]
    if (refusal := _conflict(command, before)) is not None:
        return refusal
    events: Events = [e.ScheduleDeleted(queue=command.queue, name=command.name)]
    if before.backfill:
        key = schedule_key(command.queue, command.name)
        events.append(backfill_stopped(key, before.backfill, "its schedule was deleted"))
    return events


def backfill_stopped(key: str, backfill: str, reason: str = "") -> e.BackfillStopped:
    """The event that stops a backfill of the schedule `key` (`queue/name`)."""
    queue, _, name = key.partition("/")
    return e.BackfillStopped(queue=queue, name=name, backfill=backfill, reason=reason)


def pause(state: StateView, command: c.PauseSchedule, now: int, policy: Policy) -> Events | Rejected:
    """`SchedulePaused`."""
    if state.schedule(schedule_key(command.queue, command.name)) is None:
        return unknown_schedule(command)
    return [e.SchedulePaused(queue=command.queue, name=command.name, reason=command.reason)]


def resume(state: StateView, command: c.ResumeSchedule, now: int, policy: Policy) -> Events | Rejected:
    """`ScheduleResumed`: it goes on with the first instant from now on. One that was not paused goes on as it was."""
    key = schedule_key(command.queue, command.name)
    row = state.schedule(key)
    if row is None:
        return unknown_schedule(command)
    next_at, start, decided_to, tzdata = row.next_at, row.interval_start, row.decided_to, row.tzdata
    if row.paused_at:
        calendar = recurrence_of(state, row.spec, policy)
        if calendar is None:
            return unknown_calendar(row.spec)
        next_at = next_instant(calendar, row.spec, key, now)
        start = interval_start(calendar, row.spec, key, next_at) if next_at else 0
        decided_to, tzdata = now, calendar.version
    return [
        e.ScheduleResumed(
            queue=command.queue,
            name=command.name,
            next_at=next_at,
            interval_start=start,
            decided_to=decided_to,
            tzdata=tzdata,
        )
    ]


def trigger(state: StateView, command: c.TriggerSchedule, now: int, policy: Policy) -> Events | Rejected:
    """`JobSubmitted` and `ScheduleFired`; `SubmissionRepeated` where the request was carried out before."""
    key = schedule_key(command.queue, command.name)
    row = state.schedule(key)
    if row is None:
        return unknown_schedule(command)
    job_id = request_id(command.name, command.command_id)
    if not (is_name(command.command_id) and is_name(job_id)):
        expected = f"command_id: expected a name, and with it the job id {command.name}.now.COMMAND_ID as one"
        return Rejected("INVALID", f"{expected}: {NAME_TEXT}; but found {command.command_id!r}")
    name: dict[str, Any] = {"queue": command.queue, "job_id": job_id}
    job = state.job(job_key(command.queue, job_id))
    if job is not None:
        if job.schedule == command.name:
            return [e.SubmissionRepeated(**name, run=job.run)]
        text = f"expected no job {command.queue}/{job_id} but one of the schedule {command.name}, but found another"
        return Rejected("IDENTITY_TAKEN", f"{text}; use another command_id")
    if policy.overload:
        return overloaded(policy)
    if row.spec.overlap is not Overlap.ALLOW and is_under_way(state, command.queue, command.name, row):
        text = f"expected {command.queue}/{row.last_job} to have ended, since the overlap of {key} is"
        return Rejected("OVERLAP", f"{text} {row.spec.overlap}; wait for its end, or cancel it")
    calendar = recurrence_of(state, row.spec, policy) or calendar_of(policy)
    spec = job_spec(row.spec, command.name, now, interval_start(calendar, row.spec, key, now))
    submitted = new_job(state, name, spec, now, policy, explicit=row.spec.explicit)
    return fired(submitted, command.name, row, FiredBy.TRIGGERED, now, row.next_at)


def fired(job: e.JobSubmitted, name: str, row: Schedule, by: FiredBy, instant: int, next_at: int) -> Events:
    """A job of a schedule, and the firing that makes it. They are in one batch, so there is never one of them alone.

    Args:
        job: the job.
        name: the schedule's.
        row: the schedule's.
        by: what led to the firing.
        instant: the job's, ms.
        next_at: the next instant from here on, ms; 0 if none comes.
    """
    firing = e.ScheduleFired(**named(job), run=1, name=name, instant=instant, by=by, next_at=next_at, tzdata=row.tzdata)
    return [job, firing]


def recurrence_of(state: StateView, spec: ScheduleSpec, policy: Policy) -> Recurrence | None:
    """What reckons the instants of a schedule; None if this partition does not know its calendar."""
    calendar = calendar_of(policy)
    if not spec.calendar:
        return calendar
    adopted = state.calendar(spec.calendar)
    return OnDays(calendar, spec.calendar, adopted.spec) if adopted else None


def unknown_calendar(spec: ScheduleSpec) -> Rejected:
    """The refusal of what needs a calendar that this partition does not know."""
    text = f"calendar: expected a calendar that is declared, but found {spec.calendar}"
    return Rejected("UNKNOWN_CALENDAR", f"{text}; apply it first")


def reckoned(state: StateView, key: str, row: Schedule, policy: Policy) -> e.Event:
    """`ScheduleReckoned`: the next instant of a schedule by the time zones and the calendar as they are now.

    `SchedulePaused` where they cannot be used: no owner may stop for that.
    """
    queue, _, name = key.partition("/")
    calendar = recurrence_of(state, row.spec, policy)
    if calendar is None:
        return e.SchedulePaused(queue=queue, name=name, reason=f"its calendar {row.spec.calendar} was deleted")
    if reason := not_reckoned(calendar, row.spec, key):
        return e.SchedulePaused(queue=queue, name=name, reason=reason)
    next_at = next_instant(calendar, row.spec, key, row.decided_to)
    return e.ScheduleReckoned(
        queue=queue,
        name=name,
        next_at=next_at,
        interval_start=interval_start(calendar, row.spec, key, next_at) if next_at else 0,
        tzdata=calendar.version,
    )


def not_reckoned(calendar: Recurrence, spec: ScheduleSpec, key: str) -> str:
    """The reason why the instants of the schedule `key` cannot be reckoned; empty if they can."""
    fault = calendar.fault(spec, key)
    return f"its instants cannot be reckoned with time zones {calendar.version}: {fault}" if fault else ""


def unknown_schedule(command: c.ScheduleCommand) -> Rejected:
    """The refusal of a command whose schedule does not exist."""
    text = f"expected a schedule {command.queue}/{command.name}, but there is none"
    return Rejected("UNKNOWN_SCHEDULE", f"{text}; it was never applied, or it was deleted")


def _conflict(command: c.ApplySchedule | c.DeleteSchedule, before: Schedule | None) -> Rejected | None:
    found, actor = (before.revision, before.actor) if before else (0, "")
    return conflict("schedule", command.expected_revision, found, actor)


def _fault(command: c.ApplySchedule, policy: Policy, calendar: Recurrence, now: int) -> str:
    """The first error of a declaration, as text, beyond what `bounds` checks; empty if it is valid."""
    name, spec = command.name, command.spec
    key = schedule_key(command.queue, name)
    if len(name) > SCHEDULE_NAME_CHARACTERS_MAX:
        most = f"at most {SCHEDULE_NAME_CHARACTERS_MAX} characters, so that the ids of its jobs are names"
        return f"name: expected {most} ({name[:20]}….20261129T013000Z), but found {len(name)}"
    if not all(map(is_name, command.labels)):
        return "labels: expected names as keys"
    if bool(spec.cron) == bool(spec.every_ms):
        return f"cron, interval: expected one of them, but found {'both' if spec.cron else 'none'}"
    for field, value in (("interval", spec.every_ms), ("start", spec.start_at), ("end", spec.end_at)):
        if value % SECOND_MS:
            return f"{field}: expected whole seconds, but found {value} ms"
    if spec.starting_deadline_ms < SECOND_MS:
        return f"starting_deadline: expected at least {SECOND_MS} ms, but found {spec.starting_deadline_ms}"
    if fault := calendar.fault(spec, key):
        return fault
    if fault := _template_fault(spec, name, policy):
        return f"job.{fault}"
    if spec.calendar and not 0 < spec.end_at < now and not next_instant(calendar, spec, key, now):
        return f"calendar: expected instants to come on days of {spec.calendar}, but it would never fire"
    if not next_instant(calendar_of(policy), spec, key, 0):
        return "expected an instant between start and end, but it would never fire"
    return ""


def _template_fault(spec: ScheduleSpec, name: str, policy: Policy) -> str:
    job = spec.job
    for field in ("start_at", "delay_ms", "deadline_at"):
        if found := getattr(job, field):
            return f"{field}: expected none, since each instant has a start of its own, but found {found}"
    if job.deadline_ms and job.deadline_ms <= spec.jitter_ms:
        return f"deadline: expected more than the jitter, {spec.jitter_ms} ms, but found {job.deadline_ms} ms"
    if taken := [variable for variable in VARIABLES if variable in job.environment]:
        return f"environment: expected no {taken[0]}, which each firing sets"
    # As it will be submitted, with the longest values of these variables.
    submitted = job_spec(spec, name, INSTANT_MAX_MS, INSTANT_MAX_MS)
    return fault_of(submitted, policy) or explicit_fault(spec.explicit)
