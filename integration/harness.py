"""A cluster of real processes, what its topics hold, and a steady load on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import msgspec

from ftjm import children
from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Record, Scan
from ftjm.chaos import recorder
from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.core.commands import SubmitJob
from ftjm.core.identity import partition_for
from ftjm.core.model import JobSpec
from ftjm.tickets import Ticket
from integration.waiting import LIMIT_SECONDS, until

QUICK = ["true"]
QUICK_SPEC = JobSpec(command=QUICK)
STOP_SECONDS_MAX = 25.0


def queue_on(partition: int, partitions: int = 4) -> str:
    """A queue that lives in this partition."""
    return next(name for name in map("q{}".format, range(1_000)) if partition_for(name, partitions) == partition)


QUEUES = [queue_on(p) for p in range(4)]
"""One queue on each of four partitions."""


# ---- processes


class Process:
    """A role of ftjm as a process of its own; its log is kept over its lives."""

    def __init__(self, settings: Settings, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        environment = {**os.environ, **settings.environment(), "FTJM_LOG_FORMAT": "json", recorder.WORKER: name}
        self.command = [sys.executable, *command]
        """What the next life runs."""
        self._launch = partial(children.spawn, env=environment)
        self._earlier = ""
        self.start()

    def start(self) -> None:
        """A new life under the same name."""
        self.started_ms = time.time_ns() // 1_000_000
        if self.log.exists():
            self._earlier += self.log.read_text()
        self.popen = self._launch(self.command, output=self.log)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def kill(self) -> int:
        """`kill -9`; the wall clock's time of it, ms."""
        at = time.time_ns() // 1_000_000
        self.popen.kill()
        self.popen.wait()
        return at

    def pause(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.popen.terminate()
        return self.popen.wait(STOP_SECONDS_MAX)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Lines of its log, over all its lives, with this event."""
        return [line for line in self._lines() if line.get("event") == event]

    def complaints(self) -> list[dict[str, Any]]:
        """Lines that tell of an error."""
        return [line for line in self._lines() if line.get("level") in ("error", "critical") or "raw" in line]

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in (self._earlier + self.log.read_text()).splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # not of our logger: a crash of the interpreter, or a line that is being written
                yield {"raw": line}


class Cluster:
    """Processes on one cluster's topics. A context manager that stops those that are left."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        children.stop([p.popen for p in self.processes if p.popen.poll() is None], within_seconds=STOP_SECONDS_MAX)

    def scheduler(self, name: str = "a", module: str = "ftjm", *options: str) -> Process:
        """Start a scheduler; `module` is a stand-in for the program that plants a fault, and what it is given."""
        return self._start(name, ["-m", *module.split(), "scheduler", "--name", name, *options])

    def worker(self, name: str = "w", *, slots: int = 4, queues: Iterable[str] = QUEUES) -> Process:
        serves = [part for queue in queues for part in ("--queue", queue)]
        return self._start(name, ["-m", "ftjm", "worker", "--name", name, "--slots", str(slots), *serves])

    def _start(self, name: str, command: Sequence[str]) -> Process:
        process = Process(self.settings, name, command, self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def store(self, scheduler: str, partition: int) -> Path:
        return self.settings.data_dir / scheduler / f"partition-{partition}"

    @contextlib.contextmanager
    def load(
        self, per_second: float = 40.0, queues: Sequence[str] = QUEUES, spec: JobSpec = QUICK_SPEC
    ) -> Iterator[Load]:
        """Submit jobs steadily in the background until the block ends."""
        load = Load(self.settings, per_second, queues, spec)
        load.start()
        try:
            yield load
        finally:
            load.finish()

    def log(self) -> Log:
        """What the topics hold now."""
        return Log.read(self.settings)

    def until_done(self, jobs: Iterable[tuple[str, str]], limit_seconds: float = 120.0) -> Log:
        """Wait until each job has an outcome in the log."""
        wanted = set(jobs)

        def done() -> Log | None:
            log = self.log()
            return log if wanted <= log.ended() else None

        return until(done, f"{len(wanted)} jobs to end", limit_seconds)

    def until_owners(self, *names: str, limit_seconds: float = LIMIT_SECONDS) -> dict[int, str]:
        """Wait until each partition's newest batch is of one of these schedulers' present lives, and each owns some."""
        lives = {process.name: process.started_ms for process in self.processes}

        def settled() -> dict[int, str] | None:
            newest = {p: batches[-1] for p, batches in self.log().batches.items() if batches}
            owners = {p: batch.owner for p, batch in newest.items()}
            full = len(owners) == self.settings.partitions and set(owners.values()) == set(names)
            return owners if full and all(b.time_ms >= lives[b.owner] for b in newest.values()) else None

        return until(settled, f"{names} to own all partitions", limit_seconds)


class Load(threading.Thread):
    """A client that submits one job after another, all alike, to the queues in turn."""

    def __init__(self, settings: Settings, per_second: float, queues: Sequence[str], spec: JobSpec) -> None:
        super().__init__(name="load", daemon=True)
        self._settings = settings
        self._pause = 1.0 / per_second
        self._queues = queues
        self._spec = spec
        self._over = threading.Event()
        self._failure: Exception | None = None
        self.tickets: list[Ticket] = []

    def run(self) -> None:
        try:
            with Client(self._settings, listen=False) as client:
                while not self._over.wait(self._pause):
                    number = len(self.tickets)
                    queue = self._queues[number % len(self._queues)]
                    command = SubmitJob(queue=queue, job_id=f"load-{number}", spec=self._spec)
                    self.tickets.append(client.send(command))
                client.confirm()
        except Exception as error:  # noqa: BLE001  (told by `finish`, in the test's own thread)
            self._failure = error

    def finish(self) -> None:
        self._over.set()
        self.join(60)
        assert not self.is_alive(), "the load's client still waits for Kafka"
        if self._failure is not None:
            raise self._failure

    def until(self, count: int) -> None:
        """Wait until so many more jobs are in the log."""
        wanted = len(self.acknowledged) + count
        until(lambda: self._failure or len(self.acknowledged) >= wanted, f"{count} more jobs in the log")

    @property
    def acknowledged(self) -> list[tuple[str, str]]:
        return [(t.command.queue, t.command.job_id) for t in list(self.tickets) if t.acknowledged]


# ---- the log


@dataclass(frozen=True)
class Batch:
    """One transaction as the topic has it."""

    partition: int
    offset: int
    time_ms: int
    """When the log took its last record."""
    closed: e.BatchClosed
    events: list[e.Event]

    @property
    def owner(self) -> str:
        return self.closed.owner.partition("@")[0]


class Log:
    """All committed batches of a cluster, and the offsets of its commands."""

    def __init__(self, batches: dict[int, list[Batch]], commands: dict[int, list[int]]) -> None:
        self.batches = batches
        self.commands = commands

    @classmethod
    def read(cls, settings: Settings) -> Log:
        # Commands first: every one that is listed here may be decided by the time that the events are read.
        commands: dict[int, list[int]] = defaultdict(list)
        with Scan(settings.kafka_settings("test"), settings.topic("commands"), committed=False) as scan:
            for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
                commands[record.partition].append(record.offset)
        batches: dict[int, list[Batch]] = {p: [] for p in range(settings.partitions)}
        waiting: dict[int, list[e.Event]] = defaultdict(list)
        with Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
            for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
                _collect(record, waiting, batches)
        # What is left waits for its BatchClosed: the reading ended within a transaction.
        return cls(batches, dict(commands))

    def all(self) -> Iterator[Batch]:
        for batches in self.batches.values():
            yield from batches

    def events(self, *kinds: type[e.Event], job: tuple[str, str] | None = None) -> list[e.Event]:
        """Events of these kinds (or all), of one job or all, in the order of each partition."""
        return [
            event
            for batch in self.all()
            for event in batch.events
            if (not kinds or isinstance(event, kinds)) and job in (None, (event.queue, event.job_id))
        ]

    def story(self, job: tuple[str, str]) -> list[str]:
        """The names of a job's events."""
        return [type(event).__name__ for event in self.events(job=job)]

    def ended(self) -> set[tuple[str, str]]:
        found = self.events(e.AttemptSucceeded, e.JobFailed, e.JobCancelled)
        return {(event.queue, event.job_id) for event in found}

    # -- what must hold in every log

    def check(self, acknowledged: Iterable[tuple[str, str]]) -> None:
        """Nothing lost, nothing doubled: told by the topics alone."""
        for partition, batches in self.batches.items():
            _check_chain(batches)
            _check_commands(batches, self.commands.get(partition, []))
        successes = Counter((s.queue, s.job_id, s.run) for s in self.events(e.AttemptSucceeded))
        assert [name for name, count in successes.items() if count != 1] == [], "a run with two successes"
        submitted = Counter((s.queue, s.job_id) for s in self.events(e.JobSubmitted))
        assert [name for name, count in submitted.items() if count != 1] == [], "a job that was born twice"
        assert [name for name in acknowledged if (*name, 1) not in successes] == [], "a lost job"

    def longest_pause_ms(self, partition: int, since_ms: int, until_ms: int) -> int:
        """Between two batches of the partition, of which one at least is of this time."""
        times = [b.time_ms for b in self.batches[partition]]
        pauses = [later - earlier for earlier, later in pairwise(times) if later >= since_ms and earlier <= until_ms]
        return max(pauses, default=0)


def _collect(record: Record, waiting: dict[int, list[e.Event]], batches: dict[int, list[Batch]]) -> None:
    p = record.partition
    event = codec.decode(record.value)
    if isinstance(event, e.BatchClosed):
        batches[p].append(Batch(p, record.offset, record.time_ms, event, waiting.pop(p, [])))
    else:
        waiting[p].append(event)


def _check_chain(batches: list[Batch]) -> None:
    """Each batch follows the one before it, and no owner writes after a later one."""
    before = msgspec.structs.replace(batches[0].closed, batch_no=0, next_command=0, owner_epoch=0) if batches else None
    for batch in batches:
        closed = batch.closed
        assert before is not None
        assert closed.batch_no == before.batch_no + 1, f"batch {closed.batch_no} follows {before.batch_no}"
        assert closed.events == len(batch.events)
        assert closed.owner_epoch >= before.owner_epoch, f"{closed.owner} wrote after it was fenced"
        assert closed.owner_epoch == before.owner_epoch + 1 or closed.owner == before.owner or not before.owner_epoch
        assert closed.next_command >= before.next_command
        assert closed.outbox_sent >= before.outbox_sent
        before = closed


def _check_commands(batches: list[Batch], offsets: list[int]) -> None:
    """Every command that is behind the partition's position was decided in exactly one batch."""
    decided: list[int] = []
    for batch in batches:
        refs = [int(event.cause_ref) for event in batch.events if event.cause is e.Cause.COMMAND]
        decided += dict.fromkeys(refs)
        assert all(ref < batch.closed.next_command for ref in refs)
    # Commands may have come between the reading of the two topics.
    end = min(batches[-1].closed.next_command if batches else 0, offsets[-1] + 1 if offsets else 0)
    known = [offset for offset in decided if offset < end]
    assert known == [offset for offset in offsets if offset < end], "a command lost, doubled or out of order"
