"""The suite `policies`: jobs per second of queues that have every policy on, against plain queues beside them.

Both kinds of queues are on the same partitions, with the same workers, which do nothing and get nothing ahead. No
policy is so narrow that jobs wait for it: what is measured is the cost of deciding by it. The two are measured in
turns, since the machine may become faster or slower meanwhile.
"""

from __future__ import annotations

import time
from statistics import median

from ftjm.client.command_client import Client
from ftjm.core.records.commands import ApplyQueue, ApplyResource
from ftjm.core.state.queues import QueueSpec, Share
from ftjm.core.state.resources import ResourceKind, ResourceSpec
from ftjm.core.state.windows import WindowSpec
from ftjm.lab.bench.client import ClientLoad
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind, queue_on
from ftjm.lab.bench.processes import BenchProcess, cpu_seconds
from ftjm.lab.bench.report import Figure, significant
from ftjm.lab.bench.throughput import end_to_end
from ftjm.runtime.errors import FtjmError

SETTINGS = {"prefetch": "0"}
"""The rate keeps jobs of the declared queues from being sent ahead, so those of the plain queues are not, either."""
TURNS = 3
PATIENCE_SECONDS = 60.0
KEYS = 1_000
SHARES = (Share("a", 1), Share("b", 2), Share("c", 4))
POLICIES = QueueSpec(
    concurrency=100_000,
    rate_limit=1_000_000,
    rate_per_ms=1_000,
    rate_burst=1_000_000,
    ageing_ms=1_000,
    weight=2,
    key_concurrency=1_000,
    shares=list(SHARES),
)


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    schedulers = cluster.start_schedulers()
    partitions, plain = cluster.options.partitions, cluster.options.queues
    declared = [queue_on(partition, partitions, "declared") for partition in range(partitions)]
    cluster.progress.step("declaring queues")
    _declare(cluster, declared)
    cluster.start_workers(WorkKind.NOOP, [*plain, *declared])
    loads = {
        "plain": ClientLoad(tuple(plain), "", 0, WorkKind.NOOP),
        "policies": ClientLoad(
            tuple(declared), "", 0, WorkKind.NOOP, KEYS, tuple(share.identifier for share in SHARES)
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in loads}
    costs: dict[str, list[float]] = {name: [] for name in loads}
    for turn in range(1 + TURNS):
        for name, load in loads.items():
            per_s, cost_us = _measure(cluster, load, schedulers)
            if turn:  # the first one warms up
                rates[name].append(per_s)
                costs[name].append(cost_us)
    figures: dict[str, Figure] = {}
    for name in loads:
        figures[f"{name}_per_s"] = significant(median(rates[name]))
        figures[f"{name}_scheduler_us"] = significant(median(costs[name]))
    pairs = zip(rates["policies"], rates["plain"], strict=True)
    return figures | {"ratio": significant(median(one / other for one, other in pairs))}


def _declare(cluster: BenchCluster, queues: list[str]) -> None:
    """Give each queue all policies. Raises FtjmError if one is refused, or if no answer comes."""
    window = WindowSpec(cron="0 0 * * *", duration_ms=86_400_000, queues=queues)
    with Client(cluster.settings) as client:
        tickets = [client.send(ApplyQueue(queue=queue, spec=POLICIES)) for queue in queues]
        always = ApplyResource(kind=ResourceKind.WINDOW, name="always", spec=ResourceSpec(window=[window]))
        tickets.append(client.send(always))
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while any(ticket.reply is None for ticket in tickets):
            client.receive(0.1)
            if time.monotonic() > give_up_at:
                raise FtjmError("the queues to be declared", "no answer", "find out what keeps this machine busy")
    for ticket in tickets:
        if ticket.reply is not None and not ticket.reply.accepted:
            raise FtjmError("the queues to be declared", ticket.reply.text, "mend the declaration of the suite")


def _measure(cluster: BenchCluster, load: ClientLoad, schedulers: list[BenchProcess]) -> tuple[float, float]:
    """Jobs per second from the first submission to the last success, and processor time of a job in µs."""
    jobs, before = cluster.options.jobs, cpu_seconds(schedulers)
    _, seconds = end_to_end(cluster, WorkKind.NOOP, jobs, load)
    return jobs / seconds, (cpu_seconds(schedulers) - before) / jobs * 1e6
