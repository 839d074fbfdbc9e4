"""Events of a queue as a whole: paused, resumed, declared. `events.py` lists them with all others."""

from ftjm.core.records.event import Event
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.core.state.queues import QueueSpec


class QueuePaused(Event, kw_only=True):
    """No attempt of the queue's jobs starts from here on. A queue that was paused has the new reason."""

    reason: str = ""
    """For people."""


class QueueResumed(Event, kw_only=True):
    """The queue's jobs start again. It may not have been paused."""


class QueueApplied(Event, kw_only=True):
    """The queue is declared, or its declaration is changed. It holds for every attempt that starts from here on."""

    revision: int
    """Higher than every revision that the partition gave out before."""
    spec: QueueSpec
    labels: dict[str, str]


class QueueUnchanged(Event, kw_only=True):
    """What a command asks of a queue's declaration is so already."""

    revision: int = 0
    """The declaration's revision; 0 if there is none."""


class QueueDeleted(Event, kw_only=True):
    """The queue's declaration is deleted: it has the defaults again. Its jobs stay."""


class QueueReordered(Event, kw_only=True):
    """Waiting jobs have the place in their queue that they would get if they came now: one slice of a process."""

    jobs: list[str]
    """Each as `queue/job_id`. `queue` of the event is empty if the process goes through all queues."""
    next_key: bytes
    """Where the next slice begins in the ready queue; empty after the last slice."""


class BulkBegun(Event, kw_only=True):
    """A request about many jobs of the queue is accepted. Each job that it changes has an event of its own."""

    bulk: str
    """`command_id` of the request."""
    action: BulkAction
    filter: JobFilter
    reason: str
    priority: int
    jobs: int = 0
    """Jobs that the queue holds: about so many will be looked at."""


class BulkAdvanced(Event, kw_only=True):
    """The last record of a slice: how far the request has come."""

    bulk: str
    next_job: str
    """Where the next slice begins; empty after the last one."""
    looked: int
    """Jobs of the queue that were looked at so far."""
    changed: int
    refused: int
    """Jobs that the filter names, and whose state does not allow the action."""


class BulkStopped(Event, kw_only=True):
    """The request is stopped. What it has changed stays so."""

    bulk: str
