"""The cluster that is broken: its own brokers, and a link from every process to every one of them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from ftjm import children, config
from ftjm.adapters import codec, topics
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.chaos import recorder
from ftjm.chaos.links import Link
from ftjm.chaos.members import Member
from ftjm.chaos.plan import Role, Shape
from ftjm.chaos.skewed import set_offset
from ftjm.config import Settings
from ftjm.core.identity import partition_for
from ftjm.core.messages import TakeSnapshot
from ftjm.embedded.kafka import EmbeddedKafka, addresses
from ftjm.embedded.ports import STEP, free_base_port
from ftjm.embedded.settings import Door

PARTITIONS, LANES, SLOTS = 4, 2, 8
LEASE_SECONDS = 2.0
"""Short, so that there are many losses in a short time."""
SNAPSHOT_EVENTS = 200
"""So few that there are several in a short time."""
STOP_SECONDS_MAX = 25.0
WISH_SECONDS_MAX = 1.0


class Cluster:
    """A context manager: on leaving it nothing runs any more. The files stay."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder = folder
        self.shape = shape
        self.marks = folder / "marks"
        """Where attempts write down when they ran."""
        self.snapshots = folder / "snapshots"
        self.members: dict[Role, list[Member]] = {role: [] for role in Role}
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        with self._stack:
            self._open()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        self.marks.mkdir(parents=True)
        shape = self.shape
        named = [(role, number) for role in Role if role is not Role.BROKER for number in range(shape.count(role))]
        base = free_base_port(1 + 2 * len(named) * shape.brokers)
        self.api_port, port = base + STEP, base + STEP + 1
        links: dict[tuple[Role, int], list[Link]] = {}
        doors: list[list[Door]] = [[] for _ in range(shape.brokers)]
        for place, who in enumerate(named):
            links[who] = []
            for broker in range(shape.brokers):
                doors[broker].append(Door(f"DOOR{place}", port, port + 1))
                links[who].append(Link(port + 1, port))
                port += 2
        self.kafka = self._stack.enter_context(EmbeddedKafka(self.folder, shape.brokers, base, doors))
        self.settings = self._settings(addresses(shape.brokers, base), "data")
        topics.create(self.settings)
        self._stack.callback(self.stop_members)
        for who in named:
            for link in links[who]:
                link.up()
                self._stack.callback(link.close)
            member = self._member(*who, links[who])
            self.members[who[0]].append(member)
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

    def _member(self, role: Role, number: int, links: list[Link]) -> Member:
        name = f"{role}-{number}"
        settings = self._settings(",".join(link.address for link in links), "data")
        env = {**os.environ, **settings.environment(), "FTJM_METRICS_PORT": "0", recorder.WORKER: name}
        program = ["-m", "ftjm"]
        if role is Role.SCHEDULER:
            set_offset(self.clock(number), 0)
            program = ["-m", "ftjm.chaos.skewed", str(self.clock(number))]
        options: dict[Role, list[str]] = {
            Role.SCHEDULER: [],
            Role.WORKER: ["--slots", str(SLOTS), *(part for queue in self.queues for part in ("--queue", queue))],
            Role.API: ["--port", str(self.api_port)],
        }
        return Member(name, [*program, role, "--name", name, *options[role]], env, self.folder, links)

    @property
    def queues(self) -> list[str]:
        """One on each partition, and a second one on the first."""
        found: dict[int, str] = {}
        for number in range(1_000):
            found.setdefault(partition_for(f"q{number}", PARTITIONS), f"q{number}")
        more = next(name for name in map("r{}".format, range(1_000)) if partition_for(name, PARTITIONS) == 0)
        return [*(found[partition] for partition in sorted(found)), more]

    def clock(self, scheduler: int) -> Path:
        """By how much the clock of a scheduler is wrong."""
        return self.folder / f"clock-{scheduler}"

    def stores(self, scheduler: int) -> list[Path]:
        """The stores of a scheduler."""
        return sorted((self.settings.data_dir / f"{Role.SCHEDULER}-{scheduler}").glob("partition-*"))

    @property
    def everybody(self) -> list[Member]:
        """All but the brokers."""
        return [member for members in self.members.values() for member in members]

    def watch(self) -> None:
        """Start again what has ended by itself. To be called now and then."""
        for member in self.everybody:
            member.watch()

    def wish_snapshots(self) -> None:
        """Ask all owners for whole snapshots. Perhaps nobody hears of it."""
        outlet = Outlet(self.settings.kafka_settings("chaos"))
        wish = codec.encode(TakeSnapshot(partitions=[*range(PARTITIONS)], full=True, actor="chaos"))
        outlet.send(self.settings.topic("heartbeats"), wish, partition=0)
        outlet.close(WISH_SECONDS_MAX)

    def stop_workers(self) -> None:
        """SIGTERM to all workers."""
        self._stop(self.members[Role.WORKER])

    def stop_members(self) -> None:
        """SIGTERM to all that is left."""
        self._stop(self.everybody)

    @staticmethod
    def _stop(members: list[Member]) -> None:
        running = [process for member in members if (process := member.let_go())]
        children.stop(running, within_seconds=STOP_SECONDS_MAX)
