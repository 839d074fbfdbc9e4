"""What a partition's state is made of.

Every struct here is a row of the store (or part of one), encoded as a msgpack array: fields may be added at
the end, with a default, together with a new `STATE_VERSION`. All times are milliseconds since the Unix epoch,
0 where there is none; all durations are milliseconds.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgspec

STATE_VERSION = 3
"""Counts changes of the rows' meaning: stores of another version are rebuilt from the log."""


class JobState(IntEnum):
    """The stored states of a job; numbers are part of the store's format."""

    SCHEDULED = 1
    """Waits for its start time."""
    PENDING = 2
    HELD = 3
    READY = 4
    """Waits in its queue for a slot."""
    DISPATCHED = 5
    """Bound to a worker's slot."""
    RUNNING = 6
    RETRY_WAIT = 7
    """Waits for the delay before its next attempt."""
    SUCCEEDED = 8
    FAILED = 9
    CANCELLED = 10
    SKIPPED = 11
    UPSTREAM_FAILED = 12


TERMINAL = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.UPSTREAM_FAILED}
)
LIVE = frozenset({JobState.DISPATCHED, JobState.RUNNING})
"""States in which a worker session holds an attempt."""


class OnWorkerLoss(StrEnum):
    """What becomes of a job whose worker was lost with it."""

    REQUEUE = "requeue"
    FAIL = "fail"
    HOLD = "hold"


class FailureReason(StrEnum):
    """Why an attempt did not succeed, as its worker saw it."""

    EXIT_CODE = "EXIT_CODE"
    SIGNAL = "SIGNAL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    START_FAILED = "START_FAILED"
    EXCEPTION = "EXCEPTION"
    """A Python task raised; the error is its traceback."""
    RESULT_REFUSED = "RESULT_REFUSED"
    """The result is not JSON, or over the limit."""
    STOPPED = "STOPPED"
    """Stopped on the owner's word: cancelled, or past its deadline."""
    GUARD_LOST = "GUARD_LOST"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    """The worker could not reach the log for its lease, and stopped the attempt itself."""
    WORKER_STOPPED = "WORKER_STOPPED"


LOSSES = frozenset({FailureReason.GUARD_LOST, FailureReason.LEASE_EXPIRED, FailureReason.WORKER_STOPPED})
"""Failures that are the worker's and not the job's: never charged to `max_attempts`."""


class StopReason(StrEnum):
    """Why a running attempt is asked to stop."""

    CANCELLED = "CANCELLED"
    DEADLINE = "DEADLINE"


class JobSpec(msgspec.Struct, frozen=True, array_like=True):
    """What the user asked for. `delay_ms` and `deadline_ms` count from the submission, and win over 0."""

    executor: str = "command"
    """`command`, or `python`: then `command` is the name of a task, and `payload` its arguments."""
    command: list[str] = []
    payload: bytes = b""
    """JSON, given to a command on standard input."""
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    working_directory: str = ""
    priority: int = 50
    """0 to 100, higher first."""
    held: bool = False
    delay_ms: int = 0
    start_at: int = 0
    timeout_ms: int = 0
    """For each attempt; 0 is none."""
    deadline_ms: int = 0
    deadline_at: int = 0
    max_attempts: int = 1
    backoff_ms: int = 1_000
    backoff_factor: float = 2.0
    backoff_max_ms: int = 300_000
    on_worker_loss: OnWorkerLoss = OnWorkerLoss.REQUEUE
    worker_losses_max: int = 3
    continue_for_ms: int = 0
    """How long an attempt goes on, and is waited for, past its worker's lease while the worker is cut off."""
    cancel_grace_ms: int = 10_000
    """Between SIGTERM and SIGKILL."""
    retention_ms: int = 0
    """How long the ended job is kept; 0 is the cluster's default."""


