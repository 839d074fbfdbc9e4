"""The rows of a partition's store.

Every struct here is a row, or part of one. A row is a msgpack array of the fields in their order. So fields may only be
added at the end, with a default, together with a new `STATE_VERSION` and a migration.

Times are milliseconds since the Unix epoch, 0 where there is none. Durations are milliseconds.

Rows and records hold values and lists of values, so they are never part of a reference cycle. They are left out of
Python's garbage collection (`gc=False`), which took a tenth of a scheduler's processor time.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgspec

from ftjm.core.state.executors import COMMAND

STATE_VERSION = 8
"""Counts changes of the rows' meaning. `ftjm.core.state.migrations` brings rows of earlier versions to this one."""


class JobState(IntEnum):
    """The stored states of a job. The numbers are part of the store's format."""

    SCHEDULED = 1
    """It waits for its start time."""
    PENDING = 2
    HELD = 3
    READY = 4
    """It waits in its queue for a slot."""
    DISPATCHED = 5
    """It is bound to a slot of a worker's session."""
    RUNNING = 6
    RETRY_WAIT = 7
    """It waits for the backoff before its next attempt."""
    SUCCEEDED = 8
    FAILED = 9
    CANCELLED = 10
    SKIPPED = 11
    UPSTREAM_FAILED = 12


TERMINAL = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SKIPPED, JobState.UPSTREAM_FAILED}
)
"""States in which a run has ended."""
DEAD = frozenset({JobState.FAILED, JobState.UPSTREAM_FAILED})
"""States of jobs that failed for good. A queue may keep them for longer (`dead_letter`)."""
LIVE = frozenset({JobState.DISPATCHED, JobState.RUNNING})
"""States in which a worker's session holds an attempt of the job."""


class Ahead(IntEnum):
    """Whether an attempt was sent ahead of a free slot. The numbers are part of the store's format."""

    NO = 0
    """The current attempt was sent to a free slot, or it is known to have started. Later ones may be sent ahead."""
    UNSTARTED = 1
    """The current attempt was sent ahead, and is not known to have started."""
    NEVER = 2
    """An attempt of this run came back unstarted. The run's later attempts are sent to free slots only."""


class OnWorkerLoss(StrEnum):
    """How a job continues whose attempt was lost with its worker."""

    REQUEUE = "requeue"
    FAIL = "fail"
    HOLD = "hold"


class FailureReason(StrEnum):
    """The reason why an attempt did not succeed, as its worker reports it."""

    EXIT_CODE = "EXIT_CODE"
    SIGNAL = "SIGNAL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    START_FAILED = "START_FAILED"
    EXCEPTION = "EXCEPTION"
    """A Python task raised; the error is its traceback."""
    RESULT_REFUSED = "RESULT_REFUSED"
    """The result is not JSON, or is larger than the limit. It is not tried again, since the work was done."""
    STOPPED = "STOPPED"
    """It was stopped at the owner's request: see `StopReason`."""
    GUARD_LOST = "GUARD_LOST"
    """The process that guards the attempt's process has died, and the attempt may have caused it."""
    GUARD_LOST_BESIDE = "GUARD_LOST_BESIDE"
    """The process that guards the attempt's process has died, and another attempt is suspected."""
    LEASE_EXPIRED = "LEASE_EXPIRED"
    """The worker could not reach the log for the length of its lease, and stopped the attempt itself."""
    WORKER_STOPPED = "WORKER_STOPPED"
    """The worker stopped before the attempt had ended."""


GUARD_LOSSES = frozenset({FailureReason.GUARD_LOST, FailureReason.GUARD_LOST_BESIDE})
"""Losses after which the job's next attempt runs under a guard of its own."""
LOSSES = GUARD_LOSSES | {FailureReason.LEASE_EXPIRED, FailureReason.WORKER_STOPPED}
"""Failures that are the worker's and not the job's. They do not count against `max_attempts`."""


class StopReason(StrEnum):
    """The reason why a running attempt is asked to stop."""

    CANCELLED = "CANCELLED"
    DEADLINE = "DEADLINE"
    WINDOW = "WINDOW"
    """The windows of its queue let nothing start on its worker now, and say that attempts are stopped then. The job
    does not end: it waits for the next opening."""


class JobSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the user asked for.

    `delay_ms` and `deadline_ms` count from the submission. They win over `start_at` and `deadline_at` unless they are
    0.
    """

    executor: str = COMMAND
    """One of `executors.EXECUTORS`."""
    command: list[str] = []
    """The program and its arguments; of a Python task its name."""
    payload: bytes = b""
    """JSON: a command reads it from standard input, a task gets it as its arguments."""
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    working_directory: str = ""
    priority: int = 50
    """0 to 100, higher first."""
    held: bool = False
    delay_ms: int = 0
    start_at: int = 0
    timeout_ms: int = 0
    """How long each attempt may take; 0 is without limit."""
    deadline_ms: int = 0
    deadline_at: int = 0
    max_attempts: int = 1
    backoff_ms: int = 1_000
    backoff_factor: float = 2.0
    backoff_max_ms: int = 300_000
    on_worker_loss: OnWorkerLoss = OnWorkerLoss.REQUEUE
    worker_losses_max: int = 3
    """How often a run's attempts may be lost with their worker before the job fails."""
    continue_for_ms: int = 0
    """How long an attempt may run on, and is waited for, after its worker was cut off for its lease. At most
    `CONTINUE_FOR_MAX_MS`."""
    cancel_grace_ms: int = 10_000
    """Time between SIGTERM and SIGKILL."""
    retention_ms: int = 0
    """How long the ended job is kept; 0 is the cluster's default."""
    concurrency_key: str = ""
    """The queue limits how many of its jobs with the same key have a worker at a time. Empty if the job has no key."""
    share_identifier: str = ""
    """The share of its queue that it belongs to; empty is a share of its own."""


class Job(msgspec.Struct, array_like=True, gc=False):
    """A job as it is now. Only `evolve` changes it."""

    state: JobState
    run: int = 1
    attempt: int = 0
    """The newest attempt. It counts over all runs and never goes back, so it fences reports of earlier attempts."""
    failures: int = 0
    """Attempts of this run that count against `max_attempts`."""
    losses: int = 0
    """Attempts of this run that were lost with their worker, but for those that were lost beside a suspect."""
    order: int = 0
    """Its place among jobs of equal score. It is kept over retries."""
    priority: int = 50
    shard_key: str = ""
    content: bytes = b""
    """Hash of the fields as the user gave them: a second submission is the same job if its hash is the same."""
    continue_for_ms: int = 0
    retention_ms: int = 0
    """How long it is kept when it has ended. While it is FAILED or UPSTREAM_FAILED, at least its queue's dead letter
    time as of that end."""
    submitted_at: int = 0
    due_at: int = 0
    """When it becomes ready: its start time or the end of its backoff."""
    deadline_at: int = 0
    ready_at: int = 0
    dispatched_at: int = 0
    started_at: int = 0
    ended_at: int = 0
    session: str = ""
    """The worker's session that holds the current attempt; empty if there is none."""
    stopping: str = ""
    """A `StopReason` if the running attempt was asked to stop; else empty. See `is_ending`."""
    reason: str = ""
    """The reason why it failed, was cancelled or is held."""
    waiters: tuple[str, ...] = ()
    """Reply addresses of the clients that wait for the outcome."""
    checkpoint_at: int = 0
    """When the run's newest checkpoint was reported; 0 if there is none."""
    content_version: int = 1
    """Version of the algorithm that made `content`."""
    ahead: Ahead = Ahead.NO
    """Whether the run's current attempt was sent ahead of a free slot, and whether later ones may be."""
    eligible_at: int = 0
    """When the run became READY first. It is kept over retries, so that a retry does not queue behind newer jobs. 0 if
    that was before the cluster knew ageing."""
    score: int = 0
    """Its place in its queue while it is READY, lower first: see `ftjm.core.ageing`. 0 in other states."""
    schedule: str = ""
    """The schedule that made it; empty if none did."""
    concurrency_key: str = ""
    """As in its `JobSpec`."""
    share: str = ""
    """The `share_identifier` of its `JobSpec`."""
    charged: int = 0
    """How much of its share's usage its current attempt was charged with at its dispatch; 0 if nothing is charged."""
    pending_at: int = 0
    """Since when it is PENDING, ms; 0 in other states."""
    look_at: int = 0
    """When the waiting limits of its queue are looked at next, ms; 0 if there are none, or if it is neither READY nor
    PENDING."""

    @property
    def is_ending(self) -> bool:
        """Whether the job ends with its attempt, which was asked to stop: it gets no other one."""
        return self.stopping not in ("", StopReason.WINDOW)


