"""A worker's metrics and health, read from its rules when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ftjm.runtime.clock import boot_ms
from ftjm.runtime.config import Settings
from ftjm.telemetry.labels import Queues
from ftjm.telemetry.process_metrics import registry
from ftjm.telemetry.server import Health, serve
from ftjm.worker.rules.worker_life import WorkerRules


class WorkerMetrics(Collector):
    """Gauges of one worker. They are read in another thread than the rules run in, so everything is copied first."""

    def __init__(self, rules: WorkerRules) -> None:
        self._rules = rules
        self._queues = Queues()

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        yield self._slots()
        text = "Since this worker sent the newest heartbeat that the log has; its lease counts from there."
        age = GaugeMetricFamily("ftjm_worker_heartbeat_age_seconds", text)
        acknowledged = [s.acknowledged_at for s in list(self._rules.sessions.values()) if s.acknowledged_at is not None]
        if acknowledged:
            age.add_metric([], max(0, boot_ms() - max(acknowledged)) / 1000)
        yield age
        draining = GaugeMetricFamily("ftjm_worker_draining", "1 while this worker takes nothing new and is leaving.")
        draining.add_metric([], int(self._rules.draining))
        yield draining

    def _slots(self) -> Metric:
        text = "Slots by what they do. A free one is counted for each queue that the worker serves: any may use it."
        slots = GaugeMetricFamily("ftjm_worker_slots", text, labels=["queue", "status"])
        busy: Counter[str] = Counter()
        for session in list(self._rules.sessions.values()):
            busy.update(self._queues.label(held.dispatch.queue) for held in list(session.held.values()))
        free = 0 if self._rules.draining else max(0, self._rules.identity.slots - busy.total())
        for queue in dict.fromkeys((*map(self._queues.label, self._rules.identity.queues), *busy)):
            slots.add_metric([queue, "busy"], busy[queue])
            slots.add_metric([queue, "free"], free)
        return slots


def why_not_ready(rules: WorkerRules) -> str:
    """The reason why no job can be dispatched to this worker; empty if its session is open and within its lease."""
    current = rules.current
    if rules.draining:
        return "the worker is leaving"
    if current is None or not current.opened:
        return "its session is not open yet"
    return "" if current.is_in_lease(boot_ms()) else "its lease is over: the log has no recent heartbeat"


class WorkerStatusServer:
    """Serves the worker's metrics and health from its start on, also while it waits for Kafka."""

    def __init__(self, settings: Settings) -> None:
        """Start to serve. Raises FtjmError and UsageError as `serve` does."""
        self._rules: WorkerRules | None = None
        self._registry = registry("worker")
        self._health = Health(lambda: why_not_ready(self._rules) if self._rules else "Kafka has not been reached yet")
        self._server = serve(settings, "worker", self._registry, self._health)

    def show(self, rules: WorkerRules) -> None:
        """Show the state of these rules from now on."""
        self._rules = rules
        self._registry.register(WorkerMetrics(rules))

    def pulse(self) -> bool:
        """Note that the main loop turns. Always true, so that it fits into a condition."""
        self._health.pulse()
        return True

    def close(self) -> None:
        """End the server."""
        self._server.close()
