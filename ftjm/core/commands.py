"""Commands: what somebody wants. May be refused.

Fields, their order and their defaults are those of `schemas/commands`; a test holds the two together.
"""

import msgspec

from ftjm.core.model import FailureReason, JobSpec


class Command(msgspec.Struct, kw_only=True):
    """The envelope of every command."""

    queue: str
    job_id: str
    shard_key: str = ""
    """What the partition is chosen by, where it is not the queue: a queue's shard, a workflow's run."""
    command_id: str = ""
    """Names this very wish, for commands that are not idempotent by themselves; remembered for 24 h."""
    actor: str = ""
    """Who wants it."""
    sent_at: int = 0
    """The sender's clock, ms; told, never used."""


class SubmitJob(Command, kw_only=True):
    spec: JobSpec
    awaits: bool = False
    """Whether the sender wants the outcome too, on its reply lane."""


class CancelJob(Command, kw_only=True):
    reason: str = ""


class HoldJob(Command, kw_only=True):
    reason: str = ""


class ReleaseJob(Command, kw_only=True):
    pass


class RerunJob(Command, kw_only=True):
    """Needs a `command_id`: each one asks for one more run."""

    reason: str = ""


class AttemptReport(Command, kw_only=True):
    """What a worker says of an attempt that it was given."""

    run: int
    attempt: int
    session: str


class StartAttempt(AttemptReport, kw_only=True):
    started_at: int
    """The worker's clock, ms."""


class CompleteAttempt(AttemptReport, kw_only=True):
    started_at: int
    ended_at: int
    exit_code: int = 0
    result: bytes = b""
    """JSON, or empty."""
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_cut: int = 0
    """Bytes of output before the tail that is kept."""
    stderr_cut: int = 0


class FailAttempt(AttemptReport, kw_only=True):
    started_at: int
    ended_at: int
    reason: FailureReason
    error: str = ""
    exit_code: int = 0
    signal: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_cut: int = 0
    stderr_cut: int = 0


class CheckpointAttempt(AttemptReport, kw_only=True):
    """How far the attempt has come. What is left at its default stays as it was."""

    data: bytes = b""
    """JSON, for the run's next attempt."""
    progress: float = -1.0
    """0 to 1."""
    text: str = ""


class DeclineAttempt(AttemptReport, kw_only=True):
    """The worker is full, or leaving: the job goes back untouched."""

    reason: str = ""


COMMANDS: tuple[type[Command], ...] = (
    SubmitJob,
    CancelJob,
    HoldJob,
    ReleaseJob,
    RerunJob,
    StartAttempt,
    CompleteAttempt,
    FailAttempt,
    CheckpointAttempt,
    DeclineAttempt,
)
