"""The cluster of a benchmark: real processes and topics of its own, on an embedded Kafka or on one that the user
names."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from ftjm.adapters.kafka import topics
from ftjm.lab.bench import tasks
from ftjm.lab.bench.client import ClientLoad, Elapsed
from ftjm.lab.bench.event_counter import EventCounter
from ftjm.lab.bench.options import Options, Progress, WorkKind
from ftjm.lab.bench.processes import BenchProcess, ProcessGroup
from ftjm.local.kafka import EmbeddedKafka, addresses
from ftjm.local.ports import free_base_port
from ftjm.runtime import config
from ftjm.runtime.config import Settings

TIMEOUT_SECONDS = 600.0


class BenchCluster:
    """A running cluster. A context manager: on exit, its processes, topics and files are removed."""

    def __init__(
        self, options: Options, progress: Progress, given: Settings, special: Mapping[str, Any] | None = None
    ) -> None:
        """Prepare a cluster; entering the context starts it.

        Args:
            given: settings of the user; only those for the Kafka client are used.
            special: further settings that the suite needs.
        """
        self.options = options
        self.progress = progress
        self._given = given
        self._special = special or {}
        self._kafka: EmbeddedKafka | None = None
        self._stack = ExitStack()
        self._started = 0

    def __enter__(self) -> BenchCluster:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.step("stopping")
        self._stack.close()

    def _open(self) -> None:
        options = self.options
        self.folder = Path(tempfile.mkdtemp(prefix="ftjm-bench-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        bootstrap = options.bootstrap
        if not bootstrap:
            self.progress.step("starting Kafka")
            port = options.port or free_base_port()
            embedded = EmbeddedKafka(self.folder, options.brokers, port, sign_on=options.sign_on)
            self._kafka = self._stack.enter_context(embedded)
            bootstrap = addresses(options.brokers, port)
        own = not options.bootstrap and not options.stock
        values: dict[str, Any] = {
            **(config.OWN_BROKERS_TIMING if own else {}),
            "own_brokers": not options.bootstrap,
            **self._special,
        }
        self.settings = config.load(
            **values,
            bootstrap=bootstrap,
            cluster=f"bench-{uuid.uuid4().hex[:8]}",
            data_dir=self.folder,
            partitions=options.partitions,
            kafka=self._given.kafka | (self._kafka.client_settings if self._kafka else {}),
        )
        topics.create(self.settings)
        if options.bootstrap:
            self._stack.callback(topics.delete, self.settings)
        self.group = self._stack.enter_context(ProcessGroup(self.folder, self.settings))
        self.counter = EventCounter(self.settings, self.group.check, self.progress)
        self._stack.callback(self.counter.close)

    def beside(self, **sizes: int) -> BenchCluster:
        """Return another cluster on the same Kafka, with these options and topics of its own. Entering it starts it."""
        same = {name: getattr(self.settings, name) for name in (*config.OWN_BROKERS_TIMING, "own_brokers")}
        options = msgspec.structs.replace(self.options, bootstrap=self.settings.bootstrap, **sizes)
        return BenchCluster(options, self.progress, self.settings, same)

    def running_processes(self) -> dict[str, psutil.Process]:
        """Return the long-running processes by name: schedulers and workers, guards of workers, embedded brokers."""
        found = {member.name: psutil.Process(member.process.pid) for member in self.group.members}
        for name, process in list(found.items()):
            for child in process.children():
                with suppress(psutil.Error):  # it ends at this moment
                    if "ftjm.worker.guard.guard" in child.cmdline():
                        found[f"{name}-guard"] = child
        if self._kafka is not None:
            found |= {f"broker-{n}": psutil.Process(self._kafka.pid(n)) for n in range(self.options.brokers)}
        return found

    def start_schedulers(self) -> list[BenchProcess]:
        """Start the schedulers, and return when every partition has an owner."""
        self.progress.step("starting schedulers")
        started = [self.start_scheduler(f"scheduler-{number}") for number in range(self.options.schedulers)]
        self.counter.until_owned(self.options.partitions)
        return started

    def start_scheduler(self, name: str) -> BenchProcess:
        """Start one scheduler. Does not wait for it."""
        return self.group.start(name, "ftjm", "scheduler", "--name", name)

    def start_workers(self, work: WorkKind, queues: Sequence[str] = ()) -> list[BenchProcess]:
        """Start workers for this kind of jobs, of these queues or of all of the options.

        They get jobs as soon as schedulers have read their heartbeats.
        """
        options = self.options
        queues = queues or options.queues
        started = []
        for number in range(options.workers):
            name = f"{work}-worker-{number}"
            if work is WorkKind.NOOP:
                arguments = {"queues": queues, "slots": options.slots, "name": name}
                started.append(self.group.start_role(name, "instant-worker", arguments))
            else:
                queue_options = [part for queue in queues for part in ("--queue", queue)]
                further = ["--slots", str(options.command_slots), *queue_options]
                if work is WorkKind.TASK:
                    further += ["--app", tasks.__name__]
                started.append(self.group.start(name, "ftjm", "worker", "--name", name, *further))
        return started

    def start_fleet(self, count: int, slots: int) -> BenchProcess:
        """Start one process with so many simulated workers, whose jobs end at once."""
        arguments = {"queues": self.options.queues, "slots": slots, "count": count}
        return self.group.start_role("worker-fleet", "worker-fleet", arguments)

    def start_clients(self, jobs: int, work: WorkKind, load: ClientLoad | None = None) -> list[BenchProcess]:
        """Start clients that together submit `jobs` jobs, spread over the queues.

        Args:
            load: what the jobs have beside their kind, and their queues; those of the options if it is None.
        """
        load = load or ClientLoad(tuple(self.options.queues), "", 0, work)
        clients = self.options.clients
        self._started += 1
        shares = [jobs // clients + (number < jobs % clients) for number in range(clients)]
        started = []
        for number, share in enumerate(shares):
            mine = msgspec.structs.replace(load, prefix=f"run{self._started}-{number}", count=share)
            started.append(self.group.start_role(f"client-{self._started}-{number}", "client", mine))
        return started

    def submitted(self, clients: list[BenchProcess]) -> Elapsed:
        """Wait until the log has all jobs of these clients.

        Return the time from the first one's begin to the last one's end.
        """
        found = self.group.results(clients, Elapsed, TIMEOUT_SECONDS)
        return Elapsed(min(each.began for each in found), max(each.ended for each in found))
