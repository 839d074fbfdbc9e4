"""A steady load for benchmarks that measure a working cluster."""

from __future__ import annotations

import threading
import time

from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.records.commands import SubmitJob
from ftjm.lab.bench.cluster import BenchCluster
from ftjm.lab.bench.options import WorkKind, spec


class SteadyLoad:
    """A client that submits jobs at a steady rate to all partitions. A context manager: submits until its exit."""

    def __init__(self, cluster: BenchCluster, work: WorkKind, jobs_per_second: float) -> None:
        """`jobs_per_second` is the rate of each partition."""
        self._cluster = cluster
        self._job = spec(work)
        self._pause = 1 / jobs_per_second / len(cluster.options.queues)
        self._tickets: list[Ticket] = []
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> SteadyLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop submitting, and wait until the log has all submitted jobs."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        queues = self._cluster.options.queues
        try:
            with Client(self._cluster.settings, listen=False) as client:
                due = time.monotonic()
                while not self._over.wait(max(0.0, due - time.monotonic())):
                    due += self._pause
                    number = len(self._tickets)
                    command = SubmitJob(queue=queues[number % len(queues)], job_id=f"load-{number}", spec=self._job)
                    self._tickets.append(client.send(command))
                client.confirm()
        except Exception as error:  # noqa: BLE001  (raised by `acknowledged`)
            self._failure = error

    def acknowledged(self) -> list[tuple[str, str]]:
        """Return the jobs that the log has acknowledged. Raises the error that ended the load, if one did."""
        if self._failure is not None:
            raise self._failure
        return [(t.command.queue, t.command.job_id) for t in self._tickets if t.acknowledged]