class Job(msgspec.Struct, array_like=True):
    """What is true of a job now. A draft: only `evolve` changes it."""

    state: JobState
    run: int = 1
    attempt: int = 0
    """Of the newest dispatch. Counts over all runs, so that it never goes back: it is the fencing token."""
    failures: int = 0
    """Attempts of this run that count against `max_attempts`."""
    losses: int = 0
    """Attempts of this run that were lost with their worker."""
    order: int = 0
    """Its place among jobs of equal priority: kept over retries, so that an old job does not queue anew."""
    priority: int = 50
    shard_key: str = ""
    content: bytes = b""
    """Hash of the user's fields as submitted."""
    continue_for_ms: int = 0
    retention_ms: int = 0
    submitted_at: int = 0
    due_at: int = 0
    """When it becomes ready: its start time or the end of its backoff."""
    deadline_at: int = 0
    ready_at: int = 0
    dispatched_at: int = 0
    started_at: int = 0
    ended_at: int = 0
    session: str = ""
    """Of the worker that holds the current attempt."""
    stopping: str = ""
    """A `StopReason` once the running attempt has been asked to stop."""
    reason: str = ""
    """Why it failed, was cancelled or is held."""
    waiters: list[str] = []
    """Reply addresses of clients that asked for the outcome."""
    checkpoint_at: int = 0
    """When the run's newest checkpoint came; 0 if there is none."""


class Session(msgspec.Struct, array_like=True):
    """One life of a worker process, as this partition knows it."""

    worker: str
    lane: int
    lease_ms: int
    live: int = 0
    """Attempts of this partition that it holds."""
    sent: int = 0
    """The last number given to a message for it."""
    lost: bool = False


class Queue(msgspec.Struct, array_like=True):
    """How many jobs a queue holds in each state, indexed by `JobState`."""

    counts: list[int]


class Peer(msgspec.Struct, array_like=True):
    """The numbers of messages between this partition and another."""

    sent: int = 0
    received: int = 0


class Outcome(msgspec.Struct, array_like=True):
    """What a run ended with, kept for clients that ask again."""

    result: bytes = b""
    exit_code: int = 0
    error: str = ""


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """How far a run has come, by its attempts' own word."""

    data: bytes = b""
    """JSON, handed to the next attempt."""
    progress: float = -1.0
    """0 to 1; below 0 if nobody said."""
    text: str = ""


class TimerKind(IntEnum):
    """What a timer is for; numbers are part of the store's format."""

    DUE = 1
    """A start time or a backoff has come."""
    DEADLINE = 2
    RETENTION = 3
    COMMAND_ID = 4
    SESSION = 5


class Timer(msgspec.Struct, frozen=True, array_like=True):
    """A moment at which the partition decides by itself."""

    due_at: int
    kind: TimerKind
    key: str
    """A job, a command id or a session."""
    attempt: int = 0
    """The attempt (or run) it was set for, so that it can never act on another."""


class MessageKind(IntEnum):
    """What an outbox entry becomes on its way; numbers are part of the store's format."""

    RUN = 1
    STOP = 2
    CLOSE = 3
    FORWARD = 4
    REPLY = 5
    OUTCOME = 6


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One entry of the outbox: what must leave the partition because of a committed event.

    A RUN or STOP holds no copy of the job: it is built from the job's row when it is sent, and is sent empty
    (`Skipped`) if the attempt is over by then, so that numbers stay consecutive.
    """

    kind: MessageKind
    destination: str
    """A session, a partition's number, or a client's reply address."""
    number: int
    """Consecutive from 1 for each destination; 0 for replies, which name what they answer."""
    queue: str = ""
    job_id: str = ""
    attempt: int = 0
    run: int = 0
    lane: int = 0
    code: str = ""
    text: str = ""
    state: int = 0
    body: bytes = b""
    reply: str = ""
    grace_ms: int = 0


class Counters(msgspec.Struct, array_like=True):
    """Numbers that the partition gives out."""

    order: int = 0
    outbox: int = 0


class Place(NamedTuple):
    """How far a topic's partition was read."""

    offset: int
    """The next one."""
    epoch: int
    """Of the leader that took the record before it; -1 where that is not known."""


class Position(msgspec.Struct, array_like=True):
    """Where a store stands in its log, and what it takes to prove that it is this log's child."""

    state_version: int = STATE_VERSION
    log_id: str = ""
    applied_offset: int = -1
    """Offset in `events` of the `BatchClosed` last applied; -1 before the first."""
    next_command: int = 0
    batch_no: int = 0
    now: int = 0
    owner_epoch: int = 0
    owner: str = ""
    outbox_sent: int = 0
    state_hash: bytes = bytes(16)
    command_epoch: int = -1

    @property
    def commands(self) -> Place:
        """How far commands were decided."""
        return Place(self.next_command, self.command_epoch)


def job_key(queue: str, job_id: str) -> str:
    """The canonical form of a job's identity: `queue/job_id`."""
    return f"{queue}/{job_id}"
