"""The log and the store in memory: for tests, of ours and of users, and for the simulation.

They pass the same contract suite as Kafka and RocksDB.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from uuid import uuid4

from ftjm.core.model import Place
from ftjm.core.state import Changes
from ftjm.engine.ports import CommandRecord, CommitUnknown, EventRecord, Fenced


class MemoryStore:
    """Rows in a sorted list."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        first, last = bisect_left(self._keys, start), bisect_left(self._keys, end)
        for key in self._keys[first:last]:
            yield key, self._rows[key]

    def write(self, changes: Changes) -> None:
        for key, value in changes:
            if value is None:
                if self._rows.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._rows:
                    insort(self._keys, key)
                self._rows[key] = value

    def clear(self) -> None:
        self._keys = []
        self._rows = {}

    def copy(self) -> "MemoryStore":
        other = MemoryStore()
        other._keys = list(self._keys)
        other._rows = dict(self._rows)
        return other

    def close(self) -> None:
        """Nothing is held."""


class MemoryLog:
    """`events` and `commands` of one cluster, with fencing.

    A transaction leaves one offset empty after its records, as Kafka's markers do.
    """

    def __init__(self, partitions: int) -> None:
        self.log_id = str(uuid4())
        self.partitions = partitions
        self._events: list[list[EventRecord]] = [[] for _ in range(partitions)]
        self._ends = [0] * partitions
        self._markers: list[list[int]] = [[-1] for _ in range(partitions)]
        self._epochs = [0] * partitions
        self._commands: list[list[CommandRecord]] = [[] for _ in range(partitions)]
        self._leaders = [0] * partitions
        """The epochs of who leads `commands`."""

    def fence(self, partition: int) -> "MemoryWriter":
        """Take the right to extend `events[partition]` from whoever has it."""
        self._epochs[partition] += 1
        return MemoryWriter(self, partition, self._epochs[partition])

    def end(self, partition: int) -> int:
        """The offset behind the last committed record and its marker."""
        return self._ends[partition]

    def events(self, partition: int, start: int, end: int | None = None) -> Iterator[EventRecord]:
        """Committed records with start <= offset < end."""
        records = self._events[partition]
        for record in records[bisect_left(records, start, key=lambda r: r.offset) :]:
            if end is not None and record.offset >= end:
                return
            yield record

    def append(self, partition: int, epoch: int, records: Sequence[tuple[str, bytes]]) -> int:
        if epoch != self._epochs[partition]:
            raise Fenced(f"partition {partition} has another owner")
        end = self._ends[partition]
        self._events[partition] += [EventRecord(end + i, value) for i, (_, value) in enumerate(records)]
        self._markers[partition].append(end + len(records))
        self._ends[partition] = end + len(records) + 1
        return end + len(records) - 1

    def send(
        self, partition: int, value: bytes, *, reply_to: str = "", source: int = -1, number: int = 0, confirmed: int = 0
    ) -> int:
        """Append a command; returns its offset."""
        records, epoch = self._commands[partition], self._leaders[partition]
        records.append(CommandRecord(len(records), value, reply_to, source, number, confirmed, epoch))
        return len(records) - 1

    def commands(self, partition: int, start: int) -> list[CommandRecord]:
        return self._commands[partition][start:]

    def goes_on_at(self, partition: int, read: Place) -> Place:
        """As of `KafkaLog`."""
        if read.epoch < 0:
            return read
        records = self._commands[partition][: read.offset]
        offset = next((r.offset for r in records if r.epoch > read.epoch), min(read.offset, len(records)))
        return Place(offset, records[offset - 1].epoch if offset else -1)

    def lose_commands(self, partition: int, end: int) -> None:
        """As `truncate` of `events`: lose those from `end` on. Who leads afterwards was elected."""
        del self._commands[partition][end:]
        self._leaders[partition] += 1

    def truncate(self, partition: int, end: int) -> None:
        """Lose the records from `end` on, as an unclean election after a power loss would.

        A transaction that loses its marker is lost as a whole: what it wrote before `end` is never committed.
        """
        markers = self._markers[partition] = [marker for marker in self._markers[partition] if marker < end]
        self._events[partition] = [r for r in self._events[partition] if r.offset < markers[-1]]
        self._ends[partition] = min(self._ends[partition], end)


class MemoryWriter:
    """The right to extend one partition, until it is fenced."""

    def __init__(self, log: MemoryLog, partition: int, epoch: int) -> None:
        self._log = log
        self._partition = partition
        self._epoch = epoch
        self._end: int | None = None

    def expect(self, end: int) -> None:
        """As of `KafkaWriter`."""
        self._end = end

    def commit(self, records: Sequence[tuple[str, bytes]]) -> int:
        end = self._log.end(self._partition)
        if self._end not in {None, end}:
            raise CommitUnknown(f"expected the log to end at offset {self._end}, but found {end}")
        last = self._log.append(self._partition, self._epoch, records)
        if self._end is not None:
            self._end = self._log.end(self._partition)
        return last

    def close(self) -> None:
        """Nothing is held."""
