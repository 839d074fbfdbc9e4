"""Events: what has happened. An event is never refused and never changed.

The owner of a partition appends events to the partition's log in transactions, each ended by a `BatchClosed`. Applying
them in order gives the partition's state. They are records of the topic `events`, with the job's key.

Fields, their order and their defaults are those of `schemas/events`; a test holds the two together.
"""

import msgspec

from ftjm.core.records.attempt_events import AttemptCheckpointed as AttemptCheckpointed  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptDeclined as AttemptDeclined  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptDispatched as AttemptDispatched  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptEvent as AttemptEvent  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptFailed as AttemptFailed  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptLost as AttemptLost  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptStarted as AttemptStarted  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptStopped as AttemptStopped  # noqa: PLC0414
from ftjm.core.records.attempt_events import AttemptSucceeded as AttemptSucceeded  # noqa: PLC0414
from ftjm.core.records.attempt_events import OutputEvent as OutputEvent  # noqa: PLC0414
from ftjm.core.records.backfill_events import BACKFILL_EVENTS
from ftjm.core.records.backfill_events import BackfillAdvanced as BackfillAdvanced  # noqa: PLC0414
from ftjm.core.records.backfill_events import BackfillBegun as BackfillBegun  # noqa: PLC0414
from ftjm.core.records.backfill_events import BackfillEvent as BackfillEvent  # noqa: PLC0414
from ftjm.core.records.backfill_events import BackfillStopped as BackfillStopped  # noqa: PLC0414
from ftjm.core.records.event import Cause as Cause  # noqa: PLC0414  (other files find them with the events)
from ftjm.core.records.event import Event as Event  # noqa: PLC0414
from ftjm.core.records.queue_events import BulkAdvanced as BulkAdvanced  # noqa: PLC0414
from ftjm.core.records.queue_events import BulkBegun as BulkBegun  # noqa: PLC0414
from ftjm.core.records.queue_events import BulkStopped as BulkStopped  # noqa: PLC0414
from ftjm.core.records.queue_events import QueueApplied as QueueApplied  # noqa: PLC0414
from ftjm.core.records.queue_events import QueueDeleted as QueueDeleted  # noqa: PLC0414
from ftjm.core.records.queue_events import QueuePaused as QueuePaused  # noqa: PLC0414
from ftjm.core.records.queue_events import QueueReordered as QueueReordered  # noqa: PLC0414
from ftjm.core.records.queue_events import QueueResumed as QueueResumed  # noqa: PLC0414
from ftjm.core.records.queue_events import QueueUnchanged as QueueUnchanged  # noqa: PLC0414
from ftjm.core.records.resource_events import RESOURCE_EVENTS
from ftjm.core.records.resource_events import AdoptionConfirmed as AdoptionConfirmed  # noqa: PLC0414
from ftjm.core.records.resource_events import ReconciliationBegun as ReconciliationBegun  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceAdopted as ResourceAdopted  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceApplied as ResourceApplied  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceConfirmed as ResourceConfirmed  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceDeleted as ResourceDeleted  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceEvent as ResourceEvent  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourcesAsked as ResourcesAsked  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceSettled as ResourceSettled  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourcesReconciled as ResourcesReconciled  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourcesTold as ResourcesTold  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceToldAgain as ResourceToldAgain  # noqa: PLC0414
from ftjm.core.records.resource_events import ResourceUnchanged as ResourceUnchanged  # noqa: PLC0414
from ftjm.core.records.resource_events import WindowStopsAdvanced as WindowStopsAdvanced  # noqa: PLC0414
from ftjm.core.records.resource_events import WindowTurned as WindowTurned  # noqa: PLC0414
from ftjm.core.records.schedule_events import SCHEDULE_EVENTS
from ftjm.core.records.schedule_events import ScheduleApplied as ScheduleApplied  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleDelayed as ScheduleDelayed  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleDeleted as ScheduleDeleted  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleEvent as ScheduleEvent  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleFired as ScheduleFired  # noqa: PLC0414
from ftjm.core.records.schedule_events import SchedulePaused as SchedulePaused  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleReckoned as ScheduleReckoned  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleResumed as ScheduleResumed  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleSkipped as ScheduleSkipped  # noqa: PLC0414
from ftjm.core.records.schedule_events import SchedulesReckoned as SchedulesReckoned  # noqa: PLC0414
from ftjm.core.records.schedule_events import ScheduleUnchanged as ScheduleUnchanged  # noqa: PLC0414
from ftjm.core.records.waiting_events import JobParked as JobParked  # noqa: PLC0414
from ftjm.core.records.waiting_events import JobReviewed as JobReviewed  # noqa: PLC0414
from ftjm.core.records.waiting_events import JobSkipped as JobSkipped  # noqa: PLC0414
from ftjm.core.records.waiting_events import JobStuck as JobStuck  # noqa: PLC0414
from ftjm.core.records.waiting_events import KeysSettled as KeysSettled  # noqa: PLC0414
from ftjm.core.state.model import JobSpec, StopReason


