"""The suite `latency`: how long one job takes on an idle cluster."""

from __future__ import annotations

import time

from ftjm.client.command_client import Client
from ftjm.core.records.commands import SubmitJob
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind, spec
from ftjm.lab.bench.report import STAGE, Figure, percentile, significant
from ftjm.lab.bench.stages import Seen, mean_stages
from ftjm.runtime.errors import FtjmError

WARM_UP = 20
PATIENCE_SECONDS = 30.0


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    options = cluster.options
    cluster.start_schedulers()
    cluster.start_workers(options.work)
    cluster.progress.step("warming up")
    jobs: list[Seen] = []
    done: list[float] = []
    with Client(cluster.settings) as client:
        for number in range(-WARM_UP, options.jobs):
            queue = options.queues[number % len(options.queues)]
            job, ended_ms = _one(client, queue, number, options.work)
            cluster.group.check()
            if number >= 0:
                jobs.append(job)
                done.append(ended_ms)
                cluster.progress.step("one job after the other") if number == 0 else None
                cluster.progress.move(number + 1, options.jobs)
    cluster.progress.step("reading the logs")
    seen = [job.answered - job.sent for job in jobs]
    named = {"p50_ms": (seen, 50), "p95_ms": (seen, 95), "p99_ms": (seen, 99)}
    named |= {"done_p50_ms": (done, 50), "done_p99_ms": (done, 99)}
    figures = {name: percentile(values, percent) for name, (values, percent) in named.items()}
    figures |= {f"{STAGE}{name}_ms": value for name, value in mean_stages(cluster.settings, jobs).items()}
    return {name: significant(value) for name, value in figures.items()}


def _one(client: Client, queue: str, number: int, work: WorkKind) -> tuple[Seen, float]:
    """Run one job. Return what the client saw, and the time from its submission until it ended, ms."""
    command = SubmitJob(queue=queue, job_id=f"one{number}", spec=spec(work, timed=True), awaits=True)
    began = time.time_ns()
    ticket = client.send(command)
    client.ended([ticket], PATIENCE_SECONDS)
    seen = time.time_ns()
    if ticket.outcome is None or not ticket.outcome.result:
        found = str(ticket.outcome or ticket.reply or "no answer")
        raise FtjmError("the job's result", found, "find out what keeps this machine busy, and run the benchmark again")
    return Seen(queue, command.job_id, began / 1e6, seen / 1e6), (int(ticket.outcome.result) - began) / 1e6
