"""The suite `response`: how long a Python task takes at a fixed rate, and near the highest throughput.

Tasks are submitted when they are due, whether or not earlier ones have ended, and their times count from then: a client
that falls behind must not hide a wait. The highest throughput is that of the same client, which submits one after the
other and gets each result: jobs that are submitted in groups, and that nobody waits for, cost the cluster less.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.records.commands import SubmitJob
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind, spec
from ftjm.lab.bench.report import Figure, percentile, significant
from ftjm.runtime.errors import FtjmError

CALM_PER_S = 50.0
BUSY_PART = 0.7
"""The busy rate, as a part of the highest throughput."""
PATIENCE_SECONDS = 30.0


class Response(NamedTuple):
    """The times of one task since it was due, ms."""

    done: float
    """Until the function has ended."""
    seen: float
    """Until the client has the result."""


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    options = cluster.options
    cluster.start_schedulers()
    cluster.start_workers(WorkKind.TASK)
    jobs, seconds = options.command_jobs, options.jobs / CALM_PER_S
    with Client(cluster.settings) as client:
        cluster.progress.step("as many tasks as it can")
        began = time.monotonic()
        _responses(cluster, client, "highest", inf, jobs)
        highest = jobs / (time.monotonic() - began)
        figures: dict[str, Figure] = {"highest_per_s": significant(highest)}
        for name, rate in ("calm", CALM_PER_S), ("busy", BUSY_PART * highest):
            cluster.progress.step(f"{rate:.0f} tasks a second")
            found = _responses(cluster, client, name, rate, round(rate * seconds))
            figures[f"{name}_per_s"] = significant(rate)
            for percent in 50, 95, 99:
                figures[f"{name}_done_p{percent}_ms"] = significant(percentile([one.done for one in found], percent))
                figures[f"{name}_p{percent}_ms"] = significant(percentile([one.seen for one in found], percent))
    return figures


def _responses(cluster: BenchCluster, client: Client, name: str, rate: float, count: int) -> Sequence[Response]:
    """Submit `count` tasks, `rate` a second. Return the times of each one.

    Raises:
        FtjmError: no answer came for long, or a task failed.
    """
    queues, job = cluster.options.queues, spec(WorkKind.TASK, timed=True)
    found: list[Response] = []

    def submit(number: int, due: float) -> None:
        def changed(ticket: Ticket) -> None:
            if ticket.outcome is not None:
                seen = time.time()
                if not ticket.outcome.result:
                    raise FtjmError("every task to succeed", str(ticket.outcome), "look at `ftjm inspect events`")
                found.append(Response(int(ticket.outcome.result) / 1e6 - due * 1e3, (seen - due) * 1e3))

        command = SubmitJob(queue=queues[number % len(queues)], job_id=f"{name}-{number}", spec=job, awaits=True)
        client.send(command, changed)

    began, submitted, answered_at = time.time(), 0, time.monotonic()
    while len(found) < count:
        due = began + submitted / rate
        if submitted < count and time.time() >= due:
            submit(submitted, due)
            submitted += 1
        wait = due - time.time() if submitted < count else 1.0
        if client.receive(min(1.0, max(0.0, wait))):
            answered_at = time.monotonic()
            cluster.progress.move(len(found), count)
        elif time.monotonic() - answered_at > PATIENCE_SECONDS:
            todo = "find out what keeps this machine busy, and run the benchmark again"
            raise FtjmError("answers to come", f"{len(found)} of {count}, and none for {PATIENCE_SECONDS:g} s", todo)
        cluster.group.check()
    return found
