"""The cluster of the demonstration: `ftjm up` as a user runs it, watched through its topics alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ftjm import children, config, endpoint
from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Record, Scan
from ftjm.checker import Entry, Name
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.core.messages import SessionState, WorkerHeartbeat
from ftjm.demo.batch import QUEUES
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


class Tail:
    """All records of a topic, read on from where the last look ended."""

    def __init__(self, settings: Settings, kind: str) -> None:
        self._scan = Scan(settings.kafka_settings("demo"), settings.topic(kind))
        self._next = dict.fromkeys(range(self._scan.partitions), 0)

    def look(self) -> list[Record]:
        records = list(self._scan.read(self._next))
        for record in records:
            self._next[record.partition] = record.offset + 1
        return records

    def close(self) -> None:
        self._scan.__exit__()


class Cluster:
    """A context manager: on leaving it nothing runs any more."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder
        self._log = folder / "up.log"
        self._tails: list[Tail] = []
        self.history: list[Entry] = []
        """All of `events` that was read so far."""
        self.batches: list[Batch] = []
        self.ended: dict[Name, e.Event] = {}
        """How each job ended."""

    def __enter__(self) -> Cluster:
        options = ["--data-dir", str(self.data_dir), "--port", str(free_base_port()), "--schedulers", str(SCHEDULERS)]
        queues = [part for queue in QUEUES for part in ("--queue", queue)]
        command = [sys.executable, "-m", "ftjm", "up", *options, "--workers", str(WORKERS), *queues]
        # It dies with us, however we die; Ctrl-C reaches only us.
        self._up = children.spawn(command, output=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        for tail in self._tails:
            tail.close()
        children.stop([self._up], within_seconds=STOP_SECONDS_MAX)

    # -- its life

    def wait_until_ready(self) -> None:
        """Until both schedulers own partitions, all partitions are owned, and both workers are heard."""
        self._until(lambda: endpoint.read(self.data_dir) is not None, "Kafka and the topics")
        self.settings = config.load(data_dir=self.data_dir)
        self._events, self._heartbeats = Tail(self.settings, "events"), Tail(self.settings, "heartbeats")
        self._tails = [self._events, self._heartbeats]
        self._sessions: dict[str, WorkerHeartbeat] = {}
        self._until(lambda: len(self._workers()) == WORKERS, "the workers' heartbeats")
        self._until(self._all_owned, "the schedulers to own all partitions")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not condition():
            if time.monotonic() > deadline:
                raise self.failure(what, f"none after {START_SECONDS_MAX:g} s")
            self.check_alive()
            time.sleep(LOOK_SECONDS)

    def _all_owned(self) -> bool:
        self.look()
        owners = self.owners()
        return len(owners) == self.settings.partitions and len(set(owners.values())) == SCHEDULERS

    def _workers(self) -> list[WorkerHeartbeat]:
        """The newest heartbeat of each session that is open."""
        for record in self._heartbeats.look():
            heartbeat = codec.decode(record.value)
            if isinstance(heartbeat, WorkerHeartbeat):
                self._sessions[heartbeat.session] = heartbeat
        return [heartbeat for heartbeat in self._sessions.values() if heartbeat.state is SessionState.OPEN]

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

    def look(self) -> None:
        """Read what is new in `events`."""
        for record in self._events.look():
            event = codec.decode(record.value)
            assert isinstance(event, e.Event | e.BatchClosed)
            self.history.append(Entry(record.partition, record.offset, event))
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
        self.look()
        [(owner, _)] = Counter(self.owners().values()).most_common(1)
        return owner, _kill(int(owner.rpartition(":")[2]))

    def kill_worker(self) -> tuple[WorkerHeartbeat, int]:
        """`kill -9` of the busiest one; its session, and the time, ms."""
        worker = max(self._workers(), key=lambda heartbeat: heartbeat.busy)
        return worker, _kill(worker.pid)


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
