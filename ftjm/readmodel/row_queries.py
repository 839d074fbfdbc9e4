"""Queries on rows of the engine that the projection keeps as they are: of queues, schedules, partitions, windows."""

from __future__ import annotations

import sqlite3
from functools import cached_property

from ftjm.core.identity import partition_for
from ftjm.core.limits import RESOURCES_MAX
from ftjm.core.queue_gates import QueueRows
from ftjm.core.state.model import Position
from ftjm.core.state.queues import ShareUsage
from ftjm.core.state.resources import Adoption, KnownResource, ResourceKind, resource_key
from ftjm.core.state.rows import first_key_after
from ftjm.core.state.schedules import Schedule
from ftjm.core.state.tables import (
    ADOPTIONS,
    POSITION,
    QUEUE_DECLARATIONS,
    QUEUE_RATES,
    QUEUE_STATUS,
    QUEUES,
    RESOURCES,
    SCHEDULES,
    SHARES,
    Row,
    Table,
    share_name,
)
from ftjm.core.windows import windows_of

SHARES_MAX = 10_000
"""Shares of a queue that are looked at."""
PAGE_BYTES_MAX = 4 * 1024 * 1024
"""A page ends with the entry that makes it this large: a job's labels, an event's payload may have 256 KiB and more."""


class RowReader:
    """Reads rows by their keys. For use by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def queues(self, behind: str, limit: int, *, declared: bool = False) -> list[tuple[str, QueueRows]]:
        """Read queues by name: those that have jobs, those that are paused, and those that are declared.

        Args:
            behind: only queues behind this name.
            limit: queues, at most.
            declared: only queues that are declared.

        Returns:
            Each queue with what is stored of it.
        """
        query = "SELECT key FROM rows WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        names: set[str] = set()
        for table in (QUEUE_DECLARATIONS,) if declared else (QUEUES, QUEUE_STATUS, QUEUE_DECLARATIONS):
            rows = self._db.execute(query, (table.prefix + behind.encode(), table.end, limit))
            names.update(key[1:].decode() for (key,) in rows)
        found = [(name, self.queue_rows(name)) for name in sorted(names)[:limit]]
        # Another connection writes meanwhile: what was declared a moment ago may be no more.
        return [(name, rows) for name, rows in found if rows.declaration or not declared]

    def queue_rows(self, queue: str) -> QueueRows:
        """What is stored of a queue as a whole."""
        return QueueRows(
            self._row(QUEUE_STATUS, queue),
            self._row(QUEUE_DECLARATIONS, queue),
            self._row(QUEUES, queue),
            self._row(QUEUE_RATES, queue),
            windows_of(self.known_to(queue, ResourceKind.WINDOW), queue),
        )

    def shares(self, queue: str) -> dict[str, ShareUsage]:
        """What the shares of a queue have used, by their names."""
        start = SHARES.prefix + share_name(queue, "").encode()
        found = self.rows(SHARES, start, first_key_after(start), SHARES_MAX)
        return {key[len(start) :].decode(): row for key, row in found}

    def known_to(self, queue: str, kind: ResourceKind) -> dict[str, KnownResource]:
        """The resources of a kind that every partition must know, by name, as this queue's partition knows them."""
        start = RESOURCES.prefix + resource_key(kind, "").encode()
        query = "SELECT key, value FROM rows WHERE key >= ? AND key < ? AND partition = ? ORDER BY key"
        rows = self._db.execute(query, (start, first_key_after(start), partition_for(queue, self._partitions)))
        return {key[len(start) :].decode(): RESOURCES.decode(value) for key, value in rows}

    @cached_property
    def _partitions(self) -> int:
        """Number of the log's partitions."""
        found = self._db.execute("SELECT value FROM meta WHERE name = 'partitions'").fetchone()
        return int(found[0]) if found else 1

    def resources(self, kind: ResourceKind) -> dict[str, KnownResource]:
        """The resources of a kind that every partition must know, by name, as their home has them."""
        return {name: known for name, known, _ in self.resource_page(kind, "", RESOURCES_MAX)[0]}

    def resource_page(
        self, kind: ResourceKind, behind: str, limit: int
    ) -> tuple[list[tuple[str, KnownResource, Adoption]], bool]:
        """Read resources that every partition must know, by name, as their home has them.

        Args:
            behind: only resources behind this name; empty for all.
            limit: resources, at most.

        Returns:
            Each resource with its name and with the partitions that have it, and whether there are more behind.
        """
        found: list[tuple[str, KnownResource, Adoption]] = []
        size, start = 0, ADOPTIONS.prefix + resource_key(kind, "").encode()
        query = (
            "SELECT home.key, known.value, home.value FROM rows AS home JOIN rows AS known"
            " ON known.key = CAST(? || substr(home.key, 2) AS BLOB) AND known.partition = home.partition"
            " WHERE home.key > ? AND home.key < ? ORDER BY home.key LIMIT ?"
        )
        page = (RESOURCES.prefix, start + behind.encode(), first_key_after(start), limit + 1)
        for key, known, adoption in self._db.execute(query, page):
            if len(found) == limit or size >= PAGE_BYTES_MAX:
                return found, True
            name = key[len(start) :].decode()
            found.append((name, RESOURCES.decode(known), ADOPTIONS.decode(adoption)))
            size += len(known)
        return found, False

    def resource(self, kind: ResourceKind, name: str) -> tuple[KnownResource, Adoption] | None:
        """Read one resource that every partition must know, as its home has it; None if there is none."""
        query = (
            "SELECT known.value, home.value FROM rows AS home JOIN rows AS known"
            " ON known.key = ? AND known.partition = home.partition WHERE home.key = ?"
        )
        key = resource_key(kind, name).encode()
        found = self._db.execute(query, (RESOURCES.prefix + key, ADOPTIONS.prefix + key)).fetchone()
        return (RESOURCES.decode(found[0]), ADOPTIONS.decode(found[1])) if found else None

    def adoption(self, kind: ResourceKind, name: str) -> Adoption | None:
        """Which partitions have the newest revision of a resource, or know of its deletion; None if there is none."""
        return self._row(ADOPTIONS, resource_key(kind, name))

    def schedules(self, behind: str, limit: int, queue: str = "") -> tuple[list[tuple[str, Schedule]], bool]:
        """Read schedules by `queue/name`.

        Args:
            behind: only schedules behind this one; empty for all.
            limit: schedules, at most.
            queue: only schedules of this queue; empty for all.

        Returns:
            Each schedule with its key, and whether there are more behind the last of them.
        """
        start, end = SCHEDULES.prefix, SCHEDULES.end
        if queue:
            start += f"{queue}/".encode()
            end = first_key_after(start)
        query = "SELECT key, length(value) FROM rows WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        keys: list[str] = []
        size, more = 0, False
        for key, length in self._db.execute(query, (max(start, SCHEDULES.prefix + behind.encode()), end, limit + 1)):
            if more := len(keys) == limit or size >= PAGE_BYTES_MAX:
                break
            keys.append(key[1:].decode())
            size += length
        return [(key, row) for key in keys if (row := self.schedule(key)) is not None], more

    def schedule(self, key: str) -> Schedule | None:
        """Read a schedule, `queue/name`; None if there is none."""
        return self._row(SCHEDULES, key)

    def _row(self, table: Table[Row], name: str) -> Row | None:
        key = table.prefix + name.encode()
        found = self._db.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        return table.decode(found[0]) if found else None

    def rows(self, table: Table[Row], start: bytes, end: bytes, limit: int) -> list[tuple[bytes, Row]]:
        """Rows of a table with start <= key < end that are not searched otherwise, in the order of their keys."""
        query = "SELECT key, value FROM rows WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
        return [(key, table.decode(value)) for key, value in self._db.execute(query, (start, end, limit))]

    def positions(self) -> dict[int, Position]:
        """The position of each partition."""
        rows = self._db.execute("SELECT partition, value FROM rows WHERE key = ?", (POSITION.prefix,))
        return {partition: POSITION.decode(value) for partition, value in rows}
