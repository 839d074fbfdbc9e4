"""Events of a schedule: declared, paused, resumed, reckoned anew, fired, delayed, skipped, deleted.

A schedule has at most one timer. What that stands for follows from the row; `_set_timer` is the one place that says it:

| the schedule | its timer is due |
|---|---|
| is paused | it has none |
| has an instant that waits, and the last firing's job has ended, or instants may overlap | at once |
| has a next instant | at that instant, or at once if it has passed |
| else | it has none |

So the end of a job lets a waiting instant fire, and nothing is searched: the job's row names its schedule.
"""

from ftjm.core.evolve import backfills
from ftjm.core.records import events as e
from ftjm.core.schedule_calendars import calendar_revision
from ftjm.core.schedule_jobs import is_under_way
from ftjm.core.state.model import TERMINAL, Job
from ftjm.core.state.processes import ProcessKind, Reckon
from ftjm.core.state.schedules import FiredBy, Overlap, Schedule, schedule_key
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind


def applied(state: State, event: e.ScheduleApplied, _key: str) -> None:
    """The schedule is declared so. Its status stays: whether it is paused, and what waits."""
    state.counters.order += 1
    state.save_counters()
    assert event.revision == state.counters.order
    row = state.schedule(schedule_key(event.queue, event.name)) or Schedule(event.revision, event.spec)
    row.revision, row.spec, row.labels = event.revision, event.spec, event.labels
    row.applied_at, row.actor = event.at, event.actor
    row.next_at, row.interval_start, row.tzdata = event.next_at, event.interval_start, event.tzdata
    row.decided_to = event.decided_to
    row.calendar_revision = calendar_revision(state, row.spec)
    _save(state, event, row)


def unchanged(_state: State, _event: e.ScheduleUnchanged, _key: str) -> None:
    """Nothing changes. The event answers a command."""


def deleted(state: State, event: e.ScheduleDeleted, _key: str) -> None:
    """There is no such schedule any more."""
    key, row = schedule_key(event.queue, event.name), _existing(state, event)
    if row.timer_at:
        state.clear_timer(Timer(row.timer_at, TimerKind.SCHEDULE, key))
    state.drop_schedule(key)


def paused(state: State, event: e.SchedulePaused, _key: str) -> None:
    """It does not fire. Where it was paused before, it has been since then."""
    row = _existing(state, event)
    row.paused_at = row.paused_at or event.at
    row.pause_reason, row.pause_actor = event.reason, event.actor
    row.next_at = row.interval_start = row.waiting_instant = row.waiting_start = 0
    _save(state, event, row)


def resumed(state: State, event: e.ScheduleResumed, _key: str) -> None:
    """It fires again. One that was not paused goes on as it was, also if it is still to be reckoned anew."""
    row = _existing(state, event)
    if row.paused_at:
        row.calendar_revision = calendar_revision(state, row.spec)
    row.paused_at, row.pause_reason, row.pause_actor = 0, "", ""
    row.next_at, row.interval_start, row.tzdata = event.next_at, event.interval_start, event.tzdata
    row.decided_to = event.decided_to
    _save(state, event, row)


def reckoned(state: State, event: e.ScheduleReckoned, _key: str) -> None:
    """Its next instant is another one."""
    row = _existing(state, event)
    row.next_at, row.interval_start, row.tzdata = event.next_at, event.interval_start, event.tzdata
    row.calendar_revision = calendar_revision(state, row.spec)
    _save(state, event, row)


def all_reckoned(state: State, event: e.SchedulesReckoned, _key: str) -> None:
    """A slice of reckoning the schedules that use a calendar is done."""
    assert state.process(ProcessKind.RECKON, event.calendar) is not None
    if event.next_schedule:
        state.save_process(ProcessKind.RECKON, event.calendar, Reckon(event.next_schedule))
    else:
        state.drop_process(ProcessKind.RECKON, event.calendar)


