"""The suite `events`: how fast a history is read, decoded and folded, by one process."""

from __future__ import annotations

import time
from collections.abc import Callable

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.bench.cluster import Cluster
from ftjm.bench.options import Work
from ftjm.bench.report import Figure, rate
from ftjm.core import events as e
from ftjm.replay import Until, replayed


def run(cluster: Cluster) -> dict[str, Figure]:
    """The figures; docs/benchmarks.md says what each is."""
    _make_history(cluster)
    count, read_seconds = _each(cluster, lambda _value: None)
    _, decode_seconds = _each(cluster, codec.decode)
    return {
        "events": count,
        "read_per_s": rate(count, read_seconds),
        "events_per_s": rate(count, decode_seconds),
        "fold_per_s": rate(count, _fold(cluster)),
    }


def _make_history(cluster: Cluster) -> None:
    """Jobs that ran, and nobody who goes on writing."""
    schedulers = cluster.start_schedulers()
    workers = cluster.start_workers(Work.NOOP)
    clients = cluster.start_clients(cluster.options.jobs, Work.NOOP)
    cluster.progress.step("making events")
    cluster.watch.until(e.AttemptSucceeded, cluster.options.jobs)
    cluster.submitted(clients)
    cluster.crew.stop(workers)
    cluster.crew.stop(schedulers)


def _each(cluster: Cluster, look: Callable[[bytes], object]) -> tuple[int, float]:
    """Read all events, and look at each; how many there are, and how long it took, s."""
    cluster.progress.step("reading events")
    with _scan(cluster) as scan:
        began, count = time.perf_counter(), 0
        for record in scan.read(dict.fromkeys(range(scan.partitions), 0)):
            look(record.value)
            count += 1
        return count, time.perf_counter() - began


def _fold(cluster: Cluster) -> float:
    """Fold them into new stores, as a standby or a takeover without a store does."""
    cluster.progress.step("folding events")
    seconds = 0.0
    for partition in range(cluster.options.partitions):
        with _scan(cluster) as scan:
            began = time.perf_counter()
            with replayed(scan, partition, Until()):
                seconds += time.perf_counter() - began
    return seconds


def _scan(cluster: Cluster) -> Scan:
    return Scan(cluster.settings.kafka_settings("bench"), cluster.settings.topic("events"))
