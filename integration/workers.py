"""Worker processes, jobs that record when they ran, and what the topics say about them."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.patience import open_scan
from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.records import events as e
from ftjm.core.records.commands import AttemptReport, CancelJob, Command
from ftjm.core.records.messages import SessionState, WorkerHeartbeat
from ftjm.history.jobs import JobView, read_jobs, view
from ftjm.local.kafka import EmbeddedKafka
from ftjm.runtime.clock import boot_ms
from ftjm.runtime.config import Settings
from ftjm.specs.job import parse_job
from integration import probe
from integration.clusters import cluster_on
from integration.harness import Cluster, Log, Process
from integration.waiting import LIMIT_SECONDS, until

Name = tuple[str, str]

UNTIL_STOPPED = 120.0
"""Seconds: longer than any test takes to stop an attempt that it has started."""


@dataclass(frozen=True)
class Interval:
    """When an attempt ran, by its own record (CLOCK_BOOTTIME, ms)."""

    attempt: int
    started: float
    last: float
    last_wall: float
    finished: bool


class Worker(Process):
    """A worker process, its guard and its jobs' processes."""

    def guard(self) -> psutil.Process:
        """Wait for the guard's process and return it."""
        return until(self._find_guard, f"the guard of {self.name}")

    def _find_guard(self) -> psutil.Process | None:
        for child in psutil.Process(self.pid).children():
            try:
                if "ftjm.worker.guard.guard" in child.cmdline():
                    return child
            except psutil.NoSuchProcess:
                continue
        return None

    def ready(self, sessions: int = 1) -> Self:
        """Wait until the worker has opened this many sessions, counted over all its starts."""
        until(
            lambda: len(self.log_lines("session_opened")) >= sessions, f"session {sessions} of {self.name}; {self.log}"
        )
        return self

    def sessions(self) -> list[str]:
        return [line["session"] for line in self.log_lines("session_opened")]

    def wait_for_exit(self) -> int:
        """Wait until the worker has ended. Return its exit status."""
        return self.popen.wait(LIMIT_SECONDS)


