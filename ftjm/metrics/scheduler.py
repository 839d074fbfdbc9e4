"""What a scheduler shows: what its partitions' threads measured, and what its runners hold when it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import prometheus_client as prometheus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ftjm.clock import wall_ms
from ftjm.core.model import JobState
from ftjm.metrics.events import EventMetrics
from ftjm.metrics.labels import COUNTS, MOMENTS, SECONDS, Queues
from ftjm.scheduler.standing import Standing

PAUSES = sorted({*MOMENTS, 0.02})
"""With the 20 ms that a snapshot may take from the loop."""
ROLES = {"broken": -2, "cold": -1, "opening": 0, "standby": 1, "taking-over": 2, "owner": 3}


class Followed(Protocol):
    """A partition as its runner tells of it; read from another thread, so each field is replaced whole."""

    @property
    def role(self) -> str: ...

    @property
    def standing(self) -> Standing: ...


class Process(Protocol):
    """The scheduler process, as far as it is shown."""

    @property
    def partitions(self) -> Mapping[int, Followed]: ...

    @property
    def rebalances(self) -> int: ...

    @property
    def workers(self) -> Mapping[str, int]:
        """How many worker sessions were heard lately, by state."""

    @property
    def lag_events(self) -> int: ...

    @property
    def refusing(self) -> Mapping[str, bool]:
        """By watermark, whether it is why new submissions are refused."""

    @property
    def damaged_snapshots(self) -> int: ...


class SchedulerMetrics(Collector):
    """One for each process; the partitions' threads share it."""

    def __init__(self, registry: prometheus.CollectorRegistry, process: Process) -> None:
        self._process = process
        self._queues = Queues()
        self.events = EventMetrics(registry, self._queues)
        at: dict[str, Any] = {"registry": registry}
        histogram = prometheus.Histogram
        text = "From acting on a nomination to deciding: fence, read the log's end, fold to it."
        self.takeover_seconds = histogram("ftjm_takeover_seconds", text, buckets=MOMENTS, **at)
        text = "From opening a partition's store to having folded its log to the end."
        self.replay_seconds = histogram("ftjm_replay_seconds", text, buckets=SECONDS, **at)
        text = "Of one batch, from its first record to Kafka's word that it is committed."
        self.transaction_seconds = histogram("ftjm_transaction_seconds", text, buckets=MOMENTS, **at)
        text = "Commands that one batch consumed; batches without any are those of timers, leases and free slots."
        self.batch_commands = histogram("ftjm_batch_commands", text, buckets=COUNTS, **at)
        text = "Of one step of an owner's loop, without what its transactions waited for Kafka."
        self.step_seconds = histogram("ftjm_step_seconds", text, buckets=MOMENTS, **at)
        text = "Of one snapshot of a partition, from its checkpoint to its published manifest."
        self.snapshot_seconds = histogram("ftjm_snapshot_seconds", text, buckets=SECONDS, **at)
        text = "For which an owner's loop stood still to publish a snapshot, with the transaction that this is."
        self.snapshot_pause_seconds = histogram("ftjm_snapshot_pause_seconds", text, buckets=PAUSES, **at)
        text = "Sent for snapshots: of files that no earlier one had."
        self.snapshot_bytes = prometheus.Counter("ftjm_snapshot_bytes", text, **at)
        text = "Snapshots that could not be taken; they are tried again."
        self.snapshots_failed = prometheus.Counter("ftjm_snapshots_failed", text, **at)
        text = "Batches behind which the state folded here was not what its owner says: one of the two is wrong."
        self.divergences = prometheus.Counter("ftjm_divergences", text, **at)
        text = "From finding a partition without a store to having one from a snapshot."
        self.restore_seconds = histogram("ftjm_restore_seconds", text, buckets=SECONDS, **at)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        process = self._process
        partitions = process.partitions
        yield self._roles(partitions)
        yield from self._jobs([p.standing for p in partitions.values() if p.role == "owner"])
        text = "Offsets of events that the owners have written, and that partitions followed here have not folded yet."
        yield GaugeMetricFamily("ftjm_replay_lag_events", text, value=process.lag_events)
        text = "Snapshots that were found damaged, or no children of the log, when one was to be restored."
        yield CounterMetricFamily("ftjm_snapshots_damaged", text, value=process.damaged_snapshots)
        text = "Rebalances of the schedulers' group that this process took part in."
        yield CounterMetricFamily("ftjm_rebalances", text, value=process.rebalances)
        text = "1 where new submissions are refused since this watermark is exceeded."
        refusing = GaugeMetricFamily("ftjm_submissions_refused", text, labels=["reason"])
        for reason, closed in process.refusing.items():
            refusing.add_metric([reason], closed)
        yield refusing
        workers = GaugeMetricFamily("ftjm_worker_sessions", "Worker sessions as heard here.", labels=["state"])
        for state, count in process.workers.items():
            workers.add_metric([state], count)
        yield workers

    def _roles(self, partitions: Mapping[int, Followed]) -> Metric:
        text = ", ".join(f"{number} {role}" for role, number in ROLES.items())
        roles = GaugeMetricFamily("ftjm_partition_role", f"Of this process: {text}.", labels=["partition"])
        for number, partition in partitions.items():
            roles.add_metric([str(number)], ROLES[partition.role])
        return roles

    def _jobs(self, owned: Sequence[Standing]) -> Iterable[Metric]:
        counts: Counter[tuple[str, int]] = Counter()
        oldest: dict[str, int] = {}
        for standing in owned:
            for queue, numbers in standing.counts.items():
                label = self._queues.label(queue)
                for state in JobState:
                    counts[label, state] += numbers[state]
                since = standing.oldest_at.get(queue, 0)
                oldest[label] = min(oldest.get(label) or since, since) or oldest.get(label, 0)
        text = "Jobs of the partitions that this process owns; ended ones until their retention is over."
        jobs = GaugeMetricFamily("ftjm_jobs", text, labels=["queue", "state"])
        for (queue, number), count in counts.items():
            jobs.add_metric([queue, JobState(number).name], count)
        yield jobs
        text = "How long the oldest has waited of the jobs that are first at their priority; 0 if none waits."
        ages = GaugeMetricFamily("ftjm_queue_oldest_seconds", text, labels=["queue"])
        now = wall_ms()
        for queue, since in oldest.items():
            ages.add_metric([queue], max(0, now - since) / 1000 if since else 0.0)
        yield ages
        text = "Jobs whose time has come and for which a worker slot is awaited."
        yield GaugeMetricFamily(
            "ftjm_jobs_waiting", text, value=sum(n for (_, s), n in counts.items() if s == JobState.READY)
        )
