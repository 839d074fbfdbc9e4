"""What a worker shows, read from its rules when it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ftjm.clock import boot_ms
from ftjm.config import Settings
from ftjm.metrics.labels import Queues
from ftjm.metrics.process import registry
from ftjm.metrics.server import Health, serve
from ftjm.worker.life import Life


class WorkerMetrics(Collector):
    """Gauges of one worker's life. Reads from another thread than the rules', so all is copied first."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._queues = Queues()

    def collect(self) -> Iterable[Metric]:
        yield self._slots()
        text = "Since this worker sent the newest heartbeat that the log has; its lease counts from there."
        age = GaugeMetricFamily("ftjm_worker_heartbeat_age_seconds", text)
        heard = [s.acknowledged_at for s in list(self._life.sessions.values()) if s.acknowledged_at is not None]
        if heard:
            age.add_metric([], max(0, boot_ms() - max(heard)) / 1000)
        yield age
        draining = GaugeMetricFamily("ftjm_worker_draining", "1 while this worker takes nothing new and is leaving.")
        draining.add_metric([], int(self._life.draining))
        yield draining

    def _slots(self) -> Metric:
        text = "Slots by what they do. A free one is counted for each queue that the worker serves: any may use it."
        slots = GaugeMetricFamily("ftjm_worker_slots", text, labels=["queue", "status"])
        busy: Counter[str] = Counter()
        for session in list(self._life.sessions.values()):
            busy.update(self._queues.label(held.order.queue) for held in list(session.held.values()))
        free = 0 if self._life.draining else max(0, self._life.identity.slots - busy.total())
        for queue in dict.fromkeys((*map(self._queues.label, self._life.identity.queues), *busy)):
            slots.add_metric([queue, "busy"], busy[queue])
            slots.add_metric([queue, "free"], free)
        return slots


def why_not_ready(life: Life) -> str:
    """Empty while jobs can come: the current session is open, and within its lease."""
    current = life.current
    if life.draining:
        return "the worker is leaving"
    if current is None or not current.opened:
        return "its session is not open yet"
    return "" if current.in_lease(boot_ms()) else "its lease is over: the log has no recent heartbeat"


class Shown:
    """The worker's metrics and health from its start on, also while it waits for Kafka."""

    def __init__(self, settings: Settings) -> None:
        """Raises FtjmError, UsageError as `serve`."""
        self._life: Life | None = None
        self._registry = registry("worker")
        self._health = Health(lambda: why_not_ready(self._life) if self._life else "Kafka has not been reached yet")
        self._server = serve(settings, "worker", self._registry, self._health)

    def lives(self, life: Life) -> None:
        """The worker's rules are there."""
        self._life = life
        self._registry.register(WorkerMetrics(life))

    def pulse(self) -> bool:
        """The main loop turns. Always true, so that it fits into a condition."""
        self._health.pulse()
        return True

    def close(self) -> None:
        self._server.close()
