"""The log and the store in memory, for tests and for the simulation. Users get them for their own tests.

They pass the same contract suite as the adapters of Kafka and RocksDB.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from uuid import uuid4

from ftjm.core.state.model import LogPosition
from ftjm.core.state.rows import Changes
from ftjm.engine.ports import CommandRecord, CommitUnknown, EventRecord, Fenced


class MemoryStore:
    """Rows in a sorted list."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key; None if there is no such row."""
        return self._rows.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows with start <= key < end, in the order of their keys."""
        first, last = bisect_left(self._keys, start), bisect_left(self._keys, end)
        for key in self._keys[first:last]:
            yield key, self._rows[key]

    def write(self, changes: Changes) -> None:
        """Write and delete rows; a value of None deletes the row."""
        for key, value in changes:
            if value is None:
                if self._rows.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
            else:
                if key not in self._rows:
                    insort(self._keys, key)
                self._rows[key] = value

    def clear(self) -> None:
        """Delete all rows."""
        self._keys = []
        self._rows = {}

    def copy(self) -> "MemoryStore":
        """Return an independent store with the same rows."""
        other = MemoryStore()
        other._keys = list(self._keys)
        other._rows = dict(self._rows)
        return other

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


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
        """Epoch of the broker that leads each partition of `commands`."""

    def fence(self, partition: int) -> "MemoryWriter":
        """Take the right to extend `events[partition]` from its previous owner."""
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
        """Append one transaction of the owner that fenced at `epoch`; returns the offset of its last record.

        Raises:
            Fenced: another owner has fenced since.
        """
        if epoch != self._epochs[partition]:
            raise Fenced(f"partition {partition} has another owner")
        end = self._ends[partition]
        self._events[partition] += [EventRecord(end + i, value, key.encode()) for i, (key, value) in enumerate(records)]
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
        """The commands from offset `start` on."""
        return self._commands[partition][start:]

    def resume_position(self, partition: int, read: LogPosition) -> LogPosition:
        """See `KafkaLog.resume_position`."""
        if read.epoch < 0:
            return read
        records = self._commands[partition]  # their epochs never go down
        end = min(read.offset, len(records))
        offset = bisect_right(records, read.epoch, 0, end, key=lambda record: record.epoch)
        return LogPosition(offset, records[offset - 1].epoch if offset else -1)

    def lose_commands(self, partition: int, end: int) -> None:
        """Lose the commands from `end` on, as an election after a power loss would. The new leader has a new epoch."""
        del self._commands[partition][end:]
        self._leaders[partition] += 1

    def truncate(self, partition: int, end: int) -> None:
        """Lose the events from `end` on, as an election after a power loss would.

        A transaction that loses its marker is lost as a whole: its records before `end` are never committed.
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
        """See `KafkaWriter.expect`."""
        self._end = end

    def commit(self, records: Sequence[tuple[str, bytes]]) -> int:
        """Append the records in one transaction: see `KafkaWriter.commit`.

        Returns:
            The offset of the last record.

        Raises:
            Fenced: another owner extends the log; nothing was written.
            CommitUnknown: the log does not end where `expect` has set its end.
        """
        end = self._log.end(self._partition)
        if self._end not in {None, end}:
            raise CommitUnknown(f"expected the log to end at offset {self._end}, but found {end}")
        last = self._log.append(self._partition, self._epoch, records)
        if self._end is not None:
            self._end = self._log.end(self._partition)
        return last

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
