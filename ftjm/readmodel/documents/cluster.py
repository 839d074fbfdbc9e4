"""The documents of workers, schedulers and partitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from ftjm.core.records.messages import SchedulerHeartbeat, WorkerHeartbeat
from ftjm.readmodel.documents.fields import Document, Moment
from ftjm.runtime.durations import format_time

SilentSeconds = Annotated[float, Meta(description="Seconds since the newest heartbeat was received.")]


class WorkerDocument(Document, frozen=True, kw_only=True):
    """A worker session, by its newest heartbeat."""

    worker: str
    session: str
    host: str
    pid: int
    state: Annotated[
        str,
        Meta(
            description="OPEN takes jobs, DRAINING finishes what it has, CLOSED has left, SILENT sent no heartbeat for "
            "its lease."
        ),
    ]
    alive: Annotated[
        bool, Meta(description="Whether the session would take new jobs: it is within its lease, and does not drain.")
    ]
    cordoned: Annotated[bool, Meta(description="Whether the worker is given nothing new until it is uncordoned.")] = (
        False
    )
    busy: Annotated[int, Meta(description="Slots that run an attempt.")]
    slots: int
    queues: list[str]
    lease_seconds: float
    silent_seconds: SilentSeconds


class SchedulerDocument(Document, frozen=True, kw_only=True):
    """A scheduler process, by its newest heartbeat."""

    scheduler: str
    host: str
    pid: int
    alive: Annotated[bool, Meta(description="Whether a heartbeat was received in the last seconds.")]
    silent_seconds: SilentSeconds
    roles: Annotated[dict[str, int], Meta(description="Number of partitions in each role.")]


class PartitionRole(Document, frozen=True, kw_only=True):
    """What a scheduler reports of a partition."""

    scheduler: str
    role: Annotated[str, Meta(description="Such as owner or standby.")]
    applied_offset: Annotated[int, Meta(description="Offset of the newest event that the scheduler has folded.")]


class PartitionDocument(Document, frozen=True, kw_only=True):
    """A partition: its owner, and how far it has come."""

    partition: int
    owner: Annotated[str | None, Meta(description="The scheduler that decided last, by the log.")] = None
    alive: Annotated[bool, Meta(description="Whether the owner is live, and reports to be the owner.")]
    epoch: Annotated[int, Meta(description="Grows by one with each new owner.")]
    batch: Annotated[int, Meta(description="Number of the newest batch.")]
    decided_at: Annotated[Moment | None, Meta(description="When the newest batch was decided.")] = None
    next_command: Annotated[int, Meta(description="Offset of the next command to decide.")]
    applied_offset: Annotated[int, Meta(description="Offset of the newest batch's last event; -1 before the first.")]
    lag: Annotated[int | None, Meta(description="Number of commands that are not decided yet.")] = None
    commands_end: Annotated[int | None, Meta(description="Offset at which the partition of commands ends.")] = None
    events_end: Annotated[int | None, Meta(description="Offset at which the partition of events ends.")] = None
    roles: list[PartitionRole]


def worker_document(
    heartbeat: WorkerHeartbeat, silent_ms: int, state: str, *, alive: bool, cordoned: bool
) -> WorkerDocument:
    """Render a worker session.

    Args:
        silent_ms: since the heartbeat was received.
        state: the heartbeat's own, or SILENT.
        alive: whether it takes new jobs.
        cordoned: whether it is given nothing new.
    """
    return WorkerDocument(
        worker=heartbeat.worker,
        session=heartbeat.session,
        host=heartbeat.host,
        pid=heartbeat.pid,
        state=state,
        alive=alive,
        cordoned=cordoned,
        busy=heartbeat.busy,
        slots=heartbeat.slots,
        queues=heartbeat.queues,
        lease_seconds=heartbeat.lease_ms / 1000,
        silent_seconds=round(silent_ms / 1000, 1),
    )


def scheduler_document(heartbeat: SchedulerHeartbeat, silent_ms: int, *, alive: bool) -> SchedulerDocument:
    """Render a scheduler process. `silent_ms` is since the heartbeat was received."""
    return SchedulerDocument(
        scheduler=heartbeat.instance,
        host=heartbeat.host,
        pid=heartbeat.pid,
        alive=alive,
        silent_seconds=round(silent_ms / 1000, 1),
        roles=dict(Counter(report.role for report in heartbeat.partitions)),
    )


def partition_document(
    partition: int,
    *,
    owner: str,
    epoch: int,
    batch: int,
    decided_at: int,
    next_command: int,
    applied_offset: int,
    commands_end: int | None,
    events_end: int | None,
    schedulers: Iterable[SchedulerHeartbeat],
) -> PartitionDocument:
    """Render a partition.

    Args:
        owner: the scheduler that the newest batch names; empty before the first batch.
        decided_at: ms; 0 before the first batch.
        commands_end: end offset of the partition's commands; None if Kafka did not answer. `events_end` likewise.
        schedulers: newest heartbeats of the live schedulers.
    """
    roles = [
        PartitionRole(scheduler=heartbeat.instance, role=report.role, applied_offset=report.applied_offset)
        for heartbeat in schedulers
        for report in heartbeat.partitions
        if report.partition == partition
    ]
    return PartitionDocument(
        partition=partition,
        owner=owner or None,
        alive=any(role.scheduler == owner and role.role == "owner" for role in roles),
        epoch=epoch,
        batch=batch,
        decided_at=format_time(decided_at) or None,
        next_command=next_command,
        applied_offset=applied_offset,
        lag=None if commands_end is None else max(0, commands_end - next_command),
        commands_end=commands_end,
        events_end=events_end,
        roles=roles,
    )
