"""A system for tests of the workload: a job is a file, and a worker runs it that could delete it."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from scripts.peers import functions
from scripts.peers.workload import Peer

QUEUE = functions.FOLDER / "queue"


class System(Peer):
    title = "Fake"
    flushes = "a file"
    stores = "nothing"

    @property
    def version(self) -> str:
        return "1"

    def start(self) -> None:
        QUEUE.mkdir()
        self._numbers = itertools.count()

    def worker_command(self, number: int) -> Sequence[str]:
        return [sys.executable, "-m", __name__]

    def submit(self, count: int) -> None:
        for number in itertools.islice(self._numbers, count):
            (QUEUE / f"job-{number}").touch()

    def submit_stamp(self, number: int) -> None:
        (QUEUE / f"stamp-{number}").touch()


def work(job: Path) -> None:
    with suppress(FileNotFoundError):  # the other worker has it
        job.unlink()
        kind, number = job.name.split("-")
        functions.no_op(functions.PAYLOAD) if kind == "job" else functions.stamp(int(number), functions.PAYLOAD)


if __name__ == "__main__":
    while True:
        for job in QUEUE.iterdir():
            work(job)
            time.sleep(0.002)
        time.sleep(0.002)