class Session(msgspec.Struct, array_like=True, gc=False):
    """A worker's session, as this partition knows it. A worker that starts again has a new session."""

    worker: str
    lane: int
    lease_ms: int
    live: int = 0
    """Attempts of this partition that it holds."""
    sent: int = 0
    """Number of the newest message to it."""
    lost: bool = False
    """It fell silent or closed, and gets no more work."""


class Peer(msgspec.Struct, array_like=True, gc=False):
    """The numbers of the messages between this partition and another."""

    sent: int = 0
    """Number of the newest command that was sent to it."""
    received: int = 0
    """Number of the newest command that it sent to us."""
    ask_at: int = 0
    """When it is asked once more for all resources, ms; 0 if none is missing. Only the row of the home has it."""


class Outcome(msgspec.Struct, array_like=True, gc=False):
    """The outcome of a run. It is kept for clients that ask again."""

    result: bytes = b""
    exit_code: int = 0
    error: str = ""


class Checkpoint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The progress of a run, as its attempts reported it."""

    data: bytes = b""
    """JSON that the run's next attempt gets."""
    progress: float = -1.0
    """0 to 1; below 0 if it was not reported."""
    text: str = ""
    """A line for people."""


class Counters(msgspec.Struct, array_like=True, gc=False):
    """The next numbers that the partition gives out are one higher."""

    order: int = 0
    """The newest job's `order`."""
    outbox: int = 0
    """Number of the newest outbox message."""


class Finalized(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The versions that an upgrade has made final. This row never changes its form: every build must read it."""

    level: int = 1
    """The record level whose records and fields may be used: see `core/records/levels.py`."""
    state_version: int = 0
    """Older versions of rows are not kept any longer for an older build; 0 if no upgrade was ever finalised."""

    def before(self, other: "Finalized") -> bool:
        """Whether `other` finalises anything that this does not."""
        return self.level < other.level or self.state_version < other.state_version


class LogPosition(NamedTuple):
    """The position up to which a partition of a topic was read."""

    offset: int
    """Offset of the next record to read."""
    epoch: int
    """Leader epoch of the record before it; -1 if it is not known."""


class Position(msgspec.Struct, array_like=True, gc=False):
    """The position of a store in its log, and the proof that it was folded from this log."""

    state_version: int = STATE_VERSION
    """Version of the rows. It is the first value of this row in every version."""
    log_id: str = ""
    """Id of the topic `events`."""
    applied_offset: int = -1
    """Offset in `events` of the newest `BatchClosed` that was applied; -1 before the first."""
    next_command: int = 0
    """Offset in `commands` of the next command to decide."""
    batch_no: int = 0
    now: int = 0
    """The newest batch's time, ms."""
    owner_epoch: int = 0
    owner: str = ""
    outbox_sent: int = 0
    """Every outbox message up to this number was delivered."""
    state_hash: bytes = bytes(16)
    """The newest batch's hash, as the log has it."""
    command_epoch: int = -1
    """Leader epoch of the newest command that was decided; -1 before the first."""

    @property
    def commands(self) -> LogPosition:
        """The position up to which commands were decided."""
        return LogPosition(self.next_command, self.command_epoch)


class MigrationCursor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The progress of the migration of a store's rows. The row exists only until the migration is complete."""

    from_version: int
    """The version of the rows that are not migrated yet."""
    next_key: bytes
    """The first key that is not migrated yet."""


def job_key(queue: str, job_id: str) -> str:
    """The canonical form of a job's identity: `queue/job_id`."""
    return f"{queue}/{job_id}"
