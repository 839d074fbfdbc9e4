"""ftjm with one scheduler and its embedded Kafka: Python tasks as they are by default."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import ftjm
from ftjm.local.ports import free_base_port
from scripts.peers import functions
from scripts.peers.processes import START_SECONDS_MAX, Stalled, await_port
from scripts.peers.workload import Peer

SLOTS = 8


@ftjm.task
def no_op(payload: str) -> str:
    """Call the function that all systems call."""
    return functions.no_op(payload)


@ftjm.task
def stamp(number: int, payload: str) -> str:
    """Call the function that all systems call."""
    return functions.stamp(number, payload)


class System(Peer):
    """See the head of this file."""

    title = "ftjm"
    flushes = "memory of all brokers in sync"
    stores = "results, every event"

    @property
    def version(self) -> str:
        """See `Peer`."""
        return ftjm.__version__

    def start(self) -> None:
        """See `Peer`."""
        port = free_base_port()
        only = ["--schedulers", "1", "--workers", "0", "--no-api", "--port", str(port)]
        self.processes.start("up", [sys.executable, "-m", "ftjm", "up", "--data-dir", str(self.folder), *only])
        await_port(port, self.processes.check)
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            self.processes.check()
            with suppress(ftjm.FtjmError):
                self._client = ftjm.Client(data_dir=str(self.folder))  # the topics may not be there yet
                return
            time.sleep(0.1)
        raise Stalled(f"`ftjm up` does not answer after {START_SECONDS_MAX:g} s")

    def worker_command(self, number: int) -> Sequence[str]:
        """See `Peer`."""
        where = ["--data-dir", str(self.folder), "--name", f"worker-{number}"]
        return [sys.executable, "-m", "ftjm", "worker", "--app", __name__, "--slots", str(SLOTS), *where]

    def submit(self, count: int) -> None:
        """See `Peer`."""
        self._client.submit_many((no_op(functions.PAYLOAD) for _ in range(count)), awaits=False)

    def submit_stamp(self, number: int) -> None:
        """See `Peer`."""
        self._client.submit(stamp(number, functions.PAYLOAD))
