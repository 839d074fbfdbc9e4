"""A queue as a document: its jobs by state, the workers that serve it, and what it is declared to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from ftjm.core.records.messages import WorkerHeartbeat
from ftjm.core.state.model import JobState
from ftjm.core.state.queues import Queue, QueueDeclaration, QueueSpec, QueueStatus
from ftjm.readmodel.documents.fields import Document, Moment
from ftjm.runtime.durations import format_time
from ftjm.specs.queue import written


class RateDocument(Document, frozen=True, kw_only=True):
    """How many attempts of a queue may start in a time."""

    limit: Annotated[int, Meta(description="So many attempts may start in each `per`.")]
    per: Annotated[str, Meta(description="The time that `limit` is for, such as 1m.")]
    burst: Annotated[int, Meta(description="So many attempts may start at once after a quiet time.")]


class ConcurrencyKeysDocument(Document, frozen=True, kw_only=True):
    """What holds for jobs of a queue with the same concurrency key."""

    limit: Annotated[int, Meta(description="So many of them have a worker at a time, at most.")]
    on_conflict: Annotated[str, Meta(description="What a job does that finds its key taken: wait, replace or drop.")]


class DeadLetterDocument(Document, frozen=True, kw_only=True):
    """What holds for jobs that failed for good."""

    retention: Annotated[str, Meta(description="So long they are kept at least, such as 30d.")]


class ShareSpecDocument(Document, frozen=True, kw_only=True):
    """A share that a queue lists."""

    identifier: Annotated[str, Meta(description="The share_identifier of its jobs.")]
    weight: Annotated[int, Meta(description="Shares have slot time in proportion to their weights.")]


class WaitingLimitDocument(Document, frozen=True, kw_only=True):
    """How long a job may wait for one reason."""

    reason: Annotated[str | None, Meta(description="The reason; left out: whichever it is.")] = None
    after: Annotated[str, Meta(description="The time, such as 1h.")]
    action: Annotated[str, Meta(description="What happens then: fail, hold or notify.")]


class QueueSpecDocument(Document, frozen=True, kw_only=True):
    """What a queue is declared to, as in a file of resources."""

    concurrency: Annotated[
        int | None, Meta(description="So many of its jobs have a worker at a time; left out: no limit.")
    ] = None
    rate: Annotated[RateDocument | None, Meta(description="How fast attempts start; left out: no limit.")] = None
    concurrency_keys: Annotated[
        ConcurrencyKeysDocument | None,
        Meta(description="What holds for jobs of one concurrency_key; left out: one has a worker at a time."),
    ] = None
    dead_letter: Annotated[
        DeadLetterDocument | None, Meta(description="How long jobs that failed for good are kept.")
    ] = None
    waiting_limits: Annotated[
        list[WaitingLimitDocument], Meta(description="What happens to jobs that have waited for long.")
    ] = field(default_factory=list)
    ageing: Annotated[str, Meta(description="So long a wait is worth one point of priority; or off.")]
    weight: Annotated[int, Meta(description="Queues that share workers have slots in proportion to their weights.")] = 1
    shares: Annotated[list[ShareSpecDocument], Meta(description="Its shares. Others have the weight 1.")] = field(
        default_factory=list
    )
    half_life: Annotated[str | None, Meta(description="What a share used counts half after this time.")] = None
    compute_reservation: Annotated[
        int, Meta(description="Percent of its slots that stay free, to the power of the number of active shares.")
    ] = 0
    defaults: Annotated[
        dict[str, Any],
        Meta(description="What its jobs get in fields that they leave open."),
    ] = field(default_factory=dict)


class DeclarationDocument(Document, frozen=True, kw_only=True):
    """The declaration of a queue."""

    revision: Annotated[int, Meta(description="Grows with each change.")]
    labels: Annotated[dict[str, str], Meta(description="Its labels.")] = field(default_factory=dict)
    spec: QueueSpecDocument
    applied_at: Annotated[Moment, Meta(description="When it was changed last.")]
    actor: Annotated[str | None, Meta(description="Who changed it last.")] = None


class QueueDocument(Document, frozen=True, kw_only=True):
    """A queue: the jobs that it holds, and the workers that serve it."""

    queue: str
    partition: Annotated[int | None, Meta(description="The partition that decides about the queue's jobs.")] = None
    owner: Annotated[str | None, Meta(description="The scheduler that owns the partition.")] = None
    paused: Annotated[bool, Meta(description="Whether none of its jobs starts until it is resumed.")] = False
    paused_at: Annotated[Moment | None, Meta(description="Since when it is paused.")] = None
    paused_by: Annotated[str | None, Meta(description="Who paused it.")] = None
    pause_reason: Annotated[str | None, Meta(description="Why it is paused.")] = None
    declaration: Annotated[
        DeclarationDocument | None, Meta(description="What it is declared to; left out if it is not declared.")
    ] = None
    waiting: Annotated[int, Meta(description="Jobs whose time has not come: SCHEDULED, PENDING, RETRY_WAIT.")]
    held: int
    ready: int
    running: Annotated[int, Meta(description="Jobs that are DISPATCHED or RUNNING.")]
    succeeded: int
    failed: Annotated[int, Meta(description="Jobs that are FAILED or UPSTREAM_FAILED.")]
    cancelled: Annotated[int, Meta(description="Jobs that are CANCELLED or SKIPPED.")]
    oldest_ready_at: Annotated[
        Moment | None, Meta(description="When the READY job that waits longest was submitted.")
    ] = None
    states: Annotated[dict[str, int], Meta(description="Number of jobs in each state, without zeros.")]
    workers: Annotated[list[str], Meta(description="Names of the workers that serve the queue and take jobs.")]
    slots: Annotated[int, Meta(description="Slots of these workers.")]
    free: Annotated[int, Meta(description="Slots of these workers that run no attempt.")]


GROUPS: Mapping[str, tuple[JobState, ...]] = {
    "waiting": (JobState.SCHEDULED, JobState.PENDING, JobState.RETRY_WAIT),
    "held": (JobState.HELD,),
    "ready": (JobState.READY,),
    "running": (JobState.DISPATCHED, JobState.RUNNING),
    "succeeded": (JobState.SUCCEEDED,),
    "failed": (JobState.FAILED, JobState.UPSTREAM_FAILED),
    "cancelled": (JobState.CANCELLED, JobState.SKIPPED),
}
"""The states in groups that fit a table."""


def queue_document(
    queue: str,
    *,
    partition: int | None,
    owner: str | None,
    states: Mapping[str, int],
    ready: int,
    oldest_ready_at: int,
    paused: bool,
    workers: Iterable[WorkerHeartbeat],
    status: QueueStatus | None = None,
    declaration: QueueDeclaration | None = None,
) -> QueueDocument:
    """Render a queue.

    Args:
        states: number of jobs by the name of their state; states without jobs may be left out.
        ready: number of READY jobs. An owner of an older version reports this number only, and no `states`.
        oldest_ready_at: ms; 0 if no job is READY.
        paused: whether none of its jobs starts.
        workers: the sessions that serve the queue and take jobs.
        status: what was set for the queue, where it is known.
        declaration: what the queue is declared to, where it is known.
    """
    serving = list(workers)
    groups = {name: sum(states.get(state.name, 0) for state in of) for name, of in GROUPS.items()}
    return QueueDocument(
        queue=queue,
        partition=partition,
        owner=owner,
        paused=paused,
        paused_at=format_time(status.paused_at) if status else None,
        paused_by=(status.actor if status else "") or None,
        pause_reason=(status.reason if status else "") or None,
        declaration=declaration_document(declaration) if declaration else None,
        **(groups | {"ready": ready}),
        oldest_ready_at=format_time(oldest_ready_at) or None,
        states={name: count for name, count in states.items() if count},
        workers=sorted({heartbeat.worker for heartbeat in serving}),
        slots=sum(heartbeat.slots for heartbeat in serving),
        free=sum(max(0, heartbeat.slots - heartbeat.busy) for heartbeat in serving),
    )


def declaration_document(declaration: QueueDeclaration) -> DeclarationDocument:
    """Render the declaration of a queue."""
    return DeclarationDocument(
        revision=declaration.revision,
        labels=declaration.labels,
        spec=spec_document(declaration.spec),
        applied_at=format_time(declaration.applied_at) or format_time(1),
        actor=declaration.actor or None,
    )


def spec_document(spec: QueueSpec) -> QueueSpecDocument:
    """Render what a queue is declared to."""
    return msgspec.convert(written(spec), QueueSpecDocument)


def states_of(counts: Queue | None) -> dict[str, int]:
    """The number of a queue's jobs by the name of their state, without zeros. A queue without a row has no jobs."""
    return {state.name: counts.counts[state] for state in JobState if counts.counts[state]} if counts else {}
