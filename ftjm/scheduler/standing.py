"""How the queues of a partition stand: what heartbeats and metrics tell of it, made by the partition's own thread."""

from __future__ import annotations

from itertools import islice

import msgspec

from ftjm.core.messages import OfferTaken, PartitionReport, QueueDemand
from ftjm.core.model import JobState, job_key
from ftjm.core.state import State
from ftjm.engine.liveness import Liveness

OLDEST_EVERY_MS = 1_000
OLDEST_QUEUES_MAX = 200
"""Of a partition, looked at for their oldest job."""
QUEUES_TOLD_MAX = 1_000
"""Of a partition, in one heartbeat,"""
QUEUES_TOLD_IN_ALL_MAX = 16_000
"""and of all partitions together: with the longest names these are 3 MB, and no record may have more than 4."""


class Standing(msgspec.Struct, frozen=True):
    """A partition's queues at a moment. Replaced whole, so that any thread may read it."""

    counts: dict[str, list[int]] = {}
    """Jobs of each queue by `JobState`."""
    oldest_at: dict[str, int] = {}
    """Since when the oldest of the jobs waits that are first of their priority, ms; 0 where none waits."""


class Survey:
    """Looks at the queues of one partition whenever its thread asks; at their oldest jobs every now and then."""

    def __init__(self) -> None:
        self._looked_at = 0
        self._oldest_at: dict[str, int] = {}

    def look(self, state: State, now: int) -> Standing:
        """How the queues stand; `now` by any clock, ms."""
        counts = {name: row.counts for name, row in state.queues()}
        if now - self._looked_at >= OLDEST_EVERY_MS:
            self._looked_at = now
            waiting = [name for name, numbers in counts.items() if numbers[JobState.READY]]
            self._oldest_at = {name: _oldest(state, name) for name in waiting[:OLDEST_QUEUES_MAX]}
        return Standing(counts, self._oldest_at)


def _oldest(state: State, queue: str) -> int:
    jobs = (state.job(job_key(queue, job_id)) for _, _, job_id in state.ready(queue, first_only=True))
    return min((job.ready_at for job in jobs if job is not None), default=0)


def report(
    partition: int, partitions: int, role: str, state: State, standing: Standing, liveness: Liveness | None, now: int
) -> PartitionReport:
    """What heartbeats tell of one of so many partitions; `liveness` where we own it, for the offers that we saw."""
    most = min(QUEUES_TOLD_MAX, QUEUES_TOLD_IN_ALL_MAX // partitions)
    taken = sorted(liveness.taken(partition, now).items()) if liveness else []
    return PartitionReport(
        partition=partition,
        role=role,
        owner_epoch=state.position.owner_epoch,
        applied_offset=state.position.applied_offset,
        next_command=state.position.next_command,
        demand=[
            QueueDemand(
                queue=name, ready=counts[JobState.READY], counts=counts, oldest_at=standing.oldest_at.get(name, 0)
            )
            for name, counts in islice(standing.counts.items(), most)
        ],
        taken=[OfferTaken(session=session, number=number) for session, number in taken],
    )


def nothing(partition: int, role: str) -> PartitionReport:
    """What is told of a partition that is not followed."""
    return PartitionReport(
        partition=partition, role=role, owner_epoch=0, applied_offset=-1, next_command=0, demand=[], taken=[]
    )


def news(told: PartitionReport, now: PartitionReport) -> bool:
    """Whether the others should hear of the change at once: roles, offers seen, and which queues wait."""
    return (told.role, told.taken, _waiting(told)) != (now.role, now.taken, _waiting(now))


def _waiting(told: PartitionReport) -> list[str]:
    return [demand.queue for demand in told.demand if demand.ready]
