"""Workers, schedulers and queues as documents, put together from presence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable

from ftjm.core.identity import partition_for
from ftjm.core.queue_gates import QueueRows
from ftjm.core.records.messages import QueueDemand, WorkerHeartbeat
from ftjm.core.state.model import JobState
from ftjm.readmodel.documents.cluster import (
    SchedulerDocument,
    WorkerDocument,
    scheduler_document,
    worker_document,
)
from ftjm.readmodel.documents.queue import QueueDocument, queue_document, states_of
from ftjm.readmodel.presence import Presence, WorkerSession


def worker_documents(
    sessions: Iterable[WorkerSession], cordoned: Collection[str] = frozenset()
) -> list[WorkerDocument]:
    """Render worker sessions. `cordoned` has the names of the workers that are cordoned."""
    return [
        worker_document(
            session.heartbeat,
            session.silent_ms,
            session.state,
            alive=session.alive,
            cordoned=session.heartbeat.worker in cordoned,
        )
        for session in sessions
    ]


def scheduler_documents(presence: Presence) -> list[SchedulerDocument]:
    """Render all schedulers of the last minute."""
    return [scheduler_document(one.heartbeat, one.silent_ms, alive=one.alive) for one in presence.schedulers()]


def workers_by_queue(presence: Presence) -> dict[str, list[WorkerHeartbeat]]:
    """The worker sessions that take jobs, by each queue that they serve."""
    serving: dict[str, list[WorkerHeartbeat]] = defaultdict(list)
    for session in presence.workers():
        if session.alive:
            for queue in session.heartbeat.queues:
                serving[queue].append(session.heartbeat)
    return serving


def queue_documents(presence: Presence) -> list[QueueDocument]:
    """Render all queues by name, from heartbeats alone: those with jobs by their owners' reports, and those served."""
    demands: dict[str, tuple[int | None, str | None, QueueDemand]] = {}
    for number, owner in sorted(presence.owners().items()):
        demands |= {demand.queue: (number, owner.scheduler, demand) for demand in owner.demand if demand.queue}
    serving = workers_by_queue(presence)
    found = []
    for queue in sorted({*demands, *serving}):
        partition, scheduler, demand = demands.get(queue) or (None, None, QueueDemand(queue=queue, ready=0))
        found.append(
            queue_document(
                queue,
                partition=partition,
                owner=scheduler,
                states={state.name: demand.counts[state] for state in JobState if state < len(demand.counts)},
                ready=demand.ready,
                oldest_ready_at=demand.oldest_at,
                paused=demand.paused,
                workers=serving.get(queue, []),
            )
        )
    return found


def queue_renderer(presence: Presence, partitions: int) -> Callable[[str, QueueRows, int], QueueDocument]:
    """A function that renders a queue from its rows, with its owner and its workers from heartbeats.

    It takes the queue's name, what is stored of it, and when the READY job that waits longest was submitted, ms (0 if
    no job is READY).

    Args:
        presence: The members that sent heartbeats.
        partitions: Number of partitions of the log.
    """
    serving, owners = workers_by_queue(presence), presence.owners()

    def render(queue: str, rows: QueueRows, oldest_ready_at: int) -> QueueDocument:
        partition, states = partition_for(queue, max(1, partitions)), states_of(rows.counts)
        return queue_document(
            queue,
            partition=partition,
            owner=owners[partition].scheduler if partition in owners else None,
            states=states,
            ready=states.get(JobState.READY.name, 0),
            oldest_ready_at=oldest_ready_at,
            paused=rows.status is not None,
            workers=serving.get(queue, []),
            status=rows.status,
            declaration=rows.declaration,
        )

    return render
