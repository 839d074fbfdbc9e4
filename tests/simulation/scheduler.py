"""A scheduler instance: a seat for every partition, one reader of the heartbeat lanes, one plain producer."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ftjm.adapters.memory import MemoryStore
from ftjm.core.records.messages import SchedulerHeartbeat, WorkerHeartbeat
from ftjm.engine.liveness import Liveness
from ftjm.engine.ports import Parcel
from tests.simulation.network import Broker
from tests.simulation.seat import Seat
from tests.simulation.world import Crash, Host, Process, Violation, World

if TYPE_CHECKING:
    from tests.simulation.group import Group


class Instance(Process):
    """A scheduler process: a seat for every partition, one reader of the heartbeat lanes."""

    group: "Group"

    def __init__(self, world: World, host: Host, name: str, broker: Broker) -> None:
        super().__init__(world, host, name)
        self.broker = broker
        self.disk = {p: MemoryStore() for p in range(broker.log.partitions)}
        self._old = {p: MemoryStore() for p in self.disk}
        """Earlier contents of the disk, which a crash may bring back."""
        self.lanes = sorted(lane for topic, lane in broker.lanes if topic == "heartbeats")
        self.nominated: set[int] = set()
        self.generation = 0
        self.deaf_until: dict[int, float] = {}
        """When the broker that leads a heartbeat lane can be read again."""
        self.seats: dict[int, Seat] = {}

    def maybe_crash(self, where: str) -> None:
        if self.world.chance(self.world.mishap / 3):
            raise Crash(where)

    def on_start(self) -> None:
        self.nominated = set()
        self.generation = 0
        self.liveness = Liveness(self.host.boot_ms())
        self.heard_to = {lane: self.broker.end("heartbeats", lane) for lane in self.lanes}
        self.deaf_until = {}
        self._confirming: tuple[int, dict[int, int]] | None = None
        self._reported = 0.0
        self.seats = {p: Seat(self, p) for p in self.disk}
        self.later(self.world.delay(0, 50), self._step)

    def on_crash(self) -> None:
        draw = self.world.random
        for p, rows in self.disk.items():
            lot = draw.random()
            if lot < 0.05:
                self.say("store lost", p)
                self.disk[p] = MemoryStore()
            elif lot < 0.2:
                self.say("store set back", p)
                self.disk[p] = self._old[p].copy()
            elif lot < 0.5:
                self._old[p] = rows.copy()
        self.seats = {}
        self.world.later(self.world.delay(100, 3_000), self.start)

    def nominate(self, partitions: set[int], generation: int) -> None:
        if generation < self.generation:
            return
        self.generation = generation
        self.nominated = partitions
        for p, seat in self.seats.items():
            seat.nominate(p in partitions)

    def send(self, parcel: Parcel, report: Callable[[bool], None]) -> None:
        """The plain producer of the outbox."""
        self.maybe_crash("within the outbox")
        sender = parcel.source if parcel.topic == "commands" else None
        if sender is not None and self.seats[sender].role != "owner":
            raise Violation(f"{self.name} forwards for partition {sender}, which it does not own")
        if parcel.topic == "commands":
            self.broker.send(
                self,
                "commands",
                parcel.partition,
                lambda: self._forward(parcel),
                lambda: report(True),
            )
        else:
            self.broker.to_lane(self, parcel.topic, parcel.partition, parcel.value, lambda: report(True))

    def _forward(self, parcel: Parcel) -> None:
        self.broker.log.send(
            parcel.partition,
            parcel.value,
            reply_to=parcel.reply_to,
            source=parcel.source,
            number=parcel.number,
            confirmed=parcel.confirmed,
        )

    # -- the loop

    def _step(self) -> None:
        self.liveness.tick(self.host.boot_ms())
        self._listen()
        for p in self.world.random.sample(sorted(self.seats), len(self.seats)):
            seat = self.seats[p]
            seat.step()
            if self.paused:
                break
            self.maybe_crash(f"after a step as {seat.role}") if seat.role not in ("standby", "owner") else None
        if self.world.now - self._reported > 150:
            self._report()
        self.later(self.world.delay(10, 110), self._step)

    def _listen(self) -> None:
        world, boot = self.world, self.host.boot_ms()
        if not self.broker.reaches(self.host):
            return
        if self._confirming is None and not self.liveness.suspects_in_ms(boot):
            self._confirming = boot, {lane: self.broker.end("heartbeats", lane) for lane in self.lanes}
        for lane in self.lanes:
            if world.chance(0.05) or world.now < self.deaf_until.get(lane, 0):
                continue  # a fetch that takes its time
            for heartbeat in self.broker.read(self.host, "heartbeats", lane, self.heard_to[lane], 30):
                self.heard_to[lane] += 1
                if isinstance(heartbeat, WorkerHeartbeat):
                    self.liveness.receive(heartbeat, boot)
        if self._confirming is not None:
            at, ends = self._confirming
            if all(self.heard_to[lane] >= end for lane, end in ends.items()):
                self.liveness.confirm(at)
                self._confirming = None

    def _report(self) -> None:
        self._reported = self.world.now
        owned = [seat.report() for seat in self.seats.values() if seat.role == "owner"]
        if owned:
            heartbeat = SchedulerHeartbeat(instance=self.name, host=self.host.name, pid=1, port=0, partitions=owned)
            lane = sum(self.name.encode()) % len(self.lanes)
            self.broker.to_lane(self, "heartbeats", lane, heartbeat, lambda: None, lossy=True)
