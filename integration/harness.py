"""A cluster of real processes, a steady load on it, and the contents of its topics."""

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

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.patience import open_scan
from ftjm.adapters.kafka.scan import Incomplete
from ftjm.adapters.records import Record
from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.lab.chaos import recorder
from ftjm.runtime import child_processes
from ftjm.runtime.config import Settings
from integration.waiting import LIMIT_SECONDS, until

QUICK = ["true"]
QUICK_SPEC = JobSpec(command=QUICK)
STOP_SECONDS_MAX = 120.0


def queue_on(partition: int, partitions: int = 4) -> str:
    """The name of a queue that belongs to this partition."""
    return next(name for name in map("q{}".format, range(1_000)) if partition_for(name, partitions) == partition)


QUEUES = [queue_on(p) for p in range(4)]
"""One queue on each of four partitions."""


# ---- processes


class Process:
    """A process with one role of ftjm. Its log is kept when it is started again."""

    def __init__(self, settings: Settings, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        environment = {**os.environ, **settings.environment(), "FTJM_LOG_FORMAT": "json", recorder.WORKER: name}
        self.command = [sys.executable, *command]
        """What the next life runs."""
        self._launch = partial(child_processes.spawn, env=environment)
        self._earlier = ""
        self.start()

    def start(self) -> None:
        """Start the process, or start it again under the same name."""
        self.started_ms = time.time_ns() // 1_000_000
        if self.log.exists():
            self._earlier += self.log.read_text()
        self.popen = self._launch(self.command, output=self.log)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def kill(self) -> int:
        """Kill the process with SIGKILL. Return the wall clock's time of the kill, in ms."""
        at = time.time_ns() // 1_000_000
        self.popen.kill()
        self.popen.wait()
        return at

    def pause(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Send SIGTERM and wait. Return the exit status."""
        self.popen.terminate()
        return self.popen.wait(STOP_SECONDS_MAX)

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """The lines of the process's log with this event, since its first start."""
        return [line for line in self._lines() if line.get("event") == event]

    def error_lines(self) -> list[dict[str, Any]]:
        """The log lines with the level error or critical, and those that are not JSON."""
        return [line for line in self._lines() if line.get("level") in ("error", "critical") or "raw" in line]

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in (self._earlier + self.log.read_text()).splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # not from our logger: a crash of the interpreter, or a line that is not complete yet
                yield {"raw": line}


class Cluster:
    """The processes of one cluster. A context manager that stops those that still run."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        child_processes.stop(
            [p.popen for p in self.processes if p.popen.poll() is None], within_seconds=STOP_SECONDS_MAX
        )

    def keep_members(self) -> None:
        """Give schedulers that are started from now on a session of a minute: the group keeps one that stalls."""
        self.settings = self.settings.model_copy(update={"session_timeout_ms": 60_000})

    def scheduler(self, name: str = "a", module: str = "ftjm", *options: str) -> Process:
        """Start a scheduler. `module` replaces the module `ftjm`, to plant a fault; it may be followed by arguments."""
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
        """Read the contents of the topics."""
        return Log.read(self.settings)

    def until_done(self, jobs: Iterable[tuple[str, str]], limit_seconds: float = 400.0) -> Log:
        """Wait until each job has an outcome in the log."""
        wanted = set(jobs)
        with LogTail(self.settings) as tail:
            until(lambda: wanted <= tail.read_on().ended, f"{len(wanted)} jobs to end", limit_seconds)
        return self.log()

    def until_owners(self, *names: str) -> dict[int, str]:
        """Wait until running processes of these schedulers wrote each partition's newest batch, and the numbers of
        their partitions differ by at most one. Until then, the group still moves partitions.

        Returns: the owner's name for each partition.
        """
        lives = {process.name: process.started_ms for process in self.processes}

        def settled() -> dict[int, str] | None:
            newest = {p: batches[-1] for p, batches in tail.read_on().batches.items() if batches}
            owners = {p: batch.owner for p, batch in newest.items()}
            full = len(owners) == self.settings.partitions and set(owners.values()) == set(names)
            shares = Counter(owners.values()).values()
            alive = full and all(b.time_ms >= lives[b.owner] for b in newest.values())
            return owners if alive and max(shares) - min(shares) <= 1 else None

        with LogTail(self.settings) as tail:
            return until(settled, f"{names} to own all partitions")


class Load(threading.Thread):
    """A thread that submits one equal job after another, to the queues in turn."""

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
        except Exception as error:  # noqa: BLE001  (`finish` raises it in the test's thread)
            self._failure = error

    def finish(self) -> None:
        self._over.set()
        self.join(LIMIT_SECONDS)
        assert not self.is_alive(), "the client of the load still waits for Kafka"
        if self._failure is not None:
            raise self._failure

    def until(self, count: int) -> None:
        """Wait until the log has `count` more jobs."""
        wanted = len(self.acknowledged) + count
        until(lambda: self._failure or len(self.acknowledged) >= wanted, f"{count} more jobs in the log")

    @property
    def acknowledged(self) -> list[tuple[str, str]]:
        return [(t.command.queue, t.command.job_id) for t in list(self.tickets) if t.acknowledged]


# ---- the log


@dataclass(frozen=True)
class Batch:
    """One committed transaction of the topic."""

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
    """All committed batches of a cluster and the offsets of its commands."""

    def __init__(self, batches: dict[int, list[Batch]], commands: dict[int, list[int]]) -> None:
        self.batches = batches
        self.commands = commands

    @classmethod
    def read(cls, settings: Settings) -> Log:
        # Read commands first: each of them may then be decided by the time that the events are read.
        commands: dict[int, list[int]] = defaultdict(list)
        with open_scan(settings, "commands", committed=False) as scan:
            for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
                commands[record.partition].append(record.offset)
        batches: dict[int, list[Batch]] = {p: [] for p in range(settings.partitions)}
        waiting: dict[int, list[e.Event]] = defaultdict(list)
        with open_scan(settings, "events") as scan:
            for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
                _collect(record, waiting, batches)
        # The records that are left have no BatchClosed yet: the reading ended within a transaction.
        return cls(batches, dict(commands))

    def all(self) -> Iterator[Batch]:
        for batches in self.batches.values():
            yield from batches

    def events(self, *kinds: type[e.Event], job: tuple[str, str] | None = None) -> list[e.Event]:
        """The events of these kinds (default: all) and of one job (default: all), in the order of each partition."""
        return [
            event
            for batch in self.all()
            for event in batch.events
            if (not kinds or isinstance(event, kinds)) and job in (None, (event.queue, event.job_id))
        ]

    def event_names(self, job: tuple[str, str]) -> list[str]:
        """The names of a job's events, in order."""
        return [type(event).__name__ for event in self.events(job=job)]

    def ended(self) -> set[tuple[str, str]]:
        return _ended(self.events())

    # -- invariants of every log

    def check(self, acknowledged: Iterable[tuple[str, str]]) -> None:
        """Check by the topics alone that no job, command or batch was lost or doubled."""
        for partition, batches in self.batches.items():
            _check_chain(batches)
            _check_commands(batches, self.commands.get(partition, []))
        successes = Counter((s.queue, s.job_id, s.run) for s in self.events(e.AttemptSucceeded))
        assert [name for name, count in successes.items() if count != 1] == [], "a run with two successes"
        submitted = Counter((s.queue, s.job_id) for s in self.events(e.JobSubmitted))
        assert [name for name, count in submitted.items() if count != 1] == [], "a job that was submitted twice"
        assert [name for name in acknowledged if (*name, 1) not in successes] == [], "a lost job"

    def longest_pause_ms(self, partition: int, since_ms: int, until_ms: int) -> int:
        """The longest time between two batches of the partition, if one of the two at least is in the interval; ms."""
        times = [b.time_ms for b in self.batches[partition]]
        pauses = [later - earlier for earlier, later in pairwise(times) if later >= since_ms and earlier <= until_ms]
        return max(pauses, default=0)


class LogTail:
    """The end of a log that grows: each look reads on where the one before has ended. A context manager.

    It is for waiting. `Log.read` reads everything anew, and takes ten times as much of the processors.
    """

    def __init__(self, settings: Settings) -> None:
        self._scan = open_scan(settings, "events")
        self._partitions = range(settings.partitions)
        self._begin()

    def _begin(self) -> None:
        self._next = dict.fromkeys(self._partitions, 0)
        self._waiting: dict[int, list[e.Event]] = defaultdict(list)
        self.batches: dict[int, list[Batch]] = {p: [] for p in self._partitions}
        self.ended: set[tuple[str, str]] = set()
        """Queue and id of the jobs that have an outcome."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *arguments: object) -> None:
        self._scan.__exit__(*arguments)

    def read_on(self) -> Self:
        """Read what the log has now. A Kafka that does not answer, since a test stopped it, is asked again later."""
        # A new leader may not know yet how far the log goes: then the next look reads on where this one has ended.
        with contextlib.suppress(LogError, Incomplete):
            bounds = {p: self._scan.bounds(p) for p in self._partitions}
            ends = {p: end for p, (_, end) in bounds.items()}
            if any(ends[p] < start for p, start in self._next.items()):
                self._begin()  # the log has lost what was read
            starts = {p: max(start, bounds[p][0]) for p, start in self._next.items() if start < ends[p]}
            for record in self._scan.read(starts, ends=ends, whole=True) if starts else ():
                self._next[record.partition] = record.offset + 1
                self._take(record)
            self._next = ends
        return self

    def _take(self, record: Record) -> None:
        batches = self.batches[record.partition]
        known = len(batches)
        _collect(record, self._waiting, self.batches)
        for batch in batches[known:]:
            self.ended |= _ended(batch.events)


def _collect(record: Record, waiting: dict[int, list[e.Event]], batches: dict[int, list[Batch]]) -> None:
    p = record.partition
    event = codec.decode(record.value)
    if isinstance(event, e.BatchClosed):
        batches[p].append(Batch(p, record.offset, record.time_ms, event, waiting.pop(p, [])))
    else:
        waiting[p].append(event)


def _ended(events: Iterable[e.Event]) -> set[tuple[str, str]]:
    ends = (
        event for event in events if isinstance(event, e.AttemptSucceeded | e.JobFailed | e.JobCancelled | e.JobSkipped)
    )
    return {(event.queue, event.job_id) for event in ends}


def _check_chain(batches: list[Batch]) -> None:
    """Check that batch numbers have no gap and that no owner wrote after a later owner."""
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
    """Check that each command before the partition's position was decided in exactly one batch."""
    decided: list[int] = []
    for batch in batches:
        refs = [int(event.cause_ref) for event in batch.events if event.cause is e.Cause.COMMAND]
        decided += dict.fromkeys(refs)
        assert all(ref < batch.closed.next_command for ref in refs)
    # Commands may have arrived between the reading of the two topics.
    end = min(batches[-1].closed.next_command if batches else 0, offsets[-1] + 1 if offsets else 0)
    known = [offset for offset in decided if offset < end]
    assert known == [offset for offset in offsets if offset < end], "a command lost, doubled or out of order"
