"""The cluster of the demonstration: `ftjm up`, started as a user starts it, with its API, its log and its processes."""

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

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.records import events as e
from ftjm.core.records.messages import SessionState
from ftjm.lab.checker import JobName, LogEntry
from ftjm.lab.demo.api_client import ApiClient
from ftjm.lab.demo.batch import APP, QUEUES, SURVEY_QUEUE
from ftjm.local.ports import free_base_port
from ftjm.runtime import child_processes, config, endpoint
from ftjm.runtime.errors import FtjmError

SCHEDULERS = 2
WORKERS = 2
START_SECONDS_MAX = 240.0
"""Long, since the first start on a machine downloads Kafka."""
STOP_SECONDS_MAX = 40.0
POLL_SECONDS = 0.2
LOG_LINES_SHOWN = 15


class LoggedBatch(NamedTuple):
    """The last record of a batch, and when the log took it (wall clock, ms)."""

    partition: int
    time_ms: int
    closed: e.BatchClosed


class DemoCluster:
    """The running cluster. A context manager: on exit, it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder
        self._log = folder / "up.log"
        self.history: list[LogEntry] = []
        """All records of the topic `events`, once `read_log` has read them."""
        self.batches: list[LoggedBatch] = []
        self.ended: dict[JobName, e.Event] = {}
        """The event with which each job ended."""

    def __enter__(self) -> DemoCluster:
        options = ["--data-dir", str(self.data_dir), "--port", str(free_base_port()), "--schedulers", str(SCHEDULERS)]
        queues = [part for queue in (*QUEUES, SURVEY_QUEUE) for part in ("--queue", queue)]
        command = [sys.executable, "-m", "ftjm", "up", *options, "--workers", str(WORKERS), "--app", APP, *queues]
        # The process ends when the demo ends, however it ends. Ctrl-C reaches only the demo.
        self._up = child_processes.spawn(command, output=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        child_processes.stop([self._up], within_seconds=STOP_SECONDS_MAX)

    # -- following it over HTTP

    def wait_until_ready(self) -> None:
        """Wait until both schedulers own partitions, all partitions are owned, and both workers are known."""
        self._until(lambda: endpoint.read(self.data_dir) is not None, "Kafka and the topics")
        self.settings = config.load(data_dir=self.data_dir)
        self.api = ApiClient(self.settings.api, self.settings.api_token)
        self.wait_for_api()
        self._until(lambda: len(self._workers()) == WORKERS, "the workers' heartbeats")
        self._until(self._all_owned, "the schedulers to own all partitions")

    def wait_for_api(self) -> None:
        """Wait until the API has read the log to its end."""
        self._until(self.api.is_ready, "the API to be ready")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with suppress(OSError):  # the API does not run yet
                if condition():
                    return
            if time.monotonic() > deadline:
                raise self.failure(what, f"none after {START_SECONDS_MAX:g} s")
            self.check_running()
            time.sleep(POLL_SECONDS)

    def _all_owned(self) -> bool:
        partitions = self.api.get("/partitions")["partitions"]
        owners = [partition["owner"] for partition in partitions if partition["alive"]]
        return len(owners) == self.settings.partitions and len(set(owners)) == SCHEDULERS

    def _workers(self) -> list[dict[str, Any]]:
        """Return the workers whose session is open."""
        workers = self.api.get("/workers")["workers"]
        return [worker for worker in workers if worker["alive"] and worker["state"] == SessionState.OPEN.value]

    def check_running(self) -> None:
        """Raise FtjmError if `ftjm up` has ended unexpectedly."""
        if self._up.poll() is not None:
            raise self.failure("`ftjm up` to run", f"it ended with status {self._up.returncode}")

    def failure(self, expected: str, found: str) -> FtjmError:
        """Return an error that shows the last lines that `ftjm up` wrote."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        written = "".join(f"\n    {line}" for line in lines)
        return FtjmError(expected, f"{found}; `ftjm up` wrote:{written}", "fix what it reports, and run the demo again")

    # -- acting as a user

    def run(self, *arguments: str) -> str:
        """Run `ftjm` with these arguments, and return its output. Raises FtjmError if it fails."""
        command = [sys.executable, "-m", "ftjm", *arguments, "--data-dir", str(self.data_dir)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise self.failure(f"`ftjm {arguments[0]}` to succeed", f"status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def submit(self, jobs: Path) -> list[JobName]:
        """Submit a file of jobs. Return the jobs that the replicated log has acknowledged."""
        printed = self.run("submit", "-f", str(jobs))
        return [(queue, job_id) for queue, _, job_id in (line.partition("/") for line in printed.splitlines())]

    # -- reading its log

    def read_log(self) -> None:
        """Read the whole topic `events` into `history`, `batches` and `ended`."""
        with Scan(self.settings.kafka_settings("demo"), self.settings.topic("events")) as scan:
            for record in scan.read(dict.fromkeys(range(scan.partitions), 0)):
                event = codec.decode(record.value)
                assert isinstance(event, e.Event | e.BatchClosed)
                self.history.append(LogEntry(record.partition, record.offset, event, record.time_ms))
                if isinstance(event, e.BatchClosed):
                    self.batches.append(LoggedBatch(record.partition, record.time_ms, event))
                elif isinstance(event, e.AttemptSucceeded | e.JobFailed | e.JobCancelled | e.JobSkipped):
                    self.ended[event.queue, event.job_id] = event

    def owners(self) -> dict[int, str]:
        """Return the owner that wrote the newest batch of each partition: `name@host:pid`."""
        return {batch.partition: batch.closed.owner for batch in self.batches}

    # -- breaking it

    def kill_scheduler(self) -> tuple[str, int]:
        """Kill the scheduler that owns the most partitions. Return it as `name@host:pid`, and the time, ms."""
        owners = Counter(partition["owner"] for partition in self.api.get("/partitions")["partitions"])
        [(owner, _)] = owners.most_common(1)
        return owner, _kill(int(owner.rpartition(":")[2]))

    def kill_worker(self) -> dict[str, Any]:
        """Kill the busiest worker. Return its document of the API."""
        worker = max(self._workers(), key=lambda found: found["busy"])
        _kill(worker["pid"])
        return worker

    def kill_api(self) -> int:
        """Kill the process of the API. Return its pid."""
        children_of_up = psutil.Process(self._up.pid).children()
        [pid] = [child.pid for child in children_of_up if "api" in child.cmdline()]
        _kill(pid)
        return pid


def _kill(pid: int) -> int:
    at = time.time_ns() // 1_000_000
    os.kill(pid, signal.SIGKILL)
    return at


def takeovers(batches: Sequence[LoggedBatch], owner: str, killed_at_ms: int) -> dict[int, int]:
    """Return for each partition of a killed owner the time from the kill to the first batch of the next owner, ms."""
    newest: dict[int, str] = {}
    found: dict[int, int] = {}
    for batch in batches:
        before = newest.get(batch.partition)
        if before == owner != batch.closed.owner and batch.time_ms >= killed_at_ms:
            found[batch.partition] = batch.time_ms - killed_at_ms
        newest[batch.partition] = batch.closed.owner
    return found
