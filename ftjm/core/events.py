"""Events: what happened. Never refused, never changed.

Fields, their order and their defaults are those of `schemas/events`; a test holds the two together.
"""

from enum import StrEnum

import msgspec

from ftjm.core.model import FailureReason, JobSpec, StopReason


class Cause(StrEnum):
    """What made the partition decide; `cause_ref` says which one."""

    COMMAND = "COMMAND"
    """`cause_ref` is the command's offset."""
    TIMER = "TIMER"
    """`cause_ref` is the time at which it was due, ms."""
    CONTINUATION = "CONTINUATION"
    """`cause_ref` is the cursor of a long piece of work."""
    OFFER = "OFFER"
    """`cause_ref` is the session and the number of its offer."""
    LAPSE = "LAPSE"
    """`cause_ref` is the session that fell silent or left."""


class Event(msgspec.Struct, kw_only=True):
    """The envelope of every event but `BatchClosed`."""

    queue: str = ""
    job_id: str = ""
    run: int = 0
    shard_key: str = ""
    at: int = 0
    """The batch's `now`, ms."""
    cause: Cause = Cause.COMMAND
    cause_ref: str = ""
    actor: str = ""
    reply: str = ""
    """Where the answer to the command goes: `lane/session/correlation`; empty where nobody waits."""


class JobSubmitted(Event, kw_only=True):
    spec: JobSpec
    """As it applies: defaults of the cluster filled in."""
    due_at: int = 0
    deadline_at: int = 0
    content: bytes = b""
    awaits: bool = False


class SubmissionRepeated(Event, kw_only=True):
    """The same identity with the same content: the job that exists is the answer."""

    awaits: bool = False


class JobQueued(Event, kw_only=True):
    """Its time has come, and it waits for a slot."""


class JobHeld(Event, kw_only=True):
    reason: str = ""


class JobReleased(Event, kw_only=True):
    pass


class JobStopRequested(Event, kw_only=True):
    """Its running attempt is asked to stop; an outcome that is reached first wins."""

    attempt: int
    reason: StopReason
    text: str = ""
    grace_ms: int = 0


class JobCancelled(Event, kw_only=True):
    reason: str = ""


class JobFailed(Event, kw_only=True):
    reason: str
    """A `FailureReason`, `DEADLINE` or `WORKER_LOST`."""
    error: str = ""


class JobRerun(Event, kw_only=True):
    """A new run begins; `run` is its number."""

    deadline_at: int = 0
    command_id: str = ""
    reason: str = ""


class JobForgotten(Event, kw_only=True):
    """The ended job's retention is over, and it leaves the store."""


class AttemptDispatched(Event, kw_only=True):
    attempt: int
    session: str
    worker: str
    lane: int
    lease_ms: int
    offer: int


class AttemptStarted(Event, kw_only=True):
    attempt: int
    session: str
    started_at: int


class AttemptCheckpointed(Event, kw_only=True):
    """How far it has come. What is left at its default stays as it was."""

    attempt: int
    session: str
    data: bytes = b""
    progress: float = -1.0
    text: str = ""


class AttemptSucceeded(Event, kw_only=True):
    """The run's one success; the job is SUCCEEDED."""

    attempt: int
    session: str
    started_at: int
    ended_at: int
    exit_code: int = 0
    result: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_cut: int = 0
    stderr_cut: int = 0


class AttemptFailed(Event, kw_only=True):
    """Counts against `max_attempts`. If it was the last one, `JobFailed` or `JobCancelled` follows."""

    attempt: int
    session: str
    started_at: int
    ended_at: int
    reason: FailureReason
    error: str = ""
    exit_code: int = 0
    signal: int = 0
    retry_at: int = 0
    """When the next attempt may start; 0 if there is none."""
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_cut: int = 0
    stderr_cut: int = 0


class AttemptLost(Event, kw_only=True):
    """Lost with its worker, and not charged. `retry_at` as in `AttemptFailed`."""

    attempt: int
    session: str
    reason: str
    retry_at: int = 0


class AttemptDeclined(Event, kw_only=True):
    attempt: int
    session: str
    reason: str = ""


class WorkerLost(Event, kw_only=True):
    """A session is over for this partition: it fell silent for its lease, or closed in good order."""

    session: str
    closed: bool = False


class WorkerForgotten(Event, kw_only=True):
    session: str


class CommandRejected(Event, kw_only=True):
    """A command was refused, and why: "expected …, but …"."""

    code: str
    text: str
    kind: str = ""
    """The command's type, where it could be told."""


class CommandForwarded(Event, kw_only=True):
    """A command that landed in the wrong partition goes on to the right one."""

    partition: int
    body: bytes
    """The command's record, untouched."""
    reply_to: str = ""
    """Where its answer goes; the partition that it goes to gives it."""


class ForwardReceived(Event, kw_only=True):
    """A forwarded command has arrived; what became of it follows. Repeats are told by the number.

    A number is left out only where the log has lost it.
    """

    source: int
    number: int


class CommandIdForgotten(Event, kw_only=True):
    command_id: str


class BatchClosed(msgspec.Struct, kw_only=True):
    """The last record of every transaction: how far the partition has come."""

    batch_no: int
    now: int
    next_command: int
    """Offset of the last command consumed, plus one."""
    command_epoch: int = -1
    """Kafka's leader epoch of that command; -1 before the first. In a log that has lost its tail, what comes to lie in
    its place is of a later one."""
    owner_epoch: int
    owner: str
    outbox_sent: int
    """Every outbox entry up to this one has been delivered."""
    events: int
    """How many records of this transaction precede this one."""
    state_version: int
    state_hash: bytes


EVENTS: tuple[type[Event], ...] = (
    JobSubmitted,
    SubmissionRepeated,
    JobQueued,
    JobHeld,
    JobReleased,
    JobStopRequested,
    JobCancelled,
    JobFailed,
    JobRerun,
    JobForgotten,
    AttemptDispatched,
    AttemptStarted,
    AttemptCheckpointed,
    AttemptSucceeded,
    AttemptFailed,
    AttemptLost,
    AttemptDeclined,
    WorkerLost,
    WorkerForgotten,
    CommandRejected,
    CommandForwarded,
    ForwardReceived,
    CommandIdForgotten,
)
