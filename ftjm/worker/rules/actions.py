"""The actions that the worker's rules return, and that the supervisor carries out in the given order. Pure."""

import msgspec

from ftjm.core.records.commands import AttemptReport
from ftjm.core.records.messages import RunAttempt, WorkerHeartbeat
from ftjm.core.state.model import FailureReason


class Run(msgspec.Struct, frozen=True):
    """Start the attempt."""

    key: str
    dispatch: RunAttempt


class Halt(msgspec.Struct, frozen=True):
    """Stop the attempt: SIGTERM, and SIGKILL after the grace; SIGKILL at once if the grace is 0."""

    key: str
    reason: FailureReason
    grace_ms: int


class Report(msgspec.Struct, frozen=True):
    """Append the command to the log, however long that takes. Then call `WorkerRules.report_confirmed`."""

    session: str
    command: AttemptReport


class SendHeartbeat(msgspec.Struct, frozen=True):
    """Produce the heartbeat now. Once the log has it, call `WorkerRules.heartbeat_acknowledged` with the token."""

    session: str
    token: int
    heartbeat: WorkerHeartbeat


class RenewLease(msgspec.Struct, frozen=True):
    """The attempts of the session may run until this deadline, CLOCK_BOOTTIME ms. Pass it on to the guard."""

    session: str
    deadline_ms: int


class OpenLane(msgspec.Struct, frozen=True):
    """Read this lane of `dispatch` from its present end on. Then call `WorkerRules.lane_opened`."""

    session: str
    lane: int


class CloseLane(msgspec.Struct, frozen=True):
    """The session has ended: stop reading its lane, and let the guard forget its deadline."""

    session: str


Action = Run | Halt | Report | SendHeartbeat | RenewLease | OpenLane | CloseLane
