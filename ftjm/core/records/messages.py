"""Messages: dispatches to workers, replies to clients, and heartbeats. They are never replayed.

Fields, their order and their defaults are those of `schemas/messages`; a test holds the two together.
"""

from enum import StrEnum

import msgspec

from ftjm.core.state.model import JobSpec, StopReason


class Dispatch(msgspec.Struct, kw_only=True, gc=False):
    """The envelope of what a partition's owner sends to a worker's session."""

    session: str
    partition: int
    """The partition that sends it."""
    number: int
    """Consecutive from 1 for each pair of partition and session. The session takes only the next number."""


class RunAttempt(Dispatch, kw_only=True):
    """The worker shall run the attempt."""

    queue: str
    job_id: str
    shard_key: str
    run: int
    attempt: int
    deadline_at: int
    """When the job must have ended, ms; 0 if it has no deadline. A worker declines the attempt once it has passed."""
    spec: JobSpec
    checkpoint: bytes = b""
    """JSON that an earlier attempt of the run has left; empty if there is none."""
    losses: int = 0
    """How often an attempt of the run was lost, if the newest one was lost with its guard; else 0. The worker gives the
    attempt a guard of its own."""


class StopAttempt(Dispatch, kw_only=True):
    """The worker shall stop the attempt."""

    queue: str
    job_id: str
    attempt: int
    reason: StopReason
    grace_ms: int
    """Time between SIGTERM and SIGKILL, ms."""


class SessionClosed(Dispatch, kw_only=True):
    """The partition has given the session up. What the session runs for it is lost, except attempts with
    `continue_for`: requests to stop those may follow, and nothing else."""


class Skipped(Dispatch, kw_only=True):
    """Takes the place of a message whose attempt ended before it was sent, so that numbers stay consecutive."""


class CommandReply(msgspec.Struct, kw_only=True, gc=False):
    """The partition's answer to a command."""

    session: str
    """The client's session."""
    correlation: str
    """The client's name for the command."""
    accepted: bool
    code: str
    """The code of the refusal, for programs; empty if the command was accepted."""
    text: str
    """The text of the refusal, for people; empty if the command was accepted."""
    queue: str
    job_id: str
    run: int
    state: str
    """The job's state after the command; empty if there is no such job."""


class JobOutcome(msgspec.Struct, kw_only=True, gc=False):
    """The outcome of a run that a client waits for."""

    session: str
    """The client's session."""
    correlation: str
    """The client's name for the command that asked for it."""
    queue: str
    job_id: str
    run: int
    state: str
    reason: str
    """The reason why the job failed or was cancelled; empty if it succeeded."""
    exit_code: int
    error: str
    result: bytes
    """JSON; empty if there is none."""


class SlotOffer(msgspec.Struct, kw_only=True, gc=False):
    """How many attempts of one partition the session will hold at a time. The offer with the newest number counts."""

    partition: int
    number: int
    slots: int
    ahead: int = 0
    """How many more it will hold while all these slots are taken, so that a slot that becomes free has work at hand."""


class SessionState(StrEnum):
    """The state of a worker's session."""

    OPEN = "OPEN"
    """It takes attempts."""
    DRAINING = "DRAINING"
    """It finishes its running attempts, and takes no new one."""
    CLOSED = "CLOSED"
    """It has stopped in good order, and holds no attempt any more."""


class WorkerHeartbeat(msgspec.Struct, kw_only=True, gc=False):
    """A worker's session is alive, and offers slots."""

    session: str
    worker: str
    """The worker's name, the same over its sessions."""
    host: str
    pid: int
    state: SessionState
    lane: int
    """Partition of `dispatch` that the session reads."""
    lease_ms: int
    """How long the session may be silent before it is lost."""
    slots: int
    busy: int
    """Slots in use."""
    queues: list[str]
    """Queues that it takes attempts of."""
    offers: list[SlotOffer]


