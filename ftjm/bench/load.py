"""A steady load, for benchmarks of what happens while a cluster works."""

from __future__ import annotations

import threading
import time

from ftjm.bench.cluster import Cluster
from ftjm.bench.options import Work, spec
from ftjm.client import Client
from ftjm.core.commands import SubmitJob
from ftjm.tickets import Ticket


class Load:
    """A client that submits at a steady rate to all partitions until it leaves. A context manager."""

    def __init__(self, cluster: Cluster, work: Work, jobs_per_second: float) -> None:
        """`jobs_per_second` is for each partition."""
        self._cluster = cluster
        self._job = spec(work)
        self._pause = 1 / jobs_per_second / len(cluster.options.queues)
        self._tickets: list[Ticket] = []
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Submit no more, and wait until the log has all that was submitted."""
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
        except Exception as error:  # noqa: BLE001  (raised where the load is asked for)
            self._failure = error

    def acknowledged(self) -> list[tuple[str, str]]:
        """Jobs that the log has taken. Raises what went wrong."""
        if self._failure is not None:
            raise self._failure
        return [(t.command.queue, t.command.job_id) for t in self._tickets if t.acknowledged]
