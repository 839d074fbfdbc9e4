"""The cluster that a chaos run breaks: its own brokers, and a proxy between every process and every broker."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.core.identity import partition_for
from ftjm.core.records.messages import TakeSnapshot
from ftjm.lab.chaos import recorder
from ftjm.lab.chaos.jobs import APP
from ftjm.lab.chaos.members import Member
from ftjm.lab.chaos.plan import ClusterShape, TargetRole
from ftjm.lab.chaos.proxies import Link
from ftjm.lab.chaos.skewed_clock import set_offset
from ftjm.local.broker_settings import Listener
from ftjm.local.kafka import EmbeddedKafka, addresses
from ftjm.local.ports import STEP, free_base_port
from ftjm.runtime import child_processes, config
from ftjm.runtime.config import Settings

PARTITIONS, LANES, SLOTS = 4, 2, 8
LEASE_SECONDS = 2.0
"""Short, so that many sessions lapse in a short run."""
SNAPSHOT_EVENTS = 200
"""Few, so that several snapshots are taken in a short run."""
STOP_SECONDS_MAX = 25.0
REQUEST_SECONDS_MAX = 1.0


class ChaosCluster:
    """A running cluster. A context manager: on exit, all processes are stopped. The files stay."""

    def __init__(self, folder: Path, shape: ClusterShape) -> None:
        self.folder = folder
        self.shape = shape
        self.marks = folder / "marks"
        """Directory in which attempts record when they ran."""
        self.snapshots = folder / "snapshots"
        self.members: dict[TargetRole, list[Member]] = {role: [] for role in TargetRole}
        self._stack = ExitStack()

    def __enter__(self) -> ChaosCluster:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self.marks.mkdir(parents=True)
        shape = self.shape
        roles = [role for role in TargetRole if role is not TargetRole.BROKER]
        instances = [(role, number) for role in roles for number in range(shape.count(role))]
        base = free_base_port(1 + 2 * len(instances) * shape.brokers)
        self.api_port, port = base + STEP, base + STEP + 1
        links: dict[tuple[TargetRole, int], list[Link]] = {}
        listeners: list[list[Listener]] = [[] for _ in range(shape.brokers)]
        for index, instance in enumerate(instances):
            links[instance] = []
            for broker in range(shape.brokers):
                listeners[broker].append(Listener(f"PROXIED{index}", port, port + 1))
                links[instance].append(Link(port + 1, port))
                port += 2
        self.kafka = self._stack.enter_context(EmbeddedKafka(self.folder, shape.brokers, base, listeners))
        self.settings = self._settings(addresses(shape.brokers, base), "data")
        topics.create(self.settings)
        self._stack.callback(self.stop_members)
        for role, number in instances:
            for link in links[role, number]:
                link.up()
                self._stack.callback(link.close)
            member = self._member(role, number, links[role, number])
            self.members[role].append(member)
            member.start()

    def _settings(self, bootstrap: str, data_dir: str) -> Settings:
        return config.load(
            cluster="chaos",
            bootstrap=bootstrap,
            own_brokers=True,
            data_dir=self.folder / data_dir,
            partitions=PARTITIONS,
            lanes=LANES,
            log_format="json",
            **{**config.OWN_BROKERS_TIMING, "lease_seconds": LEASE_SECONDS},
            snapshot_events=SNAPSHOT_EVENTS,
            snapshot_place=self.snapshots.as_uri(),
        )

    def _member(self, role: TargetRole, number: int, links: list[Link]) -> Member:
        name = f"{role}-{number}"
        settings = self._settings(",".join(link.address for link in links), "data")
        env = {**os.environ, **settings.environment(), "FTJM_METRICS_PORT": "0", recorder.WORKER: name}
        program = ["-m", "ftjm"]
        if role is TargetRole.SCHEDULER:
            set_offset(self.clock_file(number), 0)
            program = ["-m", "ftjm.lab.chaos.skewed_clock", str(self.clock_file(number))]
        options: dict[TargetRole, list[str]] = {
            TargetRole.SCHEDULER: [],
            TargetRole.WORKER: [
                *("--slots", str(SLOTS), "--app", APP),
                *(part for queue in self.queues for part in ("--queue", queue)),
            ],
            TargetRole.API: ["--port", str(self.api_port)],
        }
        return Member(name, [*program, role, "--name", name, *options[role]], env, self.folder, links)

    @property
    def queues(self) -> list[str]:
        """One queue on each partition, and a second queue on the first partition."""
        found: dict[int, str] = {}
        for number in range(1_000):
            found.setdefault(partition_for(f"q{number}", PARTITIONS), f"q{number}")
        more = next(name for name in map("r{}".format, range(1_000)) if partition_for(name, PARTITIONS) == 0)
        return [*(found[partition] for partition in sorted(found)), more]

    def clock_file(self, scheduler: int) -> Path:
        """Return the file that holds the error of a scheduler's clock; see `skewed_clock.py`."""
        return self.folder / f"clock-{scheduler}"

    def stores(self, scheduler: int) -> list[Path]:
        """Return the directories of a scheduler's stores."""
        return sorted((self.settings.data_dir / f"{TargetRole.SCHEDULER}-{scheduler}").glob("partition-*"))

    @property
    def all_members(self) -> list[Member]:
        """All processes except the brokers."""
        return [member for members in self.members.values() for member in members]

    def restart_ended_members(self) -> None:
        """Start every member again that has ended unexpectedly. To be called regularly."""
        for member in self.all_members:
            member.restart_if_ended()

    def request_snapshots(self) -> None:
        """Ask all owners for full snapshots. The request may get lost, since the cluster is being broken."""
        producer = ConfirmingProducer(self.settings.kafka_settings("chaos"))
        request = codec.encode(TakeSnapshot(partitions=[*range(PARTITIONS)], full=True, actor="chaos"))
        producer.send(self.settings.topic("heartbeats"), request, partition=0)
        producer.close(REQUEST_SECONDS_MAX)

    def stop_workers(self) -> None:
        """Send SIGTERM to all workers, and wait until they have ended."""
        self._stop(self.members[TargetRole.WORKER])

    def stop_members(self) -> None:
        """Send SIGTERM to all members that still run, and wait until they have ended."""
        self._stop(self.all_members)

    @staticmethod
    def _stop(members: list[Member]) -> None:
        running = [process for member in members if (process := member.expect_end())]
        child_processes.stop(running, within_seconds=STOP_SECONDS_MAX)
