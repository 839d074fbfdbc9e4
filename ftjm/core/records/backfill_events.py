"""Events of backfills: begun, advanced, stopped. `events.py` lists them with all others."""

from ftjm.core.records.event import Event
from ftjm.core.records.schedule_events import ScheduleEvent
from ftjm.core.state.backfills import Reprocess


class BackfillEvent(ScheduleEvent, kw_only=True):
    """The envelope of events about a backfill."""

    backfill: str
    """`command_id` of the request."""


class BackfillBegun(BackfillEvent, kw_only=True):
    """A request to make the jobs of instants that have passed is accepted. Each job has events of its own."""

    from_at: int
    to_at: int
    """It is about the instants from `from_at` to `to_at`, both included."""
    reprocess: Reprocess
    max_active: int
    """At most so many of the runs that it begins have not ended."""


class BackfillAdvanced(BackfillEvent, kw_only=True):
    """The last record of a slice: the runs that it has begun, and how far the backfill has come."""

    jobs: list[str]
    """Ids of the jobs whose runs this slice has begun."""
    counted_to: int
    """Instants up to this time are counted."""
    looked_to: int
    """Instants up to this time are looked at."""
    instants: int
    """Instants that are counted so far."""
    submitted: int
    """Jobs that were made so far."""
    rerun: int
    """Jobs that were run again so far."""
    kept: int
    """Instants whose job was left alone so far."""
    succeeded: int
    """Runs that it has begun and that have succeeded so far."""
    failed: int
    """Runs that it has begun and that have ended otherwise so far."""


class BackfillStopped(BackfillEvent, kw_only=True):
    """The backfill begins no further run. Those that it has begun go on."""

    reason: str = ""
    """For people."""


BACKFILL_EVENTS: tuple[type[Event], ...] = (BackfillBegun, BackfillAdvanced, BackfillStopped)
