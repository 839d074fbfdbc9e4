"""How long one job takes on a cluster that has nothing else to do."""

from __future__ import annotations

import time

from ftjm.bench.cluster import Cluster
from ftjm.bench.options import Work, spec
from ftjm.bench.report import Figure, percentile, significant
from ftjm.client import Client
from ftjm.core.commands import SubmitJob
from ftjm.errors import FtjmError

WARM_UP = 20
PATIENCE_SECONDS = 30.0


def run(cluster: Cluster) -> dict[str, Figure]:
    """The figures; docs/benchmarks.md says what each is."""
    options = cluster.options
    cluster.start_schedulers()
    cluster.start_workers(options.work)
    cluster.progress.step("warming up")
    seen: list[float] = []
    done: list[float] = []
    with Client(cluster.settings) as client:
        for number in range(-WARM_UP, options.jobs):
            queue = options.queues[number % len(options.queues)]
            times = _one(client, queue, number, options.work)
            cluster.crew.check()
            if number >= 0:
                seen.append(times[0])
                done.append(times[1])
                cluster.progress.step("one job after the other") if number == 0 else None
                cluster.progress.move(number + 1, options.jobs)
    named = {"p50_ms": (seen, 50), "p95_ms": (seen, 95), "p99_ms": (seen, 99)}
    named |= {"done_p50_ms": (done, 50), "done_p99_ms": (done, 99)}
    return {name: significant(percentile(values, percent)) for name, (values, percent) in named.items()}


def _one(client: Client, queue: str, number: int, work: Work) -> tuple[float, float]:
    """From submitting one job to its result being seen, and to its end at the worker, ms."""
    command = SubmitJob(queue=queue, job_id=f"one{number}", spec=spec(work, timed=True), awaits=True)
    began = time.time_ns()
    ticket = client.send(command)
    client.ended([ticket], PATIENCE_SECONDS)
    seen = time.time_ns()
    if ticket.outcome is None or not ticket.outcome.result:
        found = str(ticket.outcome or ticket.reply or "no answer")
        raise FtjmError("the job's result", found, "look what keeps this machine busy, and run the benchmark again")
    return (seen - began) / 1e6, (int(ticket.outcome.result) - began) / 1e6
