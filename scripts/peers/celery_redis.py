"""Celery with Redis as its broker and for its results, set up so that a lost worker loses no task."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version

from celery import Celery

from scripts.peers import functions
from scripts.peers.processes import await_port
from scripts.peers.workload import Peer

ADDRESS = f"redis://127.0.0.1:{os.environ['PEERS_PORT']}"
app = Celery("peers", broker=f"{ADDRESS}/0", backend=f"{ADDRESS}/1")
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
app.conf.broker_connection_retry_on_startup = True
no_op = app.task(functions.no_op)
stamp = app.task(functions.stamp)


class System(Peer):
    """See the head of this file."""

    title = "Celery + Redis"
    flushes = "file, once a second"
    stores = "results"

    @property
    def version(self) -> str:
        """See `Peer`."""
        return f"{version('celery')}, Redis {self._redis}"

    def start(self) -> None:
        """See `Peer`."""
        program = shutil.which("redis-server")
        assert program is not None, "install.py has put it on the PATH"
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        where = ["--port", str(self.ports[0]), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self.processes.start("redis", [program, *where, *durable])
        await_port(self.ports[0], self.processes.check)
        with app.connection_for_read() as connection:
            self._redis = connection.default_channel.client.info()["redis_version"]

    def worker_command(self, number: int) -> Sequence[str]:
        """See `Peer`. It runs a process for each core, as it does by default."""
        quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
        name = ["--hostname", f"worker{number}@bench"]
        return [sys.executable, "-m", "celery", "--app", __name__, "worker", *name, *quiet]

    def submit(self, count: int) -> None:
        """See `Peer`."""
        for _ in range(count):
            no_op.delay(functions.PAYLOAD)

    def submit_stamp(self, number: int) -> None:
        """See `Peer`."""
        stamp.delay(number, functions.PAYLOAD)
