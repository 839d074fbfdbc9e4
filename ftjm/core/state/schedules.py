"""The rows of schedules: what each is declared to be, and which of its instants are decided.

The conventions of `model.py` hold for these rows, too. An *instant* is a time at which a schedule is due, without
jitter.
"""

from enum import StrEnum

import msgspec

from ftjm.core.state.model import JobSpec


class Dst(StrEnum):
    """What happens to local times that a change of the clock skips or repeats. `ftjm.adapters.calendar.local_time` has
    the table."""

    ONCE = "once"
    SKIP = "skip"
    BOTH = "both"


class CatchUp(StrEnum):
    """What becomes of missed instants."""

    NONE = "none"
    """None of them fires."""
    LATEST = "latest"
    """The last of them fires."""
    ALL = "all"
    """Each of them fires."""


class Overlap(StrEnum):
    """What happens at an instant while the last firing's job has not ended."""

    ALLOW = "allow"
    """It fires."""
    FORBID = "forbid"
    """It is skipped."""
    QUEUE = "queue"
    """It waits for the job's end. While one waits, later ones are skipped."""
    REPLACE = "replace"
    """The job is cancelled, and the instant waits for its end. The newest instant waits, earlier ones are skipped."""


class FiredBy(StrEnum):
    """What led to a firing."""

    DUE = "DUE"
    """Its instant has come, or is caught up."""
    WAITED = "WAITED"
    """The job that its instant waited for has ended."""
    TRIGGERED = "TRIGGERED"
    """A person or a program asked for it."""
    BACKFILL = "BACKFILL"
    """A backfill has come to its instant."""


class SkipReason(StrEnum):
    """The reason why an instant did not fire."""

    MISSED = "MISSED"
    """The owner came to it later than its `starting_deadline_ms`."""
    OVERLAP = "OVERLAP"
    """The job of the last firing had not ended."""
    REPLACED = "REPLACED"
    """It waited for the end of the job of the last firing, and a later instant takes its place."""
    EXISTS = "EXISTS"
    """There is a job of its id already."""


class ScheduleSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a schedule's declaration says. Either `cron` or `every_ms` is given."""

    job: JobSpec
    """The template of the jobs."""
    cron: str = ""
    """A cron expression, in the local time of `time_zone`."""
    every_ms: int = 0
    """An instant each so many milliseconds, counted from `start_at`; if that is 0, from the Unix epoch."""
    start_at: int = 0
    """No instant is before it; 0 is without limit."""
    end_at: int = 0
    """No instant is after it; 0 is without limit."""
    time_zone: str = "UTC"
    """A name of the IANA database."""
    dst: Dst = Dst.ONCE
    starting_deadline_ms: int = 300_000
    """An instant to which its owner comes later than this is missed."""
    catch_up: CatchUp = CatchUp.NONE
    overlap: Overlap = Overlap.ALLOW
    jitter_ms: int = 0
    """A job starts up to so much later than its instant: always the same for one instant of one schedule."""
    explicit: list[str] = []
    """As in `SubmitJob`, for `job`."""
    calendar: str = ""
    """Only instants on days of this calendar count; empty is every day."""


class Schedule(msgspec.Struct, array_like=True, gc=False):
    """A schedule as it is now. Only `evolve` changes it. A schedule that is not declared has no row."""

    revision: int
    """Every change of a declaration has a higher revision than any that the partition gave out before."""
    spec: ScheduleSpec
    labels: dict[str, str] = {}
    applied_at: int = 0
    actor: str = ""
    """The person or program that made this revision."""
    next_at: int = 0
    """The next instant; 0 if none comes, or while it is paused."""
    interval_start: int = 0
    """The instant before `next_at`: begin of its data interval."""
    decided_to: int = 0
    """Instants up to this time are decided: fired, skipped, before the declaration, or in a pause."""
    tzdata: str = ""
    """The version of the time zones by which `next_at` was reckoned."""
    timer_at: int = 0
    """When its timer is due; 0 if it has none."""
    waiting_instant: int = 0
    """An instant that waits for the end of the job `last_job`; 0 if none does."""
    waiting_start: int = 0
    """Begin of the data interval of `waiting_instant`."""
    last_instant: int = 0
    """The last instant that fired; 0 if none has."""
    last_job: str = ""
    """Id of the job of the last firing; empty if there was none."""
    paused_at: int = 0
    """Since when it does not fire; 0 if it is not paused. This is status: no declaration changes it."""
    pause_reason: str = ""
    """Why it is paused, for people."""
    pause_actor: str = ""
    """The person or program that paused it; where several did, the last of them."""
    calendar_revision: int = 0
    """The revision of the calendar by which `next_at` was reckoned; 0 if it has no calendar."""
    backfill: str = ""
    """`command_id` of the backfill that is under way; empty if none is."""


def schedule_key(queue: str, name: str) -> str:
    """The canonical form of a schedule's identity: `queue/name`."""
    return f"{queue}/{name}"


def is_same_recurrence(one: ScheduleSpec, other: ScheduleSpec) -> bool:
    """Whether two declarations have the same instants, but for their end."""
    return all(getattr(one, name) == getattr(other, name) for name in _RECURRENCE)


_RECURRENCE = ("cron", "every_ms", "start_at", "time_zone", "dst", "calendar")
