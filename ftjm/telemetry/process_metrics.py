"""The registry of one process, with the metrics of every role: processor, memory, threads, files, network."""

from __future__ import annotations

from collections.abc import Iterable

import prometheus_client as prometheus
import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from ftjm.runtime.version import __version__


def registry(role: str) -> prometheus.CollectorRegistry:
    """A new registry. It is not the library's global one, so that two roles in one process (as in tests) do not mix."""
    # The library would add a second series to each, which holds the time when the first was created.
    prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library left it
    made = prometheus.CollectorRegistry()
    prometheus.ProcessCollector(registry=made)
    made.register(_Process(role))
    return made


class _Process(Collector):
    """Measured when the metrics are asked for, and at no other time."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._self = psutil.Process()

    def collect(self) -> Iterable[Metric]:
        build = InfoMetricFamily("ftjm_build", "The role of this process, and its version.")
        build.add_metric([], {"role": self._role, "version": __version__})
        yield build
        threads = GaugeMetricFamily("ftjm_process_threads", "Threads of this process.")
        threads.add_metric([], self._self.num_threads())
        yield threads
        traffic = psutil.net_io_counters()
        text = "Bytes over the network that this process sees: its container's, else the whole host's."
        network = CounterMetricFamily("ftjm_network_bytes", text, labels=["direction"])
        if traffic is not None:
            network.add_metric(["received"], traffic.bytes_recv)
            network.add_metric(["sent"], traffic.bytes_sent)
        yield network
        yield self._children()

    def _children(self) -> Metric:
        text = "Resident memory of the processes that this one has started, such as a worker's guard and its jobs."
        memory = GaugeMetricFamily("ftjm_children_resident_memory_bytes", text)
        total = 0
        for child in self._self.children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:  # it has ended meanwhile
                continue
        memory.add_metric([], total)
        return memory
