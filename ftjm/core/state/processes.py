"""The rows of processes: work on many rows that goes on over many batches.

A process is begun by an event. Each batch of its partition advances one process by one slice, which is an event of its
own: it names what it changes, and where the next slice begins. So a process survives every takeover, and is folded like
all else. `ftjm.core.decide.processes` decides the slices.

A row is a msgpack array that begins with the struct's tag, a number. A tag that was used is never given to another
struct.
"""

from enum import IntEnum, StrEnum

import msgspec


class ProcessKind(IntEnum):
    """The kinds of processes. The numbers are part of the store's format."""

    REORDER = 1
    """Waiting jobs get the score that they would have if they came now. The name is the queue's; empty for all."""
    BULK = 2
    """An action on many jobs of a queue. The name is `queue/command_id` of the request."""
    KEYS = 3
    """Jobs of a queue get the concurrency keys that its declaration gives them. The name is the queue's."""
    BACKFILL = 6
    """Jobs of instants of a schedule that have passed. The name is the schedule's, `queue/name`."""
    RECKON = 7
    """The schedules that use a calendar are reckoned anew. The name is the calendar's."""
    WINDOW_STOP = 8
    """Attempts are stopped whose queues may not run now, by the windows that say so. It has no name."""
    TELL = 4
    """The home of a resource tells it to the partitions that lag. The name is the resource's, `kind/name`."""
    RECONCILE = 5
    """The home of resources tells all of them to one partition. The name is the partition's number."""


class Reorder(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The progress of a REORDER."""

    next_key: bytes
    """The key in the ready queue from which the next slice reads; empty for the first."""


class BulkAction(StrEnum):
    """What a bulk request does with each job."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    RERUN = "rerun"
    PURGE = "purge"
    """An ended job is removed before its retention is over."""
    PRIORITIZE = "prioritize"
    """The job's priority is changed."""


class JobFilter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The jobs of a queue that a bulk request is about: those to which every field applies."""

    states: list[str] = []
    """Names of `JobState`. Empty for all states in which the action makes sense."""
    labels: dict[str, str] = {}
    """The job has these labels, and perhaps others."""
    submitted_after: int = 0
    """Not earlier, ms; 0 is without limit."""
    submitted_before: int = 0
    """Earlier, ms; 0 is without limit."""


class Bulk(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A BULK, and how far it has come."""

    queue: str
    action: BulkAction
    filter: JobFilter
    reason: str
    priority: int
    """For PRIORITIZE."""
    order_max: int
    """Jobs and runs with a higher `order` came behind the request, and are left alone."""
    actor: str
    begun_at: int
    next_job: str = ""
    """The id from which the next slice reads."""
    looked: int = 0
    """Jobs of the queue that were looked at."""
    changed: int = 0
    refused: int = 0
    """Jobs that the filter names, and whose state does not allow the action."""
    ended_at: int = 0
    """When the last slice was done, or it was stopped; 0 while it is under way."""
    stopped: bool = False
    """Whether it was stopped before it had gone through all jobs."""
    jobs: int = 0
    """Jobs that the queue held when it was begun. More may be looked at: those that came meanwhile."""


class Keys(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """The progress of a KEYS."""

    next_key: str
    """The concurrency key with which the next slice begins; empty for the first."""


class Reckon(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """The progress of a RECKON."""

    next_schedule: str
    """The schedule, as `queue/name`, with which the next slice begins; empty for the first."""


class BackfillTurn(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """A BACKFILL that has something to do. The row of the `Backfill` has how far it has come. It is there also while
    the backfill waits for the end of its runs."""

    backfill: str
    """`command_id` of the request."""
    actor: str


class WindowStop(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """The progress of a WINDOW_STOP."""

    next_session: str
    """The session that holds the attempt with which the next slice begins; empty for the first."""
    next_job: str
    """The job of that attempt, as `queue/job_id`."""


class Tell(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The progress of a TELL."""

    next_partition: int
    """The first partition that the next slice tells."""


class Reconcile(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """The progress of a RECONCILE."""

    next_resource: str
    """The resource, as `kind/name`, with which the next slice begins; empty for the first."""


Process = Reorder | Bulk | Keys | Tell | Reconcile | BackfillTurn | Reckon | WindowStop


def bulk_name(queue: str, bulk: str) -> str:
    """The name of a bulk request's process, by which the request is remembered, too. (A request about a job has another
    form of name: `queue/job_id/…`.)"""
    return f"{queue}/{bulk}"
