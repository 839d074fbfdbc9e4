"""What travels beside the log and is never replayed: dispatches, replies, heartbeats.

Fields, their order and their defaults are those of `schemas/messages`; a test holds the two together.
"""

from enum import StrEnum

import msgspec

from ftjm.core.model import JobSpec, StopReason


class Dispatch(msgspec.Struct, kw_only=True):
    """The envelope of what an owner tells a worker session."""

    session: str
    partition: int
    """The partition that sends it."""
    number: int
    """Consecutive from 1 for each partition and session: the receiver takes only the next."""


class RunAttempt(Dispatch, kw_only=True):
    queue: str
    job_id: str
    shard_key: str
    run: int
    attempt: int
    deadline_at: int
    spec: JobSpec
    checkpoint: bytes = b""
    """JSON that an earlier attempt of the run has left; empty if none has."""


class StopAttempt(Dispatch, kw_only=True):
    queue: str
    job_id: str
    attempt: int
    reason: StopReason
    grace_ms: int


class SessionClosed(Dispatch, kw_only=True):
    """The partition has given the session up: nothing more will come, and what it runs is lost."""


class Skipped(Dispatch, kw_only=True):
    """Stands for a message that has nothing to say any more, so that numbers stay consecutive."""


class CommandReply(msgspec.Struct, kw_only=True):
    """The partition's answer to a command."""

    session: str
    """The client's."""
    correlation: str
    accepted: bool
    code: str
    text: str
    queue: str
    job_id: str
    run: int
    state: str


class JobOutcome(msgspec.Struct, kw_only=True):
    """How a run that a client waits for has ended."""

    session: str
    correlation: str
    queue: str
    job_id: str
    run: int
    state: str
    reason: str
    exit_code: int
    error: str
    result: bytes


class SlotOffer(msgspec.Struct, kw_only=True):
    """How many attempts of one partition the session may hold at a time. The newest number counts."""

    partition: int
    number: int
    slots: int


class SessionState(StrEnum):
    OPEN = "OPEN"
    DRAINING = "DRAINING"
    """Takes nothing new."""
    CLOSED = "CLOSED"
    """Left in good order: holds nothing any more."""


class WorkerHeartbeat(msgspec.Struct, kw_only=True):
    session: str
    worker: str
    """The worker's name, the same over its sessions."""
    host: str
    pid: int
    state: SessionState
    lane: int
    """Of `dispatch`, on which the session listens."""
    lease_ms: int
    slots: int
    busy: int
    queues: list[str]
    offers: list[SlotOffer]


class QueueDemand(msgspec.Struct, kw_only=True):
    queue: str
    ready: int
    counts: list[int] = []
    """Its jobs in this partition, indexed by `JobState`."""
    oldest_at: int = 0
    """Since when the oldest job waits that is first of its priority, ms; 0 if none waits."""


class OfferTaken(msgspec.Struct, kw_only=True):
    """The owner has seen this number, and will not use more than it offers."""

    session: str
    number: int


class PartitionReport(msgspec.Struct, kw_only=True):
    partition: int
    role: str
    """`owner`, `standby`, `cold`, or what it is on the way between them."""
    owner_epoch: int
    applied_offset: int
    next_command: int
    demand: list[QueueDemand]
    taken: list[OfferTaken]


class SchedulerHeartbeat(msgspec.Struct, kw_only=True):
    instance: str
    host: str
    pid: int
    port: int
    """Of its inspection, on its host's loopback."""
    partitions: list[PartitionReport]
    lifeline: str = ""
    """`host:port` that others connect to, to notice its death at once; a loopback address is of its own host."""
    passive: bool = False
    """Follows everything, and joins only when no active instance is left."""
    leaving: bool = False
    """Stops in good order: this is its last heartbeat."""


class DrainWorker(msgspec.Struct, kw_only=True):
    """A wish: the worker of this name finishes what it runs, takes nothing new, and leaves."""

    worker: str
    actor: str = ""
    """Who wishes it."""


class TakeSnapshot(msgspec.Struct, kw_only=True):
    """A wish: the owners of these partitions take snapshots now."""

    partitions: list[int]
    full: bool = False
    """Whether they shall use no chunk of those before them."""
    actor: str = ""
    """Who wishes it."""


DISPATCHES: tuple[type[Dispatch], ...] = (RunAttempt, StopAttempt, SessionClosed, Skipped)
REPLIES: tuple[type[msgspec.Struct], ...] = (CommandReply, JobOutcome)
HEARTBEATS: tuple[type[msgspec.Struct], ...] = (WorkerHeartbeat, SchedulerHeartbeat, DrainWorker, TakeSnapshot)
