"""The suite `events`: how fast one process reads, decodes and folds a history."""

from __future__ import annotations

import time
from collections.abc import Callable

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.records import events as e
from ftjm.history.replay import Until, replayed
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind
from ftjm.lab.bench.report import Figure, rate


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    _make_history(cluster)
    count, read_seconds = _read_all(cluster, lambda _value: None)
    _, decode_seconds = _read_all(cluster, codec.decode)
    return {
        "events": count,
        "read_per_s": rate(count, read_seconds),
        "events_per_s": rate(count, decode_seconds),
        "fold_per_s": rate(count, _fold(cluster)),
    }


def _make_history(cluster: BenchCluster) -> None:
    """Run jobs, and stop all processes that write to the log."""
    schedulers = cluster.start_schedulers()
    workers = cluster.start_workers(WorkKind.NOOP)
    clients = cluster.start_clients(cluster.options.jobs, WorkKind.NOOP)
    cluster.progress.step("making events")
    cluster.counter.until(e.AttemptSucceeded, cluster.options.jobs)
    cluster.submitted(clients)
    cluster.group.stop(workers)
    cluster.group.stop(schedulers)


def _read_all(cluster: BenchCluster, handle: Callable[[bytes], object]) -> tuple[int, float]:
    """Read all events, and call `handle` with each value. Return the number of events and the time, s."""
    cluster.progress.step("reading events")
    with _scan(cluster) as scan:
        began, count = time.perf_counter(), 0
        for record in scan.read(dict.fromkeys(range(scan.partitions), 0)):
            handle(record.value)
            count += 1
        return count, time.perf_counter() - began


def _fold(cluster: BenchCluster) -> float:
    """Fold all events into new stores, as a standby or a takeover without a store does. Return the time, s."""
    cluster.progress.step("folding events")
    seconds = 0.0
    for partition in range(cluster.options.partitions):
        with _scan(cluster) as scan:
            began = time.perf_counter()
            with replayed(scan, partition, Until()):
                seconds += time.perf_counter() - began
    return seconds


def _scan(cluster: BenchCluster) -> Scan:
    return Scan(cluster.settings.kafka_settings("bench"), cluster.settings.topic("events"))
