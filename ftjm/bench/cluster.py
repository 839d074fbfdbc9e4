"""The cluster of a benchmark: its own topics, on a Kafka of its own or on one that is named, and real processes."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from ftjm import config
from ftjm.adapters import topics
from ftjm.bench import tasks
from ftjm.bench.client import Load, Submitted
from ftjm.bench.crew import Crew, Member
from ftjm.bench.options import Options, Progress, Work
from ftjm.bench.watch import Watch
from ftjm.config import Settings
from ftjm.embedded.kafka import EmbeddedKafka, addresses
from ftjm.embedded.ports import free_base_port

TIMEOUT_SECONDS = 600.0


class Cluster:
    """A context manager: on leaving it no process, topic or file is left."""

    def __init__(
        self, options: Options, progress: Progress, given: Settings, special: Mapping[str, Any] | None = None
    ) -> None:
        """`given` holds what the user has set for the Kafka client, `special` settings that the suite needs."""
        self.options = options
        self.progress = progress
        self._given = given
        self._special = special or {}
        self._kafka: EmbeddedKafka | None = None
        self._stack = ExitStack()
        self._started = 0

    def __enter__(self) -> Cluster:
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
            self._kafka = self._stack.enter_context(EmbeddedKafka(self.folder, options.brokers, port))
            bootstrap = addresses(options.brokers, port)
        own = not options.bootstrap and not options.stock
        self.settings = config.load(
            **(config.OWN_BROKERS_TIMING if own else {}),
            **self._special,
            bootstrap=bootstrap,
            cluster=f"bench-{uuid.uuid4().hex[:8]}",
            data_dir=self.folder,
            own_brokers=not options.bootstrap,
            partitions=options.partitions,
            kafka=self._given.kafka or None,
        )
        topics.create(self.settings)
        if options.bootstrap:
            self._stack.callback(topics.delete, self.settings)
        self.crew = self._stack.enter_context(Crew(self.folder, self.settings))
        self.watch = Watch(self.settings, self.crew.check, self.progress)
        self._stack.callback(self.watch.close)

    def processes(self) -> dict[str, psutil.Process]:
        """All that run for long, by name: roles, the workers' guards, our own brokers."""
        found = {member.name: psutil.Process(member.process.pid) for member in self.crew.members}
        for name, process in list(found.items()):
            guards = [child for child in process.children() if "ftjm.worker.guard" in child.cmdline()]
            found |= {f"{name}-guard": guard for guard in guards}
        if self._kafka is not None:
            found |= {f"broker-{n}": psutil.Process(self._kafka.pid(n)) for n in range(self.options.brokers)}
        return found

    def start_schedulers(self) -> list[Member]:
        """Start them, and return when every partition has an owner."""
        self.progress.step("starting schedulers")
        started = [self.start_scheduler(f"scheduler-{number}") for number in range(self.options.schedulers)]
        self.watch.until_owned(self.options.partitions)
        return started

    def start_scheduler(self, name: str) -> Member:
        return self.crew.start(name, "ftjm", "scheduler", "--name", name)

    def start_workers(self, work: Work) -> list[Member]:
        """Start workers of this kind; they take jobs as soon as they are heard."""
        options = self.options
        queues = options.queues
        started = []
        for number in range(options.workers):
            name = f"{work}-worker-{number}"
            if work is Work.NOOP:
                what = {"queues": queues, "slots": options.slots, "name": name}
                started.append(self.crew.role(name, "instant-worker", what))
            else:
                serves = [part for queue in queues for part in ("--queue", queue)]
                more = ["--slots", str(options.command_slots), *serves]
                if work is Work.TASK:
                    more += ["--app", tasks.__name__]
                started.append(self.crew.start(name, "ftjm", "worker", "--name", name, *more))
        return started

    def start_clients(self, jobs: int, work: Work) -> list[Member]:
        """Clients that submit so many jobs together, spread over the queues."""
        clients = self.options.clients
        self._started += 1
        shares = [jobs // clients + (number < jobs % clients) for number in range(clients)]
        started = []
        for number, share in enumerate(shares):
            load = Load(tuple(self.options.queues), f"run{self._started}-{number}", share, work)
            started.append(self.crew.role(f"client-{self._started}-{number}", "client", load))
        return started

    def submitted(self, clients: list[Member]) -> Submitted:
        """Wait until the log has all that these submit; from the first one's beginning to the last one's end."""
        found = self.crew.results(clients, Submitted, TIMEOUT_SECONDS)
        return Submitted(min(each.began for each in found), max(each.ended for each in found))