class JobSubmitted(Event, kw_only=True):
    """A new job exists. It is held, waits for its start time or its concurrency key, or is ready."""

    spec: JobSpec
    """The job as it was submitted, with the cluster's defaults."""
    due_at: int = 0
    """When it may start, ms; 0 if at once."""
    deadline_at: int = 0
    """When it must have ended, ms; 0 if it has no deadline."""
    content: bytes = b""
    """Hash of the fields that the user gave. A second submission with the same hash is the same job. 16 bytes are a
    hash of version 1; of a later version, its number stands in front as one byte."""
    awaits: bool = False
    """Whether the client that submitted it waits for the outcome."""


class SubmissionRepeated(Event, kw_only=True):
    """A job was submitted again with the same content, or asked about. The answer is the job that exists, unchanged."""

    awaits: bool = False
    """Whether the client that submitted it again, or asked about it, waits for the outcome."""


class JobQueued(Event, kw_only=True):
    """The job waits for a slot: its start time or backoff has passed, or it has its concurrency key.

    One whose time has come may find its key taken: then it is PENDING, until another `JobQueued`."""


class JobHeld(Event, kw_only=True):
    """The job does not start until it is released."""

    reason: str = ""
    """The reason that the user gave, or `WORKER_LOST`."""


class JobReleased(Event, kw_only=True):
    """A held job may start again."""


class JobStopRequested(Event, kw_only=True):
    """The worker is asked to stop the running attempt. An outcome that the attempt reaches first still counts."""

    attempt: int
    reason: StopReason
    text: str = ""
    """The reason as the user gave it."""
    grace_ms: int = 0
    """Time between SIGTERM and SIGKILL, ms."""


class JobCancelled(Event, kw_only=True):
    """The job is CANCELLED. Its run has ended."""

    reason: str = ""
    """The reason that the user gave, or `CANCELLED`."""


class JobFailed(Event, kw_only=True):
    """The job is FAILED: no attempt is left, or its deadline has passed. Its run has ended."""

    reason: str
    """A `FailureReason`, `DEADLINE` or `WORKER_LOST`."""
    error: str = ""


class JobRerun(Event, kw_only=True):
    """A new run of an ended job begins. `run` is its number."""

    deadline_at: int = 0
    """The new run's deadline, ms; 0 if it has none."""
    command_id: str = ""
    """Names the request, which is carried out only once: `queue/job_id/submitted_at/command_id` (earlier: the last)."""
    reason: str = ""
    """The reason that the user gave."""


class JobPrioritized(Event, kw_only=True):
    """The job's priority is changed."""

    priority: int


class JobForgotten(Event, kw_only=True):
    """The ended job's retention has passed: it is removed from the store. Its identity can be used again."""


