"""A cache of decoded rows, in which a batch changes rows in place."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from ftjm.core.state.model import Counters, Job, Peer, Session
from ftjm.core.state.queues import ConcurrencyKey, Queue, QueueDeclaration, QueueRate, QueueStatus, ShareUsage
from ftjm.core.state.rows import Rows
from ftjm.core.state.schedules import Schedule
from ftjm.core.state.tables import Table

CACHE_ROWS_MAX = 20_000
"""Number of rows that are cached of one table."""
Row = TypeVar(
    "Row",
    Job,
    Session,
    Queue,
    QueueStatus,
    QueueDeclaration,
    QueueRate,
    ConcurrencyKey,
    ShareUsage,
    Schedule,
    Peer,
    Counters,
)

encode = msgspec.msgpack.Encoder().encode


class RowCache(dict[str, Row | None]):
    """Rows of one table by name: decoded when they are first read, and encoded once a batch.

    The value is None where there is no such row. Rows that the batch did not change are a mere cache, and may be
    dropped at any time.
    """

    def __init__(self, rows: Rows, table: Table[Row]) -> None:
        self._rows = rows
        self._prefix = table.prefix
        self._decode: Callable[[bytes], Row] = table.decode
        # Dictionaries, because a set is walked through in another order by each process.
        self.changed: dict[str, None] = {}
        """Names of the rows that the batch has changed, in their order."""
        self.dropped: dict[str, None] = {}
        """Names of the rows that the batch has deleted."""
        self._news: set[str] | None = None

    def __missing__(self, name: str) -> Row | None:
        raw = self._rows.get(self._prefix + name.encode())
        row = self[name] = None if raw is None else self._decode(raw)
        return row

    def save(self, name: str, row: Row) -> None:
        """Write the row when the batch ends."""
        self[name] = row
        self.changed[name] = None
        if self.dropped:
            self.dropped.pop(name, None)

    def drop(self, name: str) -> bytes:
        """Forget the row. Returns its key, which the caller deletes."""
        self[name] = None
        self.changed.pop(name, None)
        self.dropped[name] = None
        return self._prefix + name.encode()

    def seal(self, changes: dict[bytes, bytes | None]) -> None:
        """Add the changed rows, encoded, to `changes`."""
        for name in self.changed:
            changes[self._prefix + name.encode()] = encode(self[name])

    def written(self) -> None:
        """The changes are in the store: the rows are a cache now."""
        if self._news is not None:
            self._news.update(self.changed, self.dropped)
        self.changed.clear()
        for name in self.dropped:
            self.pop(name, None)  # the store has none either
        self.dropped.clear()

    def take_news(self) -> set[str] | None:
        """Names of the rows that were written or deleted since the last call; None at the first call.

        One caller can follow a table so, at a cost that depends on what changed and not on the number of rows.
        """
        news, self._news = self._news, set()
        return news
