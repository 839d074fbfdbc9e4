"""The suite `submit`: how fast one process submits jobs, one by one and many at once."""

from __future__ import annotations

import time

from ftjm.client.command_client import Client
from ftjm.client.groups import grouped
from ftjm.core.records.commands import SubmitJob
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind, spec
from ftjm.lab.bench.report import Figure, percentile, rate, significant

DECISION_SECONDS = 30.0
ONE_BY_ONE_MAX = 1_000


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them. Without workers, the jobs wait."""
    cluster.start_schedulers()
    with Client(cluster.settings) as client:
        cluster.progress.step("one by one")
        ones = min(cluster.options.jobs, ONE_BY_ONE_MAX)
        acknowledged, decided = _one_by_one(cluster, client, _jobs(cluster, "one", ones))
    with Client(cluster.settings, listen=False) as client:
        cluster.progress.step("many at once")
        many_seconds = _many(cluster, client, _jobs(cluster, "many", cluster.options.jobs))
    return {
        "one_per_s": rate(ones, sum(acknowledged) / 1000),
        "many_per_s": rate(cluster.options.jobs, many_seconds),
        "acknowledged_p50_ms": significant(percentile(acknowledged, 50)),
        "acknowledged_p99_ms": significant(percentile(acknowledged, 99)),
        "decided_p50_ms": significant(percentile(decided, 50)),
        "decided_p99_ms": significant(percentile(decided, 99)),
    }


def _one_by_one(cluster: BenchCluster, client: Client, jobs: list[SubmitJob]) -> tuple[list[float], list[float]]:
    """Submit jobs one after the other.

    Returns:
        For each job the time until the log has it, and until the owner of its partition has answered, ms.
    """
    acknowledged, decided = [], []
    for number, job in enumerate(jobs):
        began = time.perf_counter()
        ticket = client.send(job)
        client.confirm()
        acknowledged.append((time.perf_counter() - began) * 1000)
        client.decided([ticket], DECISION_SECONDS)
        decided.append((time.perf_counter() - began) * 1000)
        cluster.progress.move(number + 1, len(jobs))
        cluster.group.check()
    return acknowledged, decided


def _many(cluster: BenchCluster, client: Client, jobs: list[SubmitJob]) -> float:
    began = time.perf_counter()
    for group in grouped(jobs):
        client.hand_over([*map(client.ticket, group)])
    client.confirm(lambda done: cluster.progress.move(done, len(jobs)))
    return time.perf_counter() - began


def _jobs(cluster: BenchCluster, prefix: str, count: int) -> list[SubmitJob]:
    queues, job = cluster.options.queues, spec(WorkKind.NOOP)
    return [
        SubmitJob(queue=queues[number % len(queues)], job_id=f"{prefix}-{number}", spec=job) for number in range(count)
    ]