class WorkerLost(Event, kw_only=True):
    """The session gets no more work from this partition: it was silent for its lease, or it closed in good order."""

    session: str
    closed: bool = False


class WorkerForgotten(Event, kw_only=True):
    """The session was lost a day ago or more, and holds no attempt any more: its row is removed from the store."""

    session: str


class CommandRejected(Event, kw_only=True):
    """A command was refused, and changed nothing."""

    code: str
    """The reason for programs: `UNKNOWN_JOB`, `WRONG_STATE`, `STALE_ATTEMPT`, …"""
    text: str
    """The reason for people: what was expected, and what was found."""
    kind: str = ""
    """The command's type; empty if the record is no command that could be read."""


class CommandForwarded(Event, kw_only=True):
    """A command lies in the log of another partition than the one that decides about it. It is sent on."""

    partition: int
    """The partition that decides."""
    body: bytes
    """The command's record, untouched."""
    reply_to: str = ""
    """The address of the answer, which the deciding partition sends: `lane/session/correlation`."""


class ForwardReceived(Event, kw_only=True):
    """A command that another partition sent on has arrived. What became of it follows in the same batch."""

    source: int
    """The partition that sent it."""
    number: int
    """Consecutive for each pair of partitions, so that a repetition is recognised. A number is left out only if the log
    has lost its command."""


class CommandIdForgotten(Event, kw_only=True):
    """The name of a request that was carried out a day ago is removed from the store."""

    command_id: str


class UpgradeFinalized(Event, kw_only=True):
    """The upgrade of the cluster is final: it cannot go back to a build that knows less than this."""

    level: int
    """The level of the records and fields that may be used from here on: see `levels.py`."""
    state_version: int
    """Snapshots of rows of an earlier version are no longer kept for an older build."""


class BatchClosed(msgspec.Struct, kw_only=True, gc=False):
    """The last record of every transaction: it holds the positions that the partition has reached.

    A transaction without it does not exist, so a follower applies its events when it reads this record.
    """

    batch_no: int
    """Counts the partition's batches from 1."""
    now: int
    """When the owner decided, ms since the Unix epoch. Never goes back."""
    next_command: int
    """Offset of the last command that was decided, plus one."""
    command_epoch: int = -1
    """Kafka's leader epoch of that command; -1 before the first. If `commands` loses its tail, the records that take
    the lost ones' offsets have a later epoch."""
    owner_epoch: int
    """Counts the partition's owners. Every takeover raises it."""
    owner: str
    """The owner's name."""
    outbox_sent: int
    """Every outbox message up to this number was delivered."""
    events: int
    """Number of events of this transaction before this record."""
    state_version: int
    """Version of the rows that the hash is made of."""
    state_hash: bytes
    """Hash of the owner's state behind this batch, chained to the hash of the batch before."""


EVENTS: tuple[type[Event], ...] = (
    JobSubmitted,
    SubmissionRepeated,
    JobQueued,
    JobParked,
    JobStuck,
    JobReviewed,
    JobHeld,
    JobReleased,
    JobStopRequested,
    JobCancelled,
    JobFailed,
    JobSkipped,
    JobRerun,
    JobPrioritized,
    JobForgotten,
    AttemptDispatched,
    AttemptStarted,
    AttemptCheckpointed,
    AttemptSucceeded,
    AttemptFailed,
    AttemptLost,
    AttemptStopped,
    AttemptDeclined,
    WorkerLost,
    WorkerForgotten,
    QueuePaused,
    QueueResumed,
    QueueApplied,
    QueueUnchanged,
    QueueDeleted,
    *SCHEDULE_EVENTS,
    SchedulesReckoned,
    *BACKFILL_EVENTS,
    *RESOURCE_EVENTS,
    WindowStopsAdvanced,
    QueueReordered,
    KeysSettled,
    BulkBegun,
    BulkAdvanced,
    BulkStopped,
    CommandRejected,
    CommandForwarded,
    ForwardReceived,
    CommandIdForgotten,
    UpgradeFinalized,
)
