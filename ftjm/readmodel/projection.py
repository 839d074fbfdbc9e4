"""The projection: every partition, folded as a standby folds it, into tables that can be searched.

A projected partition is the engine's own `Partition` over rows in SQLite. So the meaning of events is written down
once, in `core/evolve`, and every batch is checked against the hash of the state that its owner wrote into it.

What the projection adds to the rows of the engine is what only reading needs: the place of each job's events in the
log, the worker of its newest attempt, and the signal that ended it.

    records ──> PartitionProjection.apply ──> Partition.fold ──> rows that wait ──> Projection.flush ──> tables
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, get_args

import msgspec

from ftjm.adapters.avro import codec
from ftjm.core.decide.decision import Policy
from ftjm.core.records import events as e
from ftjm.core.state.model import Position
from ftjm.core.state.rows import Changes
from ftjm.core.state.tables import OWNER_PREFIXES, load_position
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord
from ftjm.history.newest_attempt import NewestAttempts
from ftjm.readmodel.tables import PARTITIONS_MAX, IndexedEvent, PartitionChanges, Tables

OTHER, OUTPUT = 0, 1
"""Kinds of indexed events: OUTPUT for events that hold an attempt's output."""
_OUTPUT_EVENTS = get_args(e.OutputEvent)


def kind_of(event: type[msgspec.Struct] | None) -> int:
    """The kind under which an event of this type is indexed. None stands for a type that is not known."""
    return OUTPUT if event in _OUTPUT_EVENTS else OTHER


class _Rows:
    """The rows of one partition, as the engine reads and writes them; rows that wait come before written ones."""

    def __init__(self, tables: Tables, partition: int) -> None:
        self._tables = tables
        self._partition = partition
        self.waiting: dict[bytes, bytes | None] = {}
        """Rows that are not written yet; None for a deleted row."""

    def get(self, key: bytes) -> bytes | None:
        if key in self.waiting:
            return self.waiting[key]
        return self._tables.get(self._partition, key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        raise AssertionError(f"expected folding to scan no rows, but it scans {start!r} to {end!r}")

    def write(self, changes: Changes) -> None:
        self.waiting.update((key, value) for key, value in changes if key[0] not in OWNER_PREFIXES)

    def clear(self) -> None:
        raise AssertionError("expected the projection to be cleared as a whole")

    def close(self) -> None:
        """Do nothing: the tables are closed as a whole."""


class _KeyedEvent(NamedTuple):
    """An event of a job, as far as the projection indexes it."""

    type: type[msgspec.Struct] | None
    key: str
    offset: int
    value: bytes


class PartitionProjection:
    """One partition of the projection."""

    def __init__(self, tables: Tables, partition: int, partitions: int, log_id: str) -> None:
        self._number = partition
        self._tables = tables
        self.rows = _Rows(tables, partition)
        self.engine = Partition(Policy(partition, partitions), self.rows, codec, log_id)
        self._open_batch: list[_KeyedEvent] = []
        self._reset()

    def _reset(self) -> None:
        self._submitted: dict[str, int] = {}
        self._forgotten: list[str] = []
        self._events: list[IndexedEvent] = []
        self._attempts = NewestAttempts()

    @property
    def waiting(self) -> int:
        """About how many rows wait to be written."""
        return len(self.rows.waiting) + len(self._events)

    @property
    def position(self) -> Position:
        """The position that is folded so far; readers may see an earlier one."""
        return self.engine.position

    def apply(self, offset: int, key: bytes, value: bytes) -> None:
        """Fold one committed record. Raises as `Partition.fold`."""
        if key:
            self._open_batch.append(_KeyedEvent(codec.type_of(value), key.decode(), offset, value))
        if self.engine.fold(EventRecord(offset, value)) is not None:
            for each in self._open_batch:
                self._index(each)
            self._open_batch = []

    def _index(self, event: _KeyedEvent) -> None:
        """Add an event of a closed batch to the rows and indexes for readers."""
        key = event.key
        if event.type is e.JobSubmitted:
            self._submitted[key] = event.offset * PARTITIONS_MAX + self._number
        elif event.type is e.JobForgotten:
            self._forgotten.append(key)
            self._submitted.pop(key, None)
        self._attempts.fold(key, event.value)
        self._events.append(IndexedEvent(key, event.offset, kind_of(event.type)))

    def take_changes(self) -> PartitionChanges:
        """Return the changes that wait to be written, and forget them."""
        rows, self.rows.waiting = self.rows.waiting, {}
        workers, signals = self._attempts.workers, self._attempts.signals
        changes = PartitionChanges(self._number, rows, self._submitted, self._forgotten, self._events, workers, signals)
        self._reset()
        return changes


class Projection:
    """All partitions of one log. One thread writes; each reader opens the file with a connection of its own."""

    def __init__(self, tables: Tables, log_id: str, partitions: int) -> None:
        """Continue where the tables are. Tables of another log, or of another number of partitions, are cleared.

        Args:
            log_id: Kafka's id of the topic `events`.
        """
        self.tables = tables
        self.log_id = log_id
        expected = {"log_id": log_id, "partitions": str(partitions)}
        if any(tables.meta(name) != value for name, value in expected.items()):
            tables.clear()
            tables.set_meta(**expected)
        self._count = partitions
        self.reopen()

    def reopen(self) -> None:
        """Continue each partition where the tables have it now."""
        self.partitions = [PartitionProjection(self.tables, p, self._count, self.log_id) for p in range(self._count)]

    def clear(self) -> None:
        """Delete everything. The log gives it again."""
        self.tables.clear()
        self.tables.set_meta(log_id=self.log_id, partitions=str(self._count))
        self.reopen()

    @property
    def waiting(self) -> int:
        """About how many rows wait to be written."""
        return sum(partition.waiting for partition in self.partitions)

    def starts(self) -> dict[int, int]:
        """The offset at which each partition is read on: behind the newest batch that was written."""
        return {p: load_position(each.rows).applied_offset + 1 for p, each in enumerate(self.partitions)}

    def trimmed(self, begins: Mapping[int, int]) -> list[int]:
        """The partitions that cannot be read on, because the log lacks what comes next.

        A partition counts as trimmed as soon as the log lacks its last applied record, which proves that the
        projection belongs to this log.

        Args:
            begins: the first offset that the log has of each partition.
        """
        return [p for p, start in self.starts().items() if 0 < begins.get(p, 0) >= start]

    def apply(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        """Fold one committed record. Readers see it after the next `flush`."""
        self.partitions[partition].apply(offset, key, value)

    def flush(self) -> bool:
        """Write the folded changes, with the positions, in one transaction. Returns whether there was any change."""
        changes = [partition.take_changes() for partition in self.partitions if partition.rows.waiting]
        if changes:
            self.tables.write(changes)
        return bool(changes)
