"""The suite `backlog`: whether jobs that wait make a cluster slow or large.

The same load runs twice on the same cluster: with no other job, and while many jobs of the same queues wait. What waits
was submitted as users submit it, so the schedulers are as large as they are after a rush.
"""

from __future__ import annotations

from ftjm.core.records import events as e
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind
from ftjm.lab.bench.processes import largest_pss_mb
from ftjm.lab.bench.report import Figure, rate, significant
from ftjm.lab.bench.throughput import measure

SETTINGS = {"backlog_high": 2**61, "backlog_low": 2**60}
"""Clients submit faster than schedulers decide. Without these, new jobs are refused when too many commands wait."""


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    jobs, waiting = cluster.options.jobs, cluster.options.backlog
    schedulers = cluster.start_schedulers()
    empty = measure(cluster, WorkKind.NOOP, jobs, schedulers)
    empty_mb = largest_pss_mb(schedulers)
    fill_seconds = _fill(cluster, waiting)
    filled_mb = largest_pss_mb(schedulers)
    full = measure(cluster, WorkKind.NOOP, jobs, schedulers)
    return {
        "waiting_jobs": waiting,
        "end_to_end_per_s": significant(full.end_to_end),
        "drain_per_s": significant(full.drain),
        "empty_end_to_end_per_s": significant(empty.end_to_end),
        "empty_drain_per_s": significant(empty.drain),
        "ratio": significant(full.end_to_end / empty.end_to_end),
        "drain_ratio": significant(full.drain / empty.drain),
        "fill_per_s": rate(waiting, fill_seconds),
        "scheduler_pss_mb": significant(max(filled_mb, largest_pss_mb(schedulers))),
        "empty_scheduler_pss_mb": significant(empty_mb),
    }


def _fill(cluster: BenchCluster, waiting: int) -> float:
    """Submit the jobs that will wait. Return the time until the last one is decided, s."""
    cluster.counter.forget()
    clients = cluster.start_clients(waiting, WorkKind.NOOP)
    cluster.progress.step("filling the queues")
    ended = cluster.counter.until(e.JobSubmitted, waiting)
    return ended - cluster.submitted(clients).began
