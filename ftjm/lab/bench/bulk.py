"""The suite `bulk`: half of the jobs of a queue are cancelled by one request, while another queue of the same partition
gets commands at a steady rate.

The commands are sent when they are due, whatever became of those before, and their times count from then until the
client has the decision.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.core.records.commands import BulkJobs, SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.history.bulk_requests import BulkFollower
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import PAYLOAD, queue_on
from ftjm.lab.bench.report import Figure, percentile, rate, significant
from ftjm.runtime.errors import FtjmError

SETTINGS = {"backlog_high": 2**61, "backlog_low": 2**60}
"""The jobs are submitted faster than they are decided, and none may be refused."""
COMMANDS_PER_S = 100.0
BEFORE_MAX = 2_000
"""Commands before the request, at most; as many as there are jobs if these are fewer."""
WARM_UP = 100
MEANWHILE_MIN = 10
"""Commands beside the request, at least: a small one ends before the first."""
PATIENCE_SECONDS = 60.0
LABELS = {"batch": "wrong"}


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them. Without workers, the jobs wait."""
    jobs, queue = cluster.options.jobs, cluster.options.queues[0]
    cluster.start_schedulers()
    with Client(cluster.settings, listen=False) as client:
        cluster.progress.step("filling the queue")
        client.hand_over(_tickets(client, queue, jobs))
        client.confirm()
        cluster.counter.until(e.JobSubmitted, jobs)
    with Client(cluster.settings) as client:
        partitions = cluster.options.partitions
        load = _Load(cluster, client, queue_on(partition_for(queue, partitions), partitions, "beside"))
        cluster.progress.step("commands before the request")
        count = min(jobs, BEFORE_MAX)
        load.send_while(lambda sent: sent < WARM_UP)
        before = load.send_while(lambda sent: sent < count)
        cluster.progress.step("cancelling")
        with _FollowedRequest(cluster, client, queue) as request:
            meanwhile = load.send_while(lambda sent: sent < MEANWHILE_MIN or request.goes_on())
        jobs, cancelled = request.counts()
    figures = {"jobs": jobs, "cancelled": cancelled, "bulk_s": significant(request.seconds)}
    figures["cancelled_per_s"] = rate(cancelled, request.seconds)
    for name, times in ("before", before), ("meanwhile", meanwhile):
        for percent in 50, 99:
            figures[f"{name}_p{percent}_ms"] = significant(percentile(times, percent))
    figures["p99_ratio"] = significant(percentile(meanwhile, 99) / percentile(before, 99))
    return figures


def _tickets(client: Client, queue: str, jobs: int) -> Iterator[Ticket]:
    """Tickets of jobs. Every second one will be cancelled."""
    specs = [JobSpec(command=["true"], payload=PAYLOAD, labels=labels) for labels in (LABELS, {})]
    for number in range(jobs):
        yield client.ticket(SubmitJob(queue=queue, job_id=f"waits-{number}", spec=specs[number % 2]))


class _Load:
    """Commands at a steady rate."""

    def __init__(self, cluster: BenchCluster, client: Client, queue: str) -> None:
        self._cluster = cluster
        self._client = client
        self._queue = queue
        self._sent = 0

    def send_while(self, wanted: Callable[[int], bool]) -> list[float]:
        """Send commands as long as `wanted`, which gets their number so far. Return the time of each one, ms.

        Raises:
            FtjmError: no answer came for long, or a process of the cluster has failed.
        """
        found: list[float] = []
        began, sent, answered_at = time.time(), 0, time.monotonic()
        goes_on = True
        while (goes_on := goes_on and wanted(sent)) or len(found) < sent:
            due = began + sent / COMMANDS_PER_S
            if goes_on and time.time() >= due:
                self._send(due, found)
                sent += 1
            wait = min(0.1, max(0.0, due - time.time())) if goes_on else 0.1
            if self._client.receive(wait):
                answered_at = time.monotonic()
            elif len(found) < sent and time.monotonic() - answered_at > PATIENCE_SECONDS:
                todo = "find out what keeps this machine busy, and run the benchmark again"
                raise FtjmError("answers to come", f"none for {PATIENCE_SECONDS:g} s", todo)
            self._cluster.group.check()
        return found

    def _send(self, due: float, found: list[float]) -> None:
        self._sent += 1

        def changed(ticket: Ticket) -> None:
            if ticket.reply is not None:
                found.append((time.time() - due) * 1e3)

        spec = JobSpec(command=["true"], payload=PAYLOAD)
        self._client.send(SubmitJob(queue=self._queue, job_id=f"beside-{self._sent}", spec=spec), changed)


class _FollowedRequest:
    """The bulk request, followed by a thread. A context manager: sends it, and waits for its end."""

    def __init__(self, cluster: BenchCluster, client: Client, queue: str) -> None:
        self._cluster = cluster
        self._client = client
        self._queue = queue
        self._name = f"{queue}/bench"
        self._follower = BulkFollower(cluster.settings, [queue])
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self.seconds = 0.0
        """From the sending of the request until its end was read."""

    def __enter__(self) -> _FollowedRequest:
        self._began = time.monotonic()
        self._thread.start()
        command = BulkJobs(
            queue=self._queue, action=BulkAction.CANCEL, filter=JobFilter(labels=LABELS), command_id="bench"
        )
        self._client.send(command)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE_SECONDS)
        self._follower.__exit__()

    def goes_on(self) -> bool:
        """Whether the request has not ended."""
        return self._thread.is_alive()

    def counts(self) -> tuple[int, int]:
        """Jobs of the queue, and those that were cancelled. Raises FtjmError if the request has not ended."""
        found = self._follower.known.get(self._name)
        if found is None or not found.has_ended:
            raise FtjmError("the request to end", "it has not", "find out what keeps this machine busy")
        return found.jobs, found.changed

    def _follow(self) -> None:
        for _ in self._follower.follow({(-1, -1): self._name}):
            found = self._follower.known[self._name]
            self._cluster.progress.move(found.looked, found.jobs)
            if found.has_ended:
                self.seconds = time.monotonic() - self._began
                return
