"""What the worker's rules ask of whoever drives them, to be done in the order given. Pure."""

import msgspec

from ftjm.core.commands import AttemptReport
from ftjm.core.messages import RunAttempt, WorkerHeartbeat
from ftjm.core.model import FailureReason


class Run(msgspec.Struct, frozen=True):
    """Start the attempt."""

    key: str
    order: RunAttempt


class Halt(msgspec.Struct, frozen=True):
    """Stop the attempt: with a grace of 0 at once."""

    key: str
    reason: FailureReason
    grace_ms: int


class Report(msgspec.Struct, frozen=True):
    """Append to the log, for as long as it takes; then call `confirmed`."""

    session: str
    command: AttemptReport


class Beat(msgspec.Struct, frozen=True):
    """Produce this heartbeat now; call `acknowledged` with the token once the log has it."""

    session: str
    token: int
    heartbeat: WorkerHeartbeat


class Extend(msgspec.Struct, frozen=True):
    """The session's attempts may run until then."""

    session: str
    deadline_ms: int


class Listen(msgspec.Struct, frozen=True):
    """Read this lane from its end on, then call `opened`."""

    session: str
    lane: int


class Leave(msgspec.Struct, frozen=True):
    """The session is over: stop reading for it."""

    session: str


Duty = Run | Halt | Report | Beat | Extend | Listen | Leave
