"""Rows as bytes, and the drafts of those that a batch changes more than once."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ftjm.core.keys import Rows
from ftjm.core.model import (
    Checkpoint,
    Counters,
    Job,
    JobSpec,
    Message,
    Outcome,
    Peer,
    Position,
    Queue,
    Session,
    Timer,
)

CACHE_ROWS_MAX = 20_000
"""Of a kind."""
Row = TypeVar("Row", Job, Session, Queue, Peer, Counters)

encode = msgspec.msgpack.Encoder().encode
decoders: dict[type, Callable[[bytes], Any]] = {
    kind: msgspec.msgpack.Decoder(kind).decode
    for kind in (Job, JobSpec, Outcome, Checkpoint, Session, Queue, Peer, Counters, Timer, Message, Position)
}


class Drafts(dict[str, Row | None]):
    """Rows of one kind by name: read when they are asked for, changed in place, and encoded once a batch.

    None where there is no such row. What is not changed is a cache, and may be cleared.
    """

    def __init__(self, rows: Rows, prefix: bytes, kind: type[Row]) -> None:
        self._rows = rows
        self._prefix = prefix
        self._decode: Callable[[bytes], Row] = decoders[kind]
        self.changed: set[str] = set()
        self._gone: set[str] = set()

    def __missing__(self, name: str) -> Row | None:
        raw = self._rows.get(self._prefix + name.encode())
        row = self[name] = None if raw is None else self._decode(raw)
        return row

    def save(self, name: str, row: Row) -> None:
        self[name] = row
        self.changed.add(name)
        self._gone.discard(name)

    def drop(self, name: str) -> bytes:
        """The key that is no more."""
        self[name] = None
        self.changed.discard(name)
        self._gone.add(name)
        return self._prefix + name.encode()

    def seal(self, changes: dict[bytes, bytes | None]) -> None:
        for name in self.changed:
            changes[self._prefix + name.encode()] = encode(self[name])

    def written(self) -> None:
        self.changed.clear()
        for name in self._gone:
            self.pop(name, None)  # the rows have none either
        self._gone.clear()
        if len(self) > CACHE_ROWS_MAX:
            self.clear()
