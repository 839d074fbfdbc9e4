"""The rows of timers. The conventions of `model.py` hold for these rows, too."""

from enum import IntEnum

import msgspec


class TimerKind(IntEnum):
    """The kinds of timers. The numbers are part of the store's format."""

    DUE = 1
    """A job's start time or backoff has passed."""
    DEADLINE = 2
    """A job's deadline has passed."""
    RETENTION = 3
    """An ended job's retention has passed: it is removed from the store."""
    COMMAND_ID = 4
    """The id of a command is forgotten."""
    SESSION = 5
    """A lost session is forgotten."""
    SCHEDULE = 6
    """An instant of a schedule has come, or one that waited may fire."""
    ADOPTION = 7
    """The home of a resource tells the partitions that lag once more; without a key, a partition asks the home once
    more for all resources."""
    WINDOW = 8
    """A window opens or closes."""
    WAITING = 9
    """A job has waited in its queue for as long as a limit of the queue says."""


class Timer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A moment at which the partition decides without a command."""

    due_at: int
    kind: TimerKind
    key: str
    """A job, a command id, a session, a schedule, a resource as `kind/name` or a window."""
    attempt: int = 0
    """The attempt or run that it was set for, so that it acts on no other."""