def fired(state: State, event: e.ScheduleFired, key: str) -> None:
    """It has made a job, which exists already: `JobSubmitted` stands before this event."""
    row = _existing(state, event)
    made(state, event, key)
    if event.by is FiredBy.BACKFILL:
        return  # it is about an instant that has passed, and not about those to come
    row.last_job = event.job_id
    if event.by is FiredBy.WAITED:
        _stop_waiting(row, event.instant)
    if event.by is FiredBy.DUE:
        _advance(row, event.instant, event.instant, event.next_at)
    if event.by is not FiredBy.TRIGGERED:
        row.last_instant = max(row.last_instant, event.instant)
    _save(state, event, row)


def made(state: State, event: e.ScheduleFired, key: str) -> None:
    """The job is of the schedule. This is what the event changes of the job's own row."""
    job = state.job(key)
    assert job is not None
    assert not job.schedule, f"{key} is of the schedule {job.schedule}"
    job.schedule = event.name
    state.save_job(key, job)


def delayed(state: State, event: e.ScheduleDelayed, _key: str) -> None:
    """The instant waits for the end of the last firing's job."""
    row = _existing(state, event)
    assert not row.waiting_instant, f"{event.name} has an instant that waits"
    row.waiting_instant, row.waiting_start = event.instant, row.interval_start
    _advance(row, event.instant, event.instant, event.next_at)
    _save(state, event, row)


def skipped(state: State, event: e.ScheduleSkipped, _key: str) -> None:
    """The instant that waited, or the next instants, do not fire."""
    row = _existing(state, event)
    if event.instant == row.waiting_instant:
        _stop_waiting(row, event.instant)
    else:
        _advance(row, event.instant, event.until, event.next_at)
    _save(state, event, row)


def job_moved(state: State, event: e.Event, job: Job) -> None:
    """A job that a schedule has made has ended, or begins another run: what waits for its end may fire, or waits on.
    A backfill may begin another one."""
    row = state.schedule(schedule_key(event.queue, job.schedule))
    if row is None:
        return
    if row.waiting_instant and row.last_job == event.job_id:
        _set_timer(state, event, job.schedule, row)
    if row.backfill and job.state in TERMINAL:
        backfills.job_ended(state, event, job, row)


def _existing(state: State, event: e.ScheduleEvent) -> Schedule:
    row = state.schedule(schedule_key(event.queue, event.name))
    assert row is not None, f"{type(event).__name__} of {event.queue}/{event.name}, which does not exist"
    return row


def _advance(row: Schedule, first: int, last: int, next_at: int) -> None:
    """The instants from `first` to `last` are decided."""
    assert row.next_at == first, f"expected the instant {row.next_at} to be decided, but found {first}"
    assert next_at > last or not next_at
    row.decided_to = row.interval_start = last
    row.next_at = next_at


def _stop_waiting(row: Schedule, instant: int) -> None:
    assert row.waiting_instant == instant
    row.waiting_instant = row.waiting_start = 0


def _save(state: State, event: e.ScheduleEvent, row: Schedule) -> None:
    """Write the row, with the timer that follows from it."""
    _set_timer(state, event, event.name, row)


def _set_timer(state: State, event: e.Event, name: str, row: Schedule) -> None:
    """Set the timer of the schedule by the table above, and write its row."""
    key = schedule_key(event.queue, name)
    if row.paused_at:
        timer_at = 0
    elif row.waiting_instant and (row.spec.overlap is Overlap.ALLOW or not is_under_way(state, event.queue, name, row)):
        timer_at = event.at
    else:
        timer_at = max(row.next_at, event.at) if row.next_at else 0
    if timer_at != row.timer_at:
        if row.timer_at:
            state.clear_timer(Timer(row.timer_at, TimerKind.SCHEDULE, key))
        if timer_at:
            state.set_timer(Timer(timer_at, TimerKind.SCHEDULE, key))
        row.timer_at = timer_at
    state.save_schedule(key, row)
