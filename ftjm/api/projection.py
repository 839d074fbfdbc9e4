"""The projection: every partition folded as a standby folds it, into tables that can be searched.

It is the engine's own `Partition` over rows in SQLite, so nothing of what an event means is said twice, and the
owner's hash of the state is checked at every batch. What it adds is where each job's events are in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ftjm.adapters import codec
from ftjm.api.tables import PARTITIONS_MAX, Changes, Mention, Tables
from ftjm.core import events as e
from ftjm.core.decide import Policy
from ftjm.core.model import Position
from ftjm.core.state import Changes as RowChanges
from ftjm.core.state import load_position
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord

OWNERS = b"rtolc"
"""First bytes of the keys of rows that only owners read (`core/keys.py`): ready queue, timers, outbox, attempts of
sessions, command ids. They are not kept; everything that folding may read again is."""
OTHER, OUTPUT = 0, 1
"""Kinds of mentions: whether the event holds an attempt's output."""
_KINDS = {e.AttemptSucceeded: OUTPUT, e.AttemptFailed: OUTPUT}


def kind_of(event: type[msgspec.Struct]) -> int:
    """The kind of a mention of such an event."""
    return _KINDS.get(event, OTHER)


class _Rows:
    """One partition's rows, as the engine knows them: what waits to be written goes before what was."""

    def __init__(self, tables: Tables, partition: int) -> None:
        self._tables = tables
        self._partition = partition
        self.waiting: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.waiting:
            return self.waiting[key]
        return self._tables.get(self._partition, key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        raise AssertionError(f"folding needs no scan, but asks for {start!r} to {end!r}")

    def write(self, changes: RowChanges) -> None:
        self.waiting.update((key, value) for key, value in changes if key[0] not in OWNERS)

    def clear(self) -> None:
        raise AssertionError("the projection is cleared as a whole")

    def close(self) -> None:
        """The tables are closed as a whole."""


class Folded:
    """One partition on its way into the tables."""

    def __init__(self, tables: Tables, partition: int, partitions: int, log_id: str) -> None:
        self._number = partition
        self._tables = tables
        self.rows = _Rows(tables, partition)
        self.engine = Partition(Policy(partition, partitions), self.rows, codec, log_id)
        self._unclosed: list[tuple[type[msgspec.Struct] | None, str, int]] = []
        self._start()

    def _start(self) -> None:
        self._born: dict[str, int] = {}
        self._gone: list[str] = []
        self._mentions: list[Mention] = []
        self._workers: dict[str, str] = {}

    @property
    def size(self) -> int:
        """How much waits to be written, about."""
        return len(self.rows.waiting) + len(self._mentions)

    @property
    def position(self) -> Position:
        return self.engine.position

    def apply(self, offset: int, key: bytes, value: bytes) -> None:
        """Fold one committed record. Raises as `Partition.fold`."""
        if key:
            self._unclosed.append((codec.type_of(value), key.decode(), offset))
        if self.engine.fold(EventRecord(offset, value)) is not None:
            for kind, job, at in self._unclosed:
                self._note(kind, job, at)
            self._unclosed = []

    def _note(self, kind: type[msgspec.Struct] | None, key: str, offset: int) -> None:
        if kind is e.JobSubmitted:
            self._born[key] = offset * PARTITIONS_MAX + self._number
        elif kind is e.JobForgotten:
            self._gone.append(key)
            self._born.pop(key, None)
        elif kind is e.AttemptDispatched:
            # The batch that it came in is closed, and dispatches are its last events: the job has its worker now.
            job = self.engine.state.job(key)
            session = self.engine.state.session(job.session) if job else None
            if session is not None:
                self._workers[key] = session.worker
        self._mentions.append(Mention(key, offset, kind_of(kind) if kind else OTHER))

    def take(self) -> Changes:
        """What waits to be written."""
        rows, self.rows.waiting = self.rows.waiting, {}
        changes = Changes(self._number, rows, self._born, self._gone, self._mentions, self._workers)
        self._start()
        return changes


class Projection:
    """All partitions of one log. Used by one thread; whoever reads opens the file for himself."""

    def __init__(self, tables: Tables, log_id: str, partitions: int) -> None:
        """Over tables of another log, or of another number of partitions, begins anew."""
        self.tables = tables
        self.log_id = log_id
        known = {"log_id": log_id, "partitions": str(partitions)}
        if any(tables.meta(name) != value for name, value in known.items()):
            tables.clear()
            tables.set_meta(**known)
        self._partitions = partitions
        self.reopen()

    def reopen(self) -> None:
        """Take up each partition where the tables have it now."""
        self.parts = [Folded(self.tables, p, self._partitions, self.log_id) for p in range(self._partitions)]

    def clear(self) -> None:
        """Forget everything; the log gives it again."""
        self.tables.clear()
        self.tables.set_meta(log_id=self.log_id, partitions=str(self._partitions))
        self.reopen()

    @property
    def size(self) -> int:
        """How much waits to be written, about."""
        return sum(part.size for part in self.parts)

    def starts(self) -> dict[int, int]:
        """Where each partition is read on: behind the last batch that was written."""
        return {p: load_position(part.rows).applied_offset + 1 for p, part in enumerate(self.parts)}

    def lost(self, begins: Mapping[int, int]) -> list[int]:
        """Partitions whose logs begin (where `begins` says) behind the record that proves what is here."""
        return [p for p, start in self.starts().items() if 0 < begins.get(p, 0) >= start]

    def apply(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        """Fold one committed record; seen by readers once `flush` was called."""
        self.parts[partition].apply(offset, key, value)

    def flush(self) -> bool:
        """Write what was folded, with the positions, in one transaction; False if there was nothing."""
        changes = [part.take() for part in self.parts if part.rows.waiting]
        if changes:
            self.tables.write(changes)
        return bool(changes)