class Site(Cluster):
    """A cluster with one scheduler for all tests of a file. Each test uses its own queues and workers."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings, folder)
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.workers: list[Worker] = []
        self._serial = 0

    @classmethod
    def on(cls, kafka: EmbeddedKafka, folder: Path, **flags: object) -> Site:
        return cls(cluster_on(kafka, folder / "data", **flags), folder)

    def __enter__(self) -> Self:
        self.owner = self.scheduler("s")
        try:
            self.client = Client(self.settings)
        except BaseException:
            super().__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self.stop_workers()
        super().__exit__(*error)

    def stop_workers(self) -> None:
        """Kill the workers of one test, and check that no process of their jobs is left."""
        for worker in self.workers:
            if worker.popen.poll() is None:
                worker.kill()
        self.workers.clear()

    def queue(self) -> str:
        """The name of a queue that no other test uses."""
        self._serial += 1
        return f"queue-{self._serial}"

    def start_worker(
        self,
        *queues: str,
        slots: int = 2,
        lease: float | None = None,
        name: str = "",
        bootstrap: str = "",
        env: dict[str, str] | None = None,
        app: str = "",
        wait: bool = True,
    ) -> Worker:
        """Start a worker. With `wait`, its session is open on return."""
        self._serial += 1
        name = name or f"w{self._serial}"
        command = ["-m", "ftjm", "worker", "--name", name, "--slots", str(slots)]
        command += [part for queue in queues for part in ("--queue", queue)]
        command += ["--lease", str(lease)] if lease else []
        command += ["--app", app] if app else []
        settings = self.settings.model_copy(update={"bootstrap": bootstrap}) if bootstrap else self.settings
        before = {name: os.environ.get(name) for name in env or {}}
        os.environ.update(env or {})
        try:
            worker = Worker(settings, name, command, self.folder / f"{name}-{self._serial}.log")
        finally:
            for variable, value in before.items():
                if value is None:
                    del os.environ[variable]
                else:
                    os.environ[variable] = value
        self.workers.append(worker)
        return worker.ready() if wait else worker

    # ---- jobs

    def submit(self, queue: str, job_id: str, command: Sequence[str], **fields: Any) -> Ticket:
        """Submit a job and wait until the log has it."""
        return self.submit_all([{"queue": queue, "job_id": job_id, "command": list(command), **fields}])[0]

    def submit_all(self, jobs: Iterable[dict[str, Any]]) -> list[Ticket]:
        return self.client.submit_many([parse_job(fields) for fields in jobs], awaits=True)

    def probe(
        self, queue: str, job_id: str, seconds: float, ending: str = "exit:0", *, first: float = 0, **fields: Any
    ) -> Ticket:
        """Submit a job that records when it runs. `first`: how long its first attempt runs, if not as long as others.

        An attempt that the test itself ends runs for `UNTIL_STOPPED`, since a busy machine is late to end it.
        """
        return self.submit(queue, job_id, self.probing(seconds, ending, first), **fields)

    def probing(self, seconds: float, ending: str = "exit:0", first: float = 0) -> list[str]:
        durations = [str(first or seconds), str(seconds)]
        return [sys.executable, "-I", "-S", probe.__file__, str(self.marks), *durations, ending]

    def cancel(self, queue: str, job_id: str) -> None:
        ticket = self.client.send(CancelJob(queue=queue, job_id=job_id))
        assert self.client.decided([ticket], 90), "no answer to a cancel"
        assert not ticket.refused, ticket.reply

    def until_ended(self, *tickets: Ticket) -> list[str]:
        """Wait for the outcomes. Return the jobs' states."""
        assert self.client.ended(tickets, LIMIT_SECONDS), f"no outcome within {LIMIT_SECONDS} s: {tickets}"
        return [ticket.outcome.state if ticket.outcome else f"refused: {ticket.reply}" for ticket in tickets]

    # ---- the jobs' own records

    def intervals(self, queue: str, job_id: str) -> list[Interval]:
        """When the job's attempts ran, by the attempt's number."""
        found = []
        for file in self.marks.glob(f"{queue}+{job_id}+*"):
            data = file.read_bytes()
            if len(data) == probe.RECORD.size:
                started, last, wall, finished = probe.RECORD.unpack(data)
                attempt = int(file.name.rpartition("+")[2])
                found.append(Interval(attempt, started / 1e6, last / 1e6, wall / 1e6, finished))
        return sorted(found, key=lambda interval: interval.attempt)

    def until_running(self, queue: str, job_id: str, attempt: int = 1) -> Interval:
        """Wait until the attempt, or a later one, runs."""

        def running() -> Interval | None:
            return next((i for i in self.intervals(queue, job_id) if i.attempt >= attempt), None)

        try:
            return until(running, f"attempt {attempt} of {queue}/{job_id} to run")
        except AssertionError as error:
            raise AssertionError(f"{error}; its history: {self.history(queue, job_id)}") from None

    def assert_apart(self, queue: str, *job_ids: str) -> None:
        """Check that no two attempts of a job ran at the same time."""
        for job_id in job_ids:
            ran = sorted(self.intervals(queue, job_id), key=lambda interval: interval.started)
            for earlier, later in itertools.pairwise(ran):
                assert earlier.attempt < later.attempt
                assert earlier.last < later.started, f"{queue}/{job_id}: {earlier} and {later} ran at the same time"

    # ---- the log

    def history(self, queue: str, job_id: str) -> list[e.Event]:
        return [recorded.event for recorded in read_jobs(self.settings, [(queue, job_id)])[queue, job_id]]

    def event_names(self, queue: str, job_id: str) -> list[str]:
        """The names of a job's events without `AttemptStarted`, which only slow attempts have."""
        names = [type(event).__name__ for event in self.history(queue, job_id)]
        return [name for name in names if name != "AttemptStarted"]

    def view(self, queue: str, job_id: str) -> JobView:
        found = view(self.history(queue, job_id))
        assert found is not None, f"{queue}/{job_id} is not in the log"
        return found

    def until_event(self, queue: str, job_id: str, kind: type[e.Event], count: int = 1) -> e.Event:
        """Wait until the job has `count` events of a kind. Return the last of them."""

        def there() -> e.Event | None:
            found = [event for event in self.history(queue, job_id) if isinstance(event, kind)]
            return found[count - 1] if len(found) >= count else None

        return until(there, f"{kind.__name__} {count} of {queue}/{job_id}")

    def reports(self, queue: str, job_id: str) -> list[tuple[AttemptReport, int]]:
        """The workers' reports on the job, each with the time at which the log took it."""
        found = []
        with open_scan(self.settings, "commands", committed=False) as scan:
            for record in scan.read(dict.fromkeys(range(self.settings.partitions), 0)):
                command: Command = codec.decode(record.value)
                if isinstance(command, AttemptReport) and (command.queue, command.job_id) == (queue, job_id):
                    found.append((command, record.time_ms))
        return found

    def heartbeats(self, worker: str) -> list[WorkerHeartbeat]:
        """The worker's heartbeats, in order."""
        found = []
        with open_scan(self.settings, "heartbeats", committed=False) as scan:
            for record in scan.read(dict.fromkeys(range(scan.partitions), 0)):
                heartbeat = codec.decode(record.value)
                if isinstance(heartbeat, WorkerHeartbeat) and heartbeat.worker == worker:
                    found.append(heartbeat)
        return found

    def has_left(self, worker: str) -> bool:
        """Whether the worker's last heartbeat announced that it leaves."""
        beats = self.heartbeats(worker)
        return bool(beats) and beats[-1].state is SessionState.CLOSED and beats[-1].busy == 0

    def check(self, *jobs: Name) -> Log:
        """Check by the topics alone that nothing was lost or doubled and that each job ended by one attempt."""
        log = Log.read(self.settings)
        log.check([])
        for job in jobs:
            check_events(log.events(job=job), job)
        return log


