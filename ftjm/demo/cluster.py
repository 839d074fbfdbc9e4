"""The cluster of the demonstration: `ftjm up` as a user runs it, followed through its API, judged by its log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ftjm import children, config, endpoint
from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.checker import Entry, Name
from ftjm.core import events as e
from ftjm.core.messages import SessionState
from ftjm.demo.batch import APP, QUEUES, SURVEY_QUEUE
from ftjm.demo.web import Web
from ftjm.embedded.ports import free_base_port
from ftjm.errors import FtjmError

SCHEDULERS = 2
WORKERS = 2
START_SECONDS_MAX = 240.0
"""The first start on a machine fetches Kafka."""
STOP_SECONDS_MAX = 40.0
LOOK_SECONDS = 0.2
LOG_LINES_SHOWN = 15


class Batch(NamedTuple):
    """The end of one transaction, and when the log took it."""

    partition: int
    time_ms: int
    closed: e.BatchClosed


class Cluster:
    """A context manager: on leaving it nothing runs any more."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder
        self._log = folder / "up.log"
        self.history: list[Entry] = []
        """All of `events`, once `read_log` has read it."""
        self.batches: list[Batch] = []
        self.ended: dict[Name, e.Event] = {}
        """How each job ended."""

    def __enter__(self) -> Cluster:
        options = ["--data-dir", str(self.data_dir), "--port", str(free_base_port()), "--schedulers", str(SCHEDULERS)]
        queues = [part for queue in (*QUEUES, SURVEY_QUEUE) for part in ("--queue", queue)]
        command = [sys.executable, "-m", "ftjm", "up", *options, "--workers", str(WORKERS), "--app", APP, *queues]
        # It dies with us, however we die; Ctrl-C reaches only us.
        self._up = children.spawn(command, output=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        children.stop([self._up], within_seconds=STOP_SECONDS_MAX)

    # -- its life, as the API tells it

    def wait_until_ready(self) -> None:
        """Until both schedulers own partitions, all partitions are owned, and both workers are heard."""
        self._until(lambda: endpoint.read(self.data_dir) is not None, "Kafka and the topics")
        self.settings = config.load(data_dir=self.data_dir)
        self.web = Web(self.settings.api)
        self.wait_for_api()
        self._until(lambda: len(self._workers()) == WORKERS, "the workers' heartbeats")
        self._until(self._all_owned, "the schedulers to own all partitions")

    def wait_for_api(self) -> None:
        """Until it has read the log to its end."""
        self._until(self.web.ready, "the API to be ready")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with suppress(OSError):  # the API is not there yet
                if condition():
                    return
            if time.monotonic() > deadline:
                raise self.failure(what, f"none after {START_SECONDS_MAX:g} s")
            self.check_alive()
            time.sleep(LOOK_SECONDS)

    def _all_owned(self) -> bool:
        partitions = self.web.get("/partitions")["partitions"]
        owners = [partition["owner"] for partition in partitions if partition["alive"]]
        return len(owners) == self.settings.partitions and len(set(owners)) == SCHEDULERS

    def _workers(self) -> list[dict[str, Any]]:
        """Those whose session is open."""
        workers = self.web.get("/workers")["workers"]
        return [worker for worker in workers if worker["alive"] and worker["state"] == SessionState.OPEN.value]

    def check_alive(self) -> None:
        """Raise FtjmError if `ftjm up` has ended by itself."""
        if self._up.poll() is not None:
            raise self.failure("`ftjm up` to run", f"it ended with status {self._up.returncode}")

    def failure(self, expected: str, found: str) -> FtjmError:
        """An error that shows the end of what `ftjm up` said."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        said = "".join(f"\n    {line}" for line in lines)
        return FtjmError(expected, f"{found}; `ftjm up` said:{said}", "mend what it says, and run the demo again")

    # -- what a user does

    def run(self, *arguments: str) -> str:
        """Run `ftjm` with these arguments; what it printed. Raises FtjmError if it fails."""
        command = [sys.executable, "-m", "ftjm", *arguments, "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise self.failure(f"`ftjm {arguments[0]}` to succeed", f"status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def submit(self, jobs: Path) -> list[Name]:
        """Submit a file; the jobs that the replicated log has acknowledged."""
        printed = self.run("submit", "-f", str(jobs))
        return [(queue, job_id) for queue, _, job_id in (line.partition("/") for line in printed.splitlines())]

    # -- what the log tells

    def read_log(self) -> None:
        """Read the whole of `events`."""
        with Scan(self.settings.kafka_settings("demo"), self.settings.topic("events")) as scan:
            for record in scan.read(dict.fromkeys(range(scan.partitions), 0)):
                event = codec.decode(record.value)
                assert isinstance(event, e.Event | e.BatchClosed)
                self.history.append(Entry(record.partition, record.offset, event, record.time_ms))
                if isinstance(event, e.BatchClosed):
                    self.batches.append(Batch(record.partition, record.time_ms, event))
                elif isinstance(event, e.AttemptSucceeded | e.JobFailed | e.JobCancelled):
                    self.ended[event.queue, event.job_id] = event

    def owners(self) -> dict[int, str]:
        """Who wrote the newest batch of each partition: `name@host:pid`."""
        return {batch.partition: batch.closed.owner for batch in self.batches}

    # -- what breaks it

    def kill_scheduler(self) -> tuple[str, int]:
        """`kill -9` of the one that owns the most; its name as owner, and the time, ms."""
        owners = Counter(partition["owner"] for partition in self.web.get("/partitions")["partitions"])
        [(owner, _)] = owners.most_common(1)
        return owner, _kill(int(owner.rpartition(":")[2]))

    def kill_worker(self) -> dict[str, Any]:
        """`kill -9` of the busiest one; as the API tells of it."""
        worker = max(self._workers(), key=lambda found: found["busy"])
        _kill(worker["pid"])
        return worker

    def kill_api(self) -> int:
        """`kill -9` of the API's process; its id."""
        children_of_up = psutil.Process(self._up.pid).children()
        [pid] = [child.pid for child in children_of_up if "api" in child.cmdline()]
        _kill(pid)
        return pid


def _kill(pid: int) -> int:
    at = time.time_ns() // 1_000_000
    os.kill(pid, signal.SIGKILL)
    return at


def takeovers(batches: Sequence[Batch], owner: str, killed_at_ms: int) -> dict[int, int]:
    """For each partition of a killed owner: from the kill to the first batch of the next one, ms."""
    newest: dict[int, str] = {}
    found: dict[int, int] = {}
    for batch in batches:
        before = newest.get(batch.partition)
        if before == owner != batch.closed.owner and batch.time_ms >= killed_at_ms:
            found[batch.partition] = batch.time_ms - killed_at_ms
        newest[batch.partition] = batch.closed.owner
    return found
