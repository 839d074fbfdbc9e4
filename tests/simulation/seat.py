"""One partition in one scheduler instance, driven step by step, with a disk that outlives the process."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ftjm.adapters.avro import codec
from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.memory import MemoryStore
from ftjm.core.decide.decision import Policy
from ftjm.core.queue_gates import is_limited, queue_rows
from ftjm.core.records.messages import OfferTaken, PartitionReport, QueueDemand
from ftjm.core.state.model import JobState
from ftjm.core.state.rows import Changes
from ftjm.core.state.tables import load_position
from ftjm.engine import lineage
from ftjm.engine import partition as engine
from ftjm.engine.owner import Owner
from ftjm.engine.ports import CommitUnknown, Fenced
from ftjm.scheduler.ownership import Action, Ownership
from tests.simulation.network import SimWriter
from tests.simulation.world import Crash, Violation

if TYPE_CHECKING:
    from tests.simulation.scheduler import Instance


class SimCalendar(LocalCalendar):
    """The time zones of one host. Hosts have two versions of them, which differ in nothing but their name."""

    def __init__(self, instance: str) -> None:
        self._version = f"zones-{sum(instance.encode()) % 2}"

    @property
    def version(self) -> str:
        return self._version


class SimStore:
    """A disk that outlives the process, which may die just before or after a write."""

    def __init__(self, rows: MemoryStore, crash: Callable[[str], None], written: Callable[[], None]) -> None:
        """`written` is called after each write: what happens there happens before anything else is done."""
        self.rows = rows
        self.get = rows.get
        self._crash = crash
        self._written = written

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.rows.scan(start, end)

    def write(self, changes: Changes) -> None:
        self._crash("before the store's write")
        self.rows.write(changes)
        self._written()
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
        self.ownership = Ownership()
        self.ownership.follow(True)
        self.stage = ""
        """How far a takeover has come, which is made of steps so that anything can happen between two."""
        log = self.broker.log
        store = SimStore(instance.disk[number], instance.maybe_crash, self._lose_batch)
        position = load_position(store)
        why = lineage.lineage(store, log.log_id, log.events(number, max(0, position.applied_offset)), codec)
        if why is not None:
            instance.say("discards store", number, why)
            store.clear()
        policy = Policy(number, log.partitions, retention_ms=86_400_000, calendar=SimCalendar(instance.name))
        self.partition = engine.Partition(policy, store, codec, log.log_id)
        self.cursor = self.partition.position.applied_offset + 1
        self.ownership.opened()
        self.ownership.caught_up()
        self._folded()
        self.end = 0
        self.writer: SimWriter | None = None
        self.owner: Owner | None = None
        self._stages: dict[str, Callable[[], object]] = {
            "fence": self._fence,
            "end": self._read_end,
            "fold": self._catch_up,
            "lead": self._lead,
        }

    @property
    def role(self) -> str:
        """As heartbeats report it; of a takeover, how far it has come."""
        return self.stage or self.ownership.role.value

    def step(self) -> None:
        try:
            if self.stage:
                self._stages[self.stage]()
            else:
                self._act(self.ownership.action())
        except Fenced as fenced:
            self._step_down(str(fenced))
        except CommitUnknown as unknown:
            self._step_down(str(unknown))
        except (AssertionError, engine.Diverged) as stop:
            raise Violation(
                f"{self.instance.name} stops partition {self.number} ({self.role}): {type(stop).__name__} {stop}"
            ) from stop

    def _act(self, action: Action) -> None:
        match action:
            case Action.FOLD:
                self._follow()
            case Action.PROVE:
                self._prove()
            case Action.TAKE_OVER:
                self._begin_takeover()
            case Action.DECIDE:
                self._own()
            case Action.WATCH:
                if self._superseded():
                    raise Fenced("a newer owner has written")
                self._own()
            case Action.STEP_BACK:
                raise Fenced("the partition was ours, another's and ours again")
            case _:
                raise AssertionError(f"a seat is never to {action}")

    def nominate(self, nominated: bool) -> None:
        """The group has given the partition to this instance, or to another."""
        if nominated:
            self.ownership.nominate()
        elif self.ownership.nominated:
            self.ownership.revoke()

    def _folded(self) -> None:
        position = self.partition.position
        self.ownership.folded(position.owner, position.owner_epoch)

    def _step_down(self, why: str) -> None:
        self.instance.say("steps down", self.number, why)
        if self.owner is not None:
            self.owner.close()
        position = self.partition.position
        self.ownership.stepped_back(position.owner, position.owner_epoch)
        self.cursor = position.applied_offset + 1
        self.writer = self.owner = None

    # -- following, and the way to ownership: a step each, so that anything can happen between two

    def _follow(self, end: int | None = None) -> bool:
        draw = self.instance.world.random
        records = self.broker.events(self.instance.host, self.number, self.cursor, draw.randint(1, 40), end)
        for record in records:
            self.partition.fold(record)
            self.cursor = record.offset + 1
        self._folded()
        return bool(records)

    def _prove(self) -> None:
        instance = self.instance
        if self.broker.reaches(instance.host) and instance.group.proves(instance, instance.generation):
            self._begin_takeover()
        else:
            self._follow()

    def _begin_takeover(self) -> None:
        self.ownership.takeover_began()
        self.stage = "fence"

    def _fence(self) -> None:
        if self.broker.reaches(self.instance.host):
            self.writer = SimWriter(self.broker, self.instance, self.number, self.instance.maybe_crash)
            self.instance.say("fences", self.number)
            self.stage = "end"

    def _read_end(self) -> None:
        if self.broker.reaches(self.instance.host):
            self.end = self.broker.log.end(self.number)
            self.stage = "fold"

    def _catch_up(self) -> None:
        if self.broker.reaches(self.instance.host) and not self._follow(self.end):
            self.stage = "lead"

    def _lead(self) -> None:
        assert self.writer is not None
        instance = self.instance
        position = self.partition.position
        self.stage = ""
        self.ownership.fenced(position.owner, position.owner_epoch)
        if self.ownership.action() is Action.WITHDRAW:
            instance.say("withdraws", self.number)
            self.ownership.withdrew()
            self.writer = None
            return
        instance.say("leads", self.number, "epoch", position.owner_epoch + 1, "outbox from", position.outbox_sent)
        self.ownership.started_to_lead()
        instance.maybe_crash("before the outbox is sent again")
        self.owner = Owner(
            self.partition,
            self.writer,
            instance.name,
            clock=instance.host,
            sessions=instance.liveness,
            send=instance.send,
        )

    # -- owning

    def _resume_position(self) -> int:
        return self.broker.log.resume_position(self.number, self.partition.position.commands).offset

    def _superseded(self) -> bool:
        """Once revoked, an idle owner learns from the log that it has a successor."""
        applied = self.partition.position.applied_offset
        return bool(self.broker.events(self.instance.host, self.number, applied + 1, 1))

    def _own(self) -> None:
        assert self.owner is not None
        instance, partition = self.instance, self.partition
        world, host = instance.world, instance.host
        start = self._resume_position()
        self.owner.receive(self.broker.commands(host, self.number, start, world.random.randint(1, 30)))
        result = self.owner.step()
        if result.alarms:
            raise Violation(f"decide failed: {result.alarms}")
        if result.written:
            position = partition.position
            instance.say("batch", self.number, position.batch_no, "commands to", position.next_command)
            self._lose_commands()

    def _lose_batch(self) -> None:
        """A power loss that takes an owner's batch from the brokers, and leaves it in the store, ahead of the log."""
        world = self.instance.world
        if self.role == "owner" and world.chance(world.mishap):
            assert self.writer is not None
            self.broker.log.truncate(self.number, self.writer.start)
            self.instance.say("log loses its last batch", self.number, "from offset", self.writer.start)
            raise Crash("power loss")

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
        taken = self.instance.liveness.taken(self.number, self.instance.host.boot_ms())
        return PartitionReport(
            partition=self.number,
            role="owner" if self.role == "owner" else "standby",
            owner_epoch=position.owner_epoch,
            applied_offset=position.applied_offset,
            next_command=position.next_command,
            demand=[
                QueueDemand(
                    queue=q,
                    ready=row.counts[JobState.READY],
                    paused=state.queue_status(q) is not None,
                    limited=is_limited(queue_rows(state, q), self.instance.host.wall_ms()),
                )
                for q, row in state.queues()
            ],
            taken=[OfferTaken(session=s, number=n) for s, n in taken.items()] if self.role == "owner" else [],
        )
