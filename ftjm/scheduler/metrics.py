"""The metrics of a scheduler: what its partitions' threads measure, and the state of the process at each scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import prometheus_client as prometheus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ftjm.core.state.model import JobState
from ftjm.runtime.clock import wall_ms
from ftjm.scheduler.partition_report import QueueStatistics
from ftjm.telemetry.job_metrics import EventMetrics
from ftjm.telemetry.labels import COUNTS, MOMENTS, SECONDS, Queues

PAUSES = sorted({*MOMENTS, 0.02})
"""Buckets of the pause for a snapshot. 20 ms is the longest pause that a snapshot should make."""
ROLES = {"broken": -2, "cold": -1, "opening": 0, "standby": 1, "taking-over": 2, "owner": 3}


class PartitionState(Protocol):
    """The part of a partition's runner that is shown. Each field is replaced as a whole, so any thread may read it."""

    @property
    def role(self) -> str: ...

    @property
    def queues(self) -> QueueStatistics:
        """The statistics of its queues; empty unless it is owned here."""


class ProcessState(Protocol):
    """The part of the scheduler process that is shown."""

    @property
    def partitions(self) -> Mapping[int, PartitionState]: ...

    @property
    def rebalances(self) -> int: ...

    @property
    def workers(self) -> Mapping[str, int]:
        """How many worker sessions sent a heartbeat within their lease, by state."""

    @property
    def lag_events(self) -> int:
        """Offsets that the owners have written, and that the partitions followed here have not folded."""

    @property
    def refusing(self) -> Mapping[str, bool]:
        """Whether new submissions are refused because of a watermark, by its name."""

    @property
    def damaged_snapshots(self) -> int: ...


class SchedulerMetrics(Collector):
    """The metrics of one process. The threads of its partitions observe values; `collect` reads the other ones."""

    def __init__(self, registry: prometheus.CollectorRegistry, process: ProcessState) -> None:
        self._process = process
        self._queues = Queues()
        self.events = EventMetrics(registry, self._queues)
        at: dict[str, Any] = {"registry": registry}
        histogram = prometheus.Histogram
        text = "Time of a takeover, until this process may decide: fence, read the log's end, fold to it."
        self.takeover_seconds = histogram("ftjm_takeover_seconds", text, buckets=MOMENTS, **at)
        text = "Time from opening a partition's store until its log is folded to the end."
        self.replay_seconds = histogram("ftjm_replay_seconds", text, buckets=SECONDS, **at)
        text = "Time of one transaction, from its first record until Kafka has committed it."
        self.transaction_seconds = histogram("ftjm_transaction_seconds", text, buckets=MOMENTS, **at)
        text = "Commands that one batch decided; 0 for batches of timers, leases and free slots."
        self.batch_commands = histogram("ftjm_batch_commands", text, buckets=COUNTS, **at)
        text = "Time of one step of an owner's loop, without the time that its transactions waited for Kafka."
        self.step_seconds = histogram("ftjm_step_seconds", text, buckets=MOMENTS, **at)
        text = "Time of one snapshot of a partition, from its checkpoint until its manifest is published."
        self.snapshot_seconds = histogram("ftjm_snapshot_seconds", text, buckets=SECONDS, **at)
        text = "Time that an owner's loop waited to publish a snapshot, with the transaction for it."
        self.snapshot_pause_seconds = histogram("ftjm_snapshot_pause_seconds", text, buckets=PAUSES, **at)
        text = "Bytes of chunks that were sent for snapshots. Chunks of the snapshot before are not sent again."
        self.snapshot_bytes = prometheus.Counter("ftjm_snapshot_bytes", text, **at)
        text = "Snapshots that failed. They are tried again."
        self.snapshots_failed = prometheus.Counter("ftjm_snapshots_failed", text, **at)
        text = "Batches after which the state that was folded here differed from the owner's: one of the two is wrong."
        self.divergences = prometheus.Counter("ftjm_divergences", text, **at)
        text = "Commands that were refused because the program failed on them: each is a fault of the program."
        self.commands_skipped = prometheus.Counter("ftjm_commands_skipped", text, **at)
        text = "Messages to workers, clients and other partitions that can never be sent, and were skipped."
        self.messages_skipped = prometheus.Counter("ftjm_messages_skipped", text, **at)
        text = "Time of restoring a partition's store from a snapshot."
        self.restore_seconds = histogram("ftjm_restore_seconds", text, buckets=SECONDS, **at)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        process = self._process
        partitions = process.partitions
        yield self._roles(partitions)
        yield from self._jobs([p.queues for p in partitions.values() if p.role == "owner"])
        text = "Offsets that the owners have written, and that the partitions followed here have not folded yet."
        yield GaugeMetricFamily("ftjm_replay_lag_events", text, value=process.lag_events)
        text = "Snapshots that could not be used: they were damaged, or of another log."
        yield CounterMetricFamily("ftjm_snapshots_damaged", text, value=process.damaged_snapshots)
        text = "Rebalances of the schedulers' group that this process took part in."
        yield CounterMetricFamily("ftjm_rebalances", text, value=process.rebalances)
        text = "1 while new submissions are refused because this watermark is exceeded."
        refusing = GaugeMetricFamily("ftjm_submissions_refused", text, labels=["reason"])
        for reason, is_refusing in process.refusing.items():
            refusing.add_metric([reason], is_refusing)
        yield refusing
        text = "Worker sessions that sent a heartbeat within their lease."
        workers = GaugeMetricFamily("ftjm_worker_sessions", text, labels=["state"])
        for state, count in process.workers.items():
            workers.add_metric([state], count)
        yield workers

    def _roles(self, partitions: Mapping[int, PartitionState]) -> Metric:
        text = f"Role in the partition: {', '.join(f'{number} {role}' for role, number in ROLES.items())}."
        roles = GaugeMetricFamily("ftjm_partition_role", text, labels=["partition"])
        for number, partition in partitions.items():
            roles.add_metric([str(number)], ROLES[partition.role])
        return roles

    def _jobs(self, owned: Sequence[QueueStatistics]) -> Iterable[Metric]:
        counts: Counter[tuple[str, int]] = Counter()
        oldest: dict[str, int] = {}
        for queues in owned:
            for queue, numbers in queues.counts.items():
                label = self._queues.label(queue)
                for state in JobState:
                    counts[label, state] += numbers[state]
                since = queues.oldest_at.get(queue, 0)
                oldest[label] = min(oldest.get(label) or since, since) or oldest.get(label, 0)
        text = "Jobs of the partitions that this process owns. Ended jobs count until their retention is over."
        jobs = GaugeMetricFamily("ftjm_jobs", text, labels=["queue", "state"])
        for (queue, number), count in counts.items():
            jobs.add_metric([queue, JobState(number).name], count)
        yield jobs
        text = "How long the job has waited that is served next; 0 if none waits."
        ages = GaugeMetricFamily("ftjm_queue_oldest_seconds", text, labels=["queue"])
        now = wall_ms()
        for queue, since in oldest.items():
            ages.add_metric([queue], max(0, now - since) / 1000 if since else 0.0)
        yield ages
        text = "Jobs that are due and wait for a worker's slot. Those of paused queues do not."
        yield GaugeMetricFamily("ftjm_jobs_waiting", text, value=sum(queues.waiting_jobs for queues in owned))
        paused = sum(len(queues.paused) for queues in owned)
        yield GaugeMetricFamily("ftjm_queues_paused", "Queues that are paused.", value=paused)
