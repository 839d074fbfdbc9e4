"""Decisions at the timer of a schedule: which instant fires, waits or is skipped.

    the timer of a schedule
      │  an instant waits, and the last job has ended ──────────► JobSubmitted, ScheduleFired (WAITED)
      │  time zones or calendar are of another version ─────────► ScheduleReckoned
      │      and lack its zone, or the calendar is deleted ─────► SchedulePaused
      │  the next instant is missed, and is not to be caught up ► ScheduleSkipped (MISSED), of all such instants
      │  there is a job of its id ──────────────────────────────► ScheduleSkipped (EXISTS)
      │  the last job has not ended
      │     overlap forbid; or queue, and an instant waits ─────► ScheduleSkipped (OVERLAP)
      │     overlap queue ──────────────────────────────────────► ScheduleDelayed
      │     overlap replace ────────────────────────────────────► ScheduleDelayed, and the job is cancelled
      └─ else ──────────────────────────────────────────────────► JobSubmitted, ScheduleFired (DUE)

Each timer decides one instant, or skips many at once, and sets the next timer. So catching up on a week of minutes is a
chain of batches, between commands and other timers, and no owner loops.

An instant is *missed* if its owner comes to it later than `starting_deadline_ms`: without such a time, an owner that
takes over within a second would miss every instant.

**A firing is never refused because of overload.** A client that is refused tries again; nobody would try an instant
again. How many firings there are is known from the declarations, and what overload guards against is a flood.
"""

from typing import Any

from ftjm.core.calendar import count_instants, last_before, next_instant
from ftjm.core.decide.decision import Events, Policy, calendar_of
from ftjm.core.decide.jobs import stop
from ftjm.core.decide.schedules import fired, reckoned, recurrence_of
from ftjm.core.decide.submissions import new_job
from ftjm.core.records import events as e
from ftjm.core.schedule_calendars import calendar_revision
from ftjm.core.schedule_jobs import firing_id, is_under_way, jitter, job_spec
from ftjm.core.state.model import job_key
from ftjm.core.state.schedules import CatchUp, FiredBy, Overlap, Schedule, SkipReason
from ftjm.core.state.view import StateView


def decide_instant(state: StateView, key: str, now: int, policy: Policy) -> Events:
    """The events of the schedule `key` (`queue/name`), whose timer is due."""
    schedule = state.schedule(key)
    assert schedule is not None, f"a timer of the schedule {key}, which does not exist"
    return _Firing(state, key, schedule, now, policy).decide()


class _Firing:
    """One look at one schedule."""

    def __init__(self, state: StateView, key: str, schedule: Schedule, now: int, policy: Policy) -> None:
        self._state = state
        self._key = key
        self._queue, _, self._name = key.partition("/")
        self._schedule = schedule
        self._now = now
        self._policy = policy
        # Where it lacks its calendar, it is paused before anything is reckoned.
        self._calendar = recurrence_of(state, schedule.spec, policy) or calendar_of(policy)

    def decide(self) -> Events:
        schedule = self._schedule
        under_way = is_under_way(self._state, self._queue, self._name, schedule)
        if schedule.waiting_instant and not (under_way and schedule.spec.overlap is not Overlap.ALLOW):
            return self._fire(schedule.waiting_instant, schedule.waiting_start, FiredBy.WAITED, schedule.next_at)
        assert 0 < schedule.next_at <= self._now, f"the timer of {self._key} came before {schedule.next_at}"
        revision = calendar_revision(self._state, schedule.spec)
        if (schedule.tzdata, schedule.calendar_revision) != (self._calendar.version, revision):
            return [reckoned(self._state, self._key, schedule, self._policy)]
        instant = schedule.next_at
        following = next_instant(self._calendar, schedule.spec, self._key, instant)
        first_in_time = self._now - schedule.spec.starting_deadline_ms
        if instant < first_in_time:
            catch_up = schedule.spec.catch_up
            if catch_up is CatchUp.NONE:
                return [self._missed(first_in_time)]
            if catch_up is CatchUp.LATEST and 0 < following < first_in_time:
                last = last_before(self._calendar, schedule.spec, self._key, instant, first_in_time)
                return [self._missed(last)]
        if under_way and schedule.spec.overlap is not Overlap.ALLOW:
            return self._overlapping(instant, following)
        return self._fire(instant, schedule.interval_start, FiredBy.DUE, following)

    def _missed(self, before: int) -> e.Event:
        """All instants before this time are skipped."""
        spec, first = self._schedule.spec, self._schedule.next_at
        until = last_before(self._calendar, spec, self._key, first, before)
        count = count_instants(self._calendar, spec, self._key, first, until)
        following = next_instant(self._calendar, spec, self._key, until)
        return self._skipped(first, until, count, SkipReason.MISSED, following)

    def _fire(self, instant: int, start: int, by: FiredBy, next_at: int) -> Events:
        """The job of the instant, and its firing; or that it is skipped, since there is a job of its id."""
        job_id = firing_id(self._name, instant)
        if self._state.job(job_key(self._queue, job_id)) is not None:
            return [self._skipped(instant, instant, 1, SkipReason.EXISTS, next_at)]
        spec = self._schedule.spec
        job = job_spec(spec, self._name, instant, start, jitter(spec, self._key, instant))
        name: dict[str, Any] = {"queue": self._queue, "job_id": job_id}
        submitted = new_job(self._state, name, job, self._now, self._policy, explicit=spec.explicit)
        return fired(submitted, self._name, self._schedule, by, instant, next_at)

    def _overlapping(self, instant: int, next_at: int) -> Events:
        """What becomes of an instant while the job of the last firing has not ended."""
        schedule, overlap = self._schedule, self._schedule.spec.overlap
        if overlap is Overlap.FORBID or (overlap is Overlap.QUEUE and schedule.waiting_instant):
            return [self._skipped(instant, instant, 1, SkipReason.OVERLAP, next_at)]
        events: Events = []
        if waiting := schedule.waiting_instant:
            events.append(self._skipped(waiting, waiting, 1, SkipReason.REPLACED, schedule.next_at))
        events.append(
            e.ScheduleDelayed(
                queue=self._queue, name=self._name, instant=instant, next_at=next_at, tzdata=schedule.tzdata
            )
        )
        if overlap is Overlap.REPLACE:
            job = self._state.job(job_key(self._queue, schedule.last_job))
            assert job is not None
            if not job.is_ending:
                reason = f"replaced by {firing_id(self._name, instant)}"
                events.append(stop(self._state, job_key(self._queue, schedule.last_job), job, reason))
        return events

    def _skipped(self, first: int, last: int, count: int, reason: SkipReason, next_at: int) -> e.Event:
        return e.ScheduleSkipped(
            queue=self._queue,
            name=self._name,
            instant=first,
            until=last,
            count=count,
            reason=reason,
            next_at=next_at,
            tzdata=self._schedule.tzdata,
        )