class QueueDemand(msgspec.Struct, kw_only=True, gc=False):
    """How many jobs of a queue one partition has."""

    queue: str
    """Empty for all queues with waiting jobs that are not in the list, because there are too many: any worker may be
    the one that they wait for."""
    ready: int
    """Jobs that wait for a slot."""
    counts: list[int] = []
    """Jobs in each state, indexed by `JobState`."""
    oldest_at: int = 0
    """Since when the job waits that is served next, ms; 0 if none waits."""
    paused: bool = False
    """None of its jobs starts, so that nobody need offer it a slot."""
    limited: bool = False
    """The limits of the queue let no more of its jobs start just now: it can use the slots that its jobs have, and no
    others."""
    weight: int = 1
    """As in the queue's declaration."""
    starts_per_minute: int = 0
    """Attempts of its jobs that were dispatched in the last minute."""


class OfferTaken(msgspec.Struct, kw_only=True, gc=False):
    """The owner has seen this offer of the session, and uses no more slots than it offers."""

    session: str
    number: int


class PartitionReport(msgspec.Struct, kw_only=True, gc=False):
    """The role and progress of a scheduler in one partition."""

    partition: int
    role: str
    """`owner`, `standby`, `cold`, or the step between two of them."""
    owner_epoch: int
    applied_offset: int
    next_command: int
    demand: list[QueueDemand]
    taken: list[OfferTaken]
    cordoned: list[str] = []
    """Names of the workers that are cordoned, if the scheduler owns the home of cordons."""


class SchedulerHeartbeat(msgspec.Struct, kw_only=True, gc=False):
    """A scheduler is alive, and reports its role in each partition."""

    instance: str
    host: str
    pid: int
    port: int
    """Port of its inspection server, on its host's loopback interface."""
    partitions: list[PartitionReport]
    lifeline: str = ""
    """`host:port` that other schedulers keep a connection to, so that they notice its death at once. A loopback address
    is valid on its own host only."""
    passive: bool = False
    """It follows every partition, and owns some only when no active scheduler is left."""
    leaving: bool = False
    """It stops in good order: this is its last heartbeat."""


class PartitionVersion(msgspec.Struct, kw_only=True, gc=False):
    """The versions that are final in a partition that the announcing scheduler owns."""

    partition: int
    level: int
    state_version: int


class MemberVersion(msgspec.Struct, kw_only=True, gc=False):
    """The versions that the build of a scheduler, worker or API supports.

    It is sent on the lane of the member's heartbeats, before them. It is a record of its own, and no field of a
    heartbeat, so that builds which do not know it can still read the heartbeats. For the same reason it never gets a
    second version.
    """

    member: str
    """Its identity, as in its heartbeats: a scheduler's instance, a worker's session."""
    name: str
    """Its name for people: `w@host:pid`."""
    role: str
    """`scheduler`, `worker` or `api`."""
    release: str
    level: int
    """The newest record level that it reads and writes."""
    state_version: int
    """The version of rows that it writes, and the newest that it reads; 0 for a worker, which reads none."""
    leaving: bool = False
    """It stops in good order."""
    partitions: list[PartitionVersion] = []
    """For a scheduler: the partitions that it owns, and what is final in each."""


class FinalizeUpgrade(msgspec.Struct, kw_only=True, gc=False):
    """A request: the owners of these partitions record that the upgrade to this level is final."""

    partitions: list[int]
    level: int
    state_version: int
    actor: str = ""
    """The person who requests it."""


class DrainWorker(msgspec.Struct, kw_only=True, gc=False):
    """A request: the worker of this name finishes its running attempts, takes no new one, and stops."""

    worker: str
    actor: str = ""
    """The user or program that requests it."""


class TakeSnapshot(msgspec.Struct, kw_only=True, gc=False):
    """A request: the owners of these partitions take snapshots now."""

    partitions: list[int]
    full: bool = False
    """Whether the snapshots use no chunk of earlier ones."""
    actor: str = ""
    """The user or program that requests it."""


DISPATCHES: tuple[type[Dispatch], ...] = (RunAttempt, StopAttempt, SessionClosed, Skipped)
REPLIES: tuple[type[msgspec.Struct], ...] = (CommandReply, JobOutcome)
HEARTBEATS: tuple[type[msgspec.Struct], ...] = (
    WorkerHeartbeat,
    SchedulerHeartbeat,
    MemberVersion,
    DrainWorker,
    TakeSnapshot,
    FinalizeUpgrade,
)
