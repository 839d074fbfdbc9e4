"""The rows of backfills: requests to make the jobs of instants of a schedule that have passed.

The conventions of `model.py` hold for these rows, too.
"""

from enum import StrEnum

import msgspec


class Reprocess(StrEnum):
    """Which jobs that are there already a backfill runs again. An instant without a job gets one in each case."""

    NONE = "none"
    """None of them."""
    FAILED = "failed"
    """Those that have ended without success."""
    COMPLETED = "completed"
    """All that have ended."""


class Backfill(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A backfill, and how far it has come. It first counts its instants, and then looks at each of them."""

    queue: str
    name: str
    """The schedule's name in its queue."""
    from_at: int
    to_at: int
    """It is about the instants from `from_at` to `to_at`, both included."""
    reprocess: Reprocess
    max_active: int
    """At most so many runs that it has begun have not ended."""
    actor: str
    begun_at: int
    counted_to: int
    """Instants up to this time are counted."""
    looked_to: int
    """Instants up to this time are looked at."""
    instants: int = 0
    """Instants that are counted."""
    submitted: int = 0
    """Jobs that it has made."""
    rerun: int = 0
    """Jobs that it has run again."""
    kept: int = 0
    """Instants whose job was left alone."""
    succeeded: int = 0
    """Runs that it has begun and that have succeeded."""
    failed: int = 0
    """Runs that it has begun and that have ended otherwise."""
    active: list[str] = []
    """Ids of the jobs whose runs it has begun and that have not ended."""
    ended_at: int = 0
    """When its last run has ended, or when it was stopped; 0 while it is under way."""
    stopped: bool = False
    """Whether it was stopped before it had looked at all instants."""
    reason: str = ""
    """Why it was stopped, for people."""

    @property
    def has_turn(self) -> bool:
        """Whether there is something to do now. If not, it waits for the end of one of its runs."""
        return self.counted_to < self.to_at or (self.looked_to < self.to_at and len(self.active) < self.max_active)

    @property
    def is_done(self) -> bool:
        """Whether all instants are looked at, and all its runs have ended."""
        return self.looked_to == self.to_at and not self.active


def backfill_name(queue: str, schedule: str, backfill: str) -> str:
    """The name of a backfill: `queue/schedule/command_id`."""
    return f"{queue}/{schedule}/{backfill}"
