"""Who was heard in the last while: workers and schedulers, from their heartbeats in the log; and a look at queues.

Not truth: what a process said of itself last, and how long ago.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ftjm.adapters import codec
from ftjm.config import Settings
from ftjm.core.errors import UndecodableError
from ftjm.core.messages import QueueDemand, SchedulerHeartbeat, SessionState, WorkerHeartbeat
from ftjm.core.model import JobState
from ftjm.durations import age_of
from ftjm.engine.liveness import plausible
from ftjm.jobhistory import open_scan

SCHEDULER_MS = 5_000
"""A scheduler says something every second: one that was silent for this long is not there."""
BACK_MS = 60_000
"""How far back one looks: workers that fell silent are shown for a while."""
SILENT = "SILENT"
GROUPS: Mapping[str, tuple[JobState, ...]] = {
    "waiting": (JobState.SCHEDULED, JobState.PENDING, JobState.RETRY_WAIT),
    "held": (JobState.HELD,),
    "ready": (JobState.READY,),
    "running": (JobState.DISPATCHED, JobState.RUNNING),
    "succeeded": (JobState.SUCCEEDED,),
    "failed": (JobState.FAILED, JobState.UPSTREAM_FAILED),
    "cancelled": (JobState.CANCELLED, JobState.SKIPPED),
}
"""States as a table has room for them."""


class Worker(NamedTuple):
    """A worker session, and how long ago it was heard."""

    heartbeat: WorkerHeartbeat
    silent_ms: int

    @property
    def state(self) -> str:
        gone = self.silent_ms > self.heartbeat.lease_ms and self.heartbeat.state is not SessionState.CLOSED
        return SILENT if gone else self.heartbeat.state.value


class Heard(msgspec.Struct):
    """Sessions by their names, and schedulers by theirs; newest heartbeat of each."""

    workers: dict[str, Worker] = {}
    schedulers: dict[str, SchedulerHeartbeat] = {}

    def present(self) -> list[Worker]:
        """The newest session of each worker process that has not left, by name."""
        newest: dict[tuple[str, str, int], Worker] = {}
        for worker in sorted(self.workers.values(), key=lambda one: -one.silent_ms):
            beat = worker.heartbeat
            newest[beat.worker, beat.host, beat.pid] = worker
        there = [worker for worker in newest.values() if worker.heartbeat.state is not SessionState.CLOSED]
        return sorted(there, key=lambda one: (one.heartbeat.worker, one.heartbeat.host, one.heartbeat.pid))

    def owners(self) -> dict[int, tuple[str, list[QueueDemand]]]:
        """The owner of each partition and what it told of its queues; of two that say so, the newer."""
        found: dict[int, tuple[int, str, list[QueueDemand]]] = {}
        for name, beat in self.schedulers.items():
            for report in beat.partitions:
                if report.role == "owner" and report.owner_epoch >= found.get(report.partition, (0,))[0]:
                    found[report.partition] = (report.owner_epoch, name, report.demand)
        return {partition: (name, demand) for partition, (_, name, demand) in found.items()}


def listen_back(settings: Settings) -> tuple[Heard, int]:
    """What was heard lately, and the number of lanes. Raises Unreachable, FtjmError."""
    now = time.time_ns() // 1_000_000
    heard = Heard()
    with open_scan(settings, "heartbeats", committed=False) as scan:
        for record in scan.read({lane: scan.offset_at(lane, now - BACK_MS) for lane in range(scan.partitions)}):
            hear(heard, record.value, max(0, now - record.time_ms))
        return heard, scan.partitions


def hear(heard: Heard, value: bytes, silent_ms: int) -> None:
    """Take in one record of the topic, which comes behind all that this process had said before."""
    try:
        beat = codec.decode(value)
    except UndecodableError:
        return
    if isinstance(beat, WorkerHeartbeat) and plausible(beat):
        heard.workers[beat.session] = Worker(beat, silent_ms)
    elif isinstance(beat, SchedulerHeartbeat) and silent_ms <= SCHEDULER_MS:
        heard.schedulers[beat.instance] = beat


def worker_rows(workers: Iterable[Worker]) -> list[dict[str, Any]]:
    """Workers for printing."""
    return [
        {
            "worker": beat.worker,
            "state": worker.state,
            "busy": beat.busy,
            "slots": beat.slots,
            "queues": beat.queues,
            "lease_seconds": beat.lease_ms / 1000,
            "heard_seconds": round(worker.silent_ms / 1000, 1),
            "host": beat.host,
            "pid": beat.pid,
            "session": beat.session,
        }
        for worker in workers
        for beat in (worker.heartbeat,)
    ]


def queue_rows(heard: Heard) -> list[dict[str, Any]]:
    """Queues for printing: those that hold jobs, and those that workers serve."""
    demands: dict[str, tuple[int, str, QueueDemand]] = {}
    for partition, (owner, demand) in sorted(heard.owners().items()):
        demands |= {told.queue: (partition, owner, told) for told in demand}
    serving: dict[str, list[Worker]] = defaultdict(list)
    for worker in heard.present():
        if worker.state == SessionState.OPEN:
            for queue in worker.heartbeat.queues:
                serving[queue].append(worker)
    return [_queue_row(queue, demands.get(queue), serving.get(queue, [])) for queue in sorted({*demands, *serving})]


def _queue_row(queue: str, told: tuple[int, str, QueueDemand] | None, workers: list[Worker]) -> dict[str, Any]:
    partition, owner, demand = told or (None, None, QueueDemand(queue=queue, ready=0))
    counts = demand.counts or [0] * (max(JobState) + 1)
    states = Counter({state.name: counts[state] for state in JobState if state < len(counts)})
    return {
        "queue": queue,
        "partition": partition,
        "owner": owner,
        **{group: sum(states[state.name] for state in of) for group, of in GROUPS.items()},
        "ready": demand.ready,
        "oldest": age_of(demand.oldest_at) if demand.oldest_at else None,
        "oldest_at": demand.oldest_at or None,
        "states": {name: count for name, count in states.items() if count},
        "workers": sorted({worker.heartbeat.worker for worker in workers}),
        "slots": sum(worker.heartbeat.slots for worker in workers),
        "free": sum(max(0, worker.heartbeat.slots - worker.heartbeat.busy) for worker in workers),
    }
