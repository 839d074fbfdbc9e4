"""Events of a schedule: declared, paused, fired, skipped. `events.py` lists them with all others.

`tzdata` names the version of the time zones by which the next instant was reckoned.
"""

from ftjm.core.records.event import Event
from ftjm.core.state.schedules import FiredBy, ScheduleSpec, SkipReason


class ScheduleEvent(Event, kw_only=True):
    """The envelope of events about a schedule."""

    name: str
    """The schedule's name in its queue."""


class ScheduleApplied(ScheduleEvent, kw_only=True):
    """The schedule is declared, or its declaration is changed."""

    revision: int
    """Higher than every revision that the partition gave out before."""
    spec: ScheduleSpec
    labels: dict[str, str]
    next_at: int
    """The next instant; 0 if none comes, or if the schedule is paused."""
    interval_start: int
    """The instant before `next_at`."""
    decided_to: int
    """Instants up to this time are decided. A changed recurrence begins at the time of its change."""
    tzdata: str


class ScheduleUnchanged(ScheduleEvent, kw_only=True):
    """What a command asks of a schedule's declaration is so already."""

    revision: int = 0
    """The declaration's revision; 0 if there is none."""


class ScheduleDeleted(ScheduleEvent, kw_only=True):
    """The schedule is deleted, and with it what waited to fire. Its jobs stay."""


class SchedulePaused(ScheduleEvent, kw_only=True):
    """The schedule does not fire from here on. What waited to fire, or to be caught up, is dropped."""

    reason: str = ""
    """For people."""


class ScheduleResumed(ScheduleEvent, kw_only=True):
    """The schedule fires again from here on. It may not have been paused: then nothing changes."""

    next_at: int
    """The next instant; 0 if none comes."""
    interval_start: int
    """The instant before `next_at`."""
    decided_to: int
    """Instants up to this time are decided."""
    tzdata: str


class ScheduleReckoned(ScheduleEvent, kw_only=True):
    """The next instant was reckoned anew, since its owner has another version of the time zones."""

    next_at: int
    """The next instant; 0 if none comes."""
    interval_start: int
    """The instant before `next_at`."""
    tzdata: str


class SchedulesReckoned(Event, kw_only=True):
    """The last record of a slice: schedules of the partition that use a calendar were reckoned anew, since it is
    another one."""

    calendar: str
    next_schedule: str
    """Where the next slice begins, as `queue/name`; empty after the last one."""


class ScheduleFired(ScheduleEvent, kw_only=True):
    """The schedule has made a job. The job's `JobSubmitted` stands before it, in the same batch."""

    instant: int
    """The instant that fired, without jitter; of a request, its time."""
    by: FiredBy
    next_at: int
    """The next instant; 0 if none comes."""
    tzdata: str


class ScheduleDelayed(ScheduleEvent, kw_only=True):
    """An instant waits for the end of the last firing's job."""

    instant: int
    next_at: int
    """The next instant; 0 if none comes."""
    tzdata: str


class ScheduleSkipped(ScheduleEvent, kw_only=True):
    """An instant, or all instants from one to another, do not fire."""

    instant: int
    """The first of them."""
    until: int
    """The last of them."""
    count: int
    """How many they are; of a cron expression, at most 100 are counted."""
    reason: SkipReason
    next_at: int
    """The next instant; 0 if none comes."""
    tzdata: str


SCHEDULE_EVENTS: tuple[type[Event], ...] = (
    ScheduleApplied,
    ScheduleUnchanged,
    ScheduleDeleted,
    SchedulePaused,
    ScheduleResumed,
    ScheduleReckoned,
    ScheduleFired,
    ScheduleDelayed,
    ScheduleSkipped,
)
