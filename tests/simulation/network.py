"""The simulated Kafka, and the ways to it: delays, reorderings between producers, cuts, late messages of the dead."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ftjm.adapters.memory import MemoryLog, MemoryWriter
from ftjm.engine.ports import CommandRecord, CommitUnknown, EventRecord, Fenced
from tests.simulation.world import EPOCH_MS, Act, Host, Process, World

LOSSY_MS = 1_000
"""A heartbeat that is not delivered in this time is given up by its producer."""
SLOW_ACKNOWLEDGEMENTS = 0.3
"""The part of acknowledgements that are slow in histories about leases."""


class Sent(NamedTuple):
    at: float
    append: Act
    acknowledged: Act
    lossy: bool


class Pipe:
    """One life of one producer to one lane: messages arrive in order, each once, or from some point on not at all."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.life = process.life
        self.queue: deque[Sent] = deque()
        self.busy = False

    @property
    def orphaned(self) -> bool:
        return self.process.life != self.life


class Broker:
    """Topics: `commands` and `events` in the product's own memory log, the others as plain lanes."""

    def __init__(self, world: World, partitions: int, lanes: int) -> None:
        self.world = world
        self.log = MemoryLog(partitions)
        self.lanes: dict[tuple[str, int], list[Any]] = {
            (topic, lane): [] for topic in ("dispatch", "replies", "heartbeats") for lane in range(lanes)
        }
        self.times: dict[tuple[int, int], int] = {}
        """When `events` took a record, by partition and offset: ms since the Unix epoch."""
        self.away = False
        self._pipes: dict[tuple[str, int, str, int], Pipe] = {}

    def reaches(self, host: Host) -> bool:
        """Whether a request of the host is answered."""
        return not (self.away or host.cut_in or host.cut_out)

    # -- producing

    def send(
        self, process: Process, topic: str, lane: int, append: Act, acknowledged: Act, *, lossy: bool = False
    ) -> None:
        """Produce: `append` happens at the broker, and then, at the process, `acknowledged`."""
        key = (process.name, process.life, topic, lane)
        pipe = self._pipes.get(key)
        if pipe is None:
            pipe = self._pipes[key] = Pipe(process)
        pipe.queue.append(Sent(self.world.now, append, acknowledged, lossy))
        if not pipe.busy:
            pipe.busy = True
            self._pump_later(pipe)

    def to_lane(
        self, process: Process, topic: str, lane: int, value: Any, acknowledged: Act, *, lossy: bool = False
    ) -> None:
        records = self.lanes[topic, lane]
        self.send(process, topic, lane, lambda: records.append(value), acknowledged, lossy=lossy)

    def _pump_later(self, pipe: Pipe, *, stuck: bool = False) -> None:
        draw = self.world.random
        if stuck:
            delay = self.world.delay(30, 150)
        elif self.world.chance(0.02):
            delay = self.world.delay(200, 2_500)  # a retry, or a packet that took the long way
        else:
            delay = self.world.delay(0.5, 15) if draw.random() < 0.8 else self.world.delay(1, 60)
        self.world.later(delay, lambda: self._pump(pipe))

    def _pump(self, pipe: Pipe) -> None:
        if not pipe.queue:
            pipe.busy = False
            return
        process, draw = pipe.process, self.world.random
        if pipe.orphaned:
            # What was in a socket may still arrive after its sender's death.
            if self.away or process.host.cut_out or draw.random() < 0.5:
                pipe.queue.clear()
                pipe.busy = False
                return
        elif self.away or process.host.cut_out or (process.paused and draw.random() < 0.8):
            first = pipe.queue[0]
            if first.lossy and self.world.now - first.at > LOSSY_MS:
                pipe.queue.popleft()
            self._pump_later(pipe, stuck=True)
            return
        for _ in range(draw.randint(1, 4)):
            if pipe.queue:
                sent = pipe.queue.popleft()
                sent.append()
                if not pipe.orphaned:
                    self._acknowledge(process, sent.acknowledged)
        self._pump_later(pipe)

    def _acknowledge(self, process: Process, acknowledged: Act) -> None:
        def arrive() -> None:
            if process.host.cut_in or self.away:
                process.later(self.world.delay(30, 150), arrive)
            else:
                acknowledged()

        slow = self.world.chance(SLOW_ACKNOWLEDGEMENTS if self.world.leases else 0.03)
        process.later(self.world.delay(100, 900) if slow else self.world.delay(0.5, 10), arrive)

    # -- consuming

    def read(self, host: Host, topic: str, lane: int, position: int, most: int) -> Sequence[Any]:
        if not self.reaches(host):
            return ()
        return self.lanes[topic, lane][position : position + most]

    def end(self, topic: str, lane: int) -> int:
        return len(self.lanes[topic, lane])

    def commands(self, host: Host, partition: int, start: int, most: int) -> list[CommandRecord]:
        return self.log.commands(partition, start)[:most] if self.reaches(host) else []

    def events(self, host: Host, partition: int, start: int, most: int, end: int | None = None) -> list[EventRecord]:
        found: list[EventRecord] = []
        if self.reaches(host):
            for record in self.log.events(partition, start, end):
                if len(found) == most:
                    break
                found.append(record)
        return found


class SimWriter:
    """A transactional producer: its commit may fail, be of unknown outcome, or be the last thing its process did."""

    def __init__(self, broker: Broker, process: Process, partition: int, crash: Callable[[str], None]) -> None:
        self._broker = broker
        self._process = process
        self._partition = partition
        self._crash = crash
        self._writer: MemoryWriter = broker.log.fence(partition)
        self.start = 0
        """Where the last transaction begins in the log."""

    def commit(self, records: Sequence[tuple[str, bytes]]) -> int:
        world, host = self._broker.world, self._process.host
        self._crash("before commit")
        if self._broker.away or host.cut_out:
            raise CommitUnknown("timed out")
        if world.chance(world.mishap):
            raise CommitUnknown("timed out before it was written")
        if world.chance(world.mishap):
            # Stopped between deciding and writing. It writes when it wakes, and whoever took over meanwhile must win.
            self._process.pause()
            world.later(world.delay(50, 4_000), self._process.resume)
            self._process.later(0, lambda: self._write_late(records))
            raise CommitUnknown("stopped within the commit")
        offset = self._write(records)
        self._crash("after commit")
        if host.cut_in or world.chance(world.mishap):
            raise CommitUnknown("it was written, and the answer lost")
        return offset

    def _write(self, records: Sequence[tuple[str, bytes]]) -> int:
        self.start = self._broker.log.end(self._partition)
        last = self._writer.commit(records)
        for offset in range(last - len(records) + 1, last + 1):
            self._broker.times[self._partition, offset] = EPOCH_MS + int(self._broker.world.now)
        return last

    def _write_late(self, records: Sequence[tuple[str, bytes]]) -> None:
        try:
            self._write(records)
            self._process.say("late commit written", self._partition)
        except Fenced:
            self._process.say("late commit refused", self._partition)
