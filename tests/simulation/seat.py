"""One partition in one scheduler instance, driven step by step, with a disk that outlives the process."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ftjm.adapters import codec
from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide import Policy
from ftjm.core.messages import OfferTaken, PartitionReport, QueueDemand
from ftjm.core.model import JobState
from ftjm.core.state import Changes, load_position
from ftjm.engine import lineage
from ftjm.engine import partition as engine
from ftjm.engine.outbox import Outbox
from ftjm.engine.ports import CommitUnknown, Fenced
from tests.simulation.network import SimWriter
from tests.simulation.world import Crash, Violation

if TYPE_CHECKING:
    from tests.simulation.scheduler import Instance


class SimStore:
    """A disk that outlives the process, which may die just before or after a write."""

    def __init__(self, rows: MemoryStore, crash: Callable[[str], None]) -> None:
        self.rows = rows
        self.get = rows.get
        self._crash = crash

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.rows.scan(start, end)

    def write(self, changes: Changes) -> None:
        self._crash("before the store's write")
        self.rows.write(changes)
        self._crash("after the store's write")

    def clear(self) -> None:
        self.rows.clear()

    def close(self) -> None:
        """The disk stays."""


class Seat:
    """One partition in one instance: standby, on the way to ownership, or owner."""

    def __init__(self, instance: "Instance", number: int) -> None:
        self.instance = instance
        self.broker = instance.broker
        self.number = number
        self.role = "standby"
        log = self.broker.log
        store = SimStore(instance.disk[number], instance.maybe_crash)
        position = load_position(store)
        why = lineage.lineage(store, log.log_id, log.events(number, max(0, position.applied_offset)), codec)
        if why is not None:
            instance.say("discards store", number, why)
            store.clear()
        policy = Policy(number, log.partitions, retention_ms=86_400_000)
        self.partition = engine.Partition(policy, store, codec, log.log_id)
        self.cursor = self.partition.position.applied_offset + 1
        self.end = 0
        self.owned_since = 0
        self.declined: dict[str, int] = {}
        """When sessions sent an attempt back: until heard again they get none."""
        self.writer: SimWriter | None = None
        self.outbox: Outbox | None = None
        self._steps: dict[str, Callable[[], object]] = {
            "standby": self._follow,
            "prove": self._prove,
            "fence": self._fence,
            "end": self._read_end,
            "fold": self._catch_up,
            "lead": self._lead,
            "owner": self._own,
        }

    def step(self) -> None:
        try:
            self._steps[self.role]()
        except Fenced as fenced:
            self._step_down(str(fenced))
        except CommitUnknown as unknown:
            self._step_down(str(unknown))
        except (AssertionError, engine.Diverged) as stop:
            raise Violation(
                f"{self.instance.name} stops partition {self.number} ({self.role}): {type(stop).__name__} {stop}"
            ) from stop

    def nominate(self) -> None:
        if self.role == "standby":
            self.role = "prove"

    def _step_down(self, why: str) -> None:
        self.instance.say("steps down", self.number, why)
        self.partition.reopen()
        self.cursor = self.partition.position.applied_offset + 1
        self.role = "prove" if self.number in self.instance.nominated else "standby"
        self.writer = self.outbox = None

    # -- following, and the way to ownership: a step each, so that anything can happen between two

    def _follow(self, end: int | None = None) -> bool:
        draw = self.instance.world.random
        records = self.broker.events(self.instance.host, self.number, self.cursor, draw.randint(1, 40), end)
        for record in records:
            self.partition.fold(record)
            self.cursor = record.offset + 1
        return bool(records)

    def _prove(self) -> None:
        instance = self.instance
        if not self.broker.reaches(instance.host):
            return
        if self.number in instance.nominated and instance.group.proves(instance, instance.generation):
            self.role = "fence"
        else:
            self.role = "standby"

    def _fence(self) -> None:
        if self.broker.reaches(self.instance.host):
            self.writer = SimWriter(self.broker, self.instance, self.number, self.instance.maybe_crash)
            self.instance.say("fences", self.number)
            self.role = "end"

    def _read_end(self) -> None:
        if self.broker.reaches(self.instance.host):
            self.end = self.broker.log.end(self.number)
            self.role = "fold"

    def _catch_up(self) -> None:
        if self.broker.reaches(self.instance.host) and not self._follow(self.end):
            self.role = "lead"

    def _lead(self) -> None:
        assert self.writer is not None
        instance = self.instance
        self.partition.lead(self.writer, instance.name)
        sent = self.partition.position.outbox_sent
        instance.say("leads", self.number, "epoch", self.partition.position.owner_epoch + 1, "outbox from", sent)
        self.outbox = Outbox(self.number, codec, instance.send, sent)
        self.owned_since = instance.host.boot()
        self.declined = {}
        self.role = "owner"
        self.instance.maybe_crash("before the outbox is sent again")
        self.outbox.ship(self.partition.state, list(self.partition.state.outbox(sent)))

    # -- owning

    def _ship(self) -> None:
        assert self.outbox is not None
        self.instance.maybe_crash("before the outbox")
        messages, self.partition.to_ship = self.partition.to_ship, []
        self.outbox.ship(self.partition.state, messages)

    def _goes_on_at(self) -> int:
        return self.broker.log.goes_on_at(self.number, self.partition.position.commands).offset

    def _superseded(self) -> bool:
        """Once revoked, an idle owner learns from the log that it has a successor."""
        applied = self.partition.position.applied_offset
        return bool(self.broker.events(self.instance.host, self.number, applied + 1, 1))

    def _own(self) -> None:
        assert self.outbox is not None
        instance, partition = self.instance, self.partition
        world, host = instance.world, instance.host
        if self.number not in instance.nominated and self._superseded():
            raise Fenced("a newer owner has written")
        boot, before = host.boot(), partition.position
        commands = self.broker.commands(host, self.number, self._goes_on_at(), world.random.randint(1, 30))
        lapses = instance.liveness.lapses(partition.state, self.owned_since)
        offers = instance.liveness.offers(self.number, boot, self.declined)
        end = self.broker.log.end(self.number)
        partition.work(host.wall(), commands, lapses, offers, self.outbox.sent)
        self.declined |= dict.fromkeys(partition.declined, boot)
        partition.declined.clear()
        if partition.position is before:
            if world.random.random() < 0.1:
                partition.settle(host.wall(), self.outbox.sent)
            return
        instance.say("batch", self.number, partition.position.batch_no, "commands to", partition.position.next_command)
        if partition.alarms:
            raise Violation(f"decide failed: {partition.alarms}")
        if world.chance(world.mishap):
            # A power loss that takes the batch from the brokers, and leaves it in the store, ahead of the log.
            self.broker.log.truncate(self.number, end)
            instance.say("log loses its last batch", self.number, "from offset", end)
            raise Crash("power loss")
        self._lose_commands()
        self._ship()

    def _lose_commands(self) -> None:
        """A power loss that takes decided commands from the brokers: what is sent next lies in their place."""
        log, world = self.broker.log, self.instance.world
        count = len(log.commands(self.number, 0))
        if world.healing or count != self.partition.position.next_command:
            return
        if world.losses.random() < world.mishap:
            end = world.losses.randrange(count + 1)
            log.lose_commands(self.number, end)
            self.instance.say("log loses decided commands", self.number, "from offset", end)

    def report(self) -> PartitionReport:
        """What the owner says on the heartbeat lanes."""
        state, position = self.partition.state, self.partition.position
        taken = self.instance.liveness.taken(self.number, self.instance.host.boot())
        return PartitionReport(
            partition=self.number,
            role="owner" if self.role == "owner" else "standby",
            owner_epoch=position.owner_epoch,
            applied_offset=position.applied_offset,
            next_command=position.next_command,
            demand=[QueueDemand(queue=q, ready=row.counts[JobState.READY]) for q, row in state.queues()],
            taken=[OfferTaken(session=s, number=n) for s, n in taken.items()] if self.role == "owner" else [],
        )