def check_events(events: Sequence[e.Event], job: Name) -> None:
    """Check a job's events: attempts from 1 on, one at a time, each ends once; one success in a run; the job ended."""
    assert isinstance(events[0], e.JobSubmitted), f"{job} was not submitted"
    dispatched, open_attempt = 0, 0
    successes: dict[int, int] = {}
    for event in events:
        if isinstance(event, e.AttemptDispatched):
            assert open_attempt == 0, f"{job}: attempt {event.attempt} dispatched while {open_attempt} was under way"
            assert event.attempt == dispatched + 1
            dispatched = open_attempt = event.attempt
        elif isinstance(event, e.AttemptSucceeded | e.AttemptFailed | e.AttemptLost | e.AttemptDeclined):
            assert event.attempt == open_attempt, f"{job}: attempt {event.attempt} ended, but {open_attempt} ran"
            open_attempt = 0
            if isinstance(event, e.AttemptSucceeded):
                successes[event.run] = successes.get(event.run, 0) + 1
    assert open_attempt == 0, f"{job}: attempt {open_attempt} never ended"
    assert all(count == 1 for count in successes.values()), f"{job}: a run with two successes"
    ends = [
        event for event in events if isinstance(event, e.AttemptSucceeded | e.JobFailed | e.JobCancelled | e.JobSkipped)
    ]
    assert ends, f"{job} was lost: {[type(event).__name__ for event in events]}"


def attempts_of(events: Iterable[e.Event], kind: type[e.Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def wait_until_gone(pids: Iterable[int], within_ms: int) -> float:
    """Wait until none of the processes runs (a zombie does not count). Return how long it took, in ms."""
    began = boot_ms()
    waiting = set(pids)
    while waiting:
        waiting = {pid for pid in waiting if _runs(pid)}
        assert boot_ms() - began < within_ms, f"processes {waiting} still run after {within_ms} ms"
        time.sleep(0.002)
    return boot_ms() - began


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> list[int]:
    """The pids of all descendants of a process."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def print_figure(what: str, value: float, unit: str = "ms") -> None:
    """Print a measured figure. `pytest -s` shows it."""
    print(f"measured: {what}: {value:.0f} {unit}")
