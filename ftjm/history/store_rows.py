"""The rows of a store for people: names and values instead of keys and bytes. `core.state.tables` declares the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.migrations import can_migrate, migrate
from ftjm.core.state.rows import Rows
from ftjm.core.state.tables import TABLES, load_position

LAST = b"\xff"
"""A key behind all keys of rows."""


class Row(NamedTuple):
    """One row: the name of its table, its key in words, and its value."""

    kind: str
    key: str
    value: Any


BY_PREFIX = {table.prefix: table for table in TABLES}
BY_NAME = {table.name: table for table in TABLES}


def read(key: bytes, value: bytes) -> Row:
    """A row in words. A row that cannot be read is shown as bytes."""
    table = BY_PREFIX.get(key[:1])
    if table is None:
        return Row("unknown", repr(key), value)
    try:
        return Row(table.name, table.show_key(key[1:]), table.decode(value))
    except (msgspec.MsgspecError, ValueError, IndexError):
        return Row(table.name, repr(key[1:]), value)


def rows(store: Rows, kind: str | None = None) -> Iterator[Row]:
    """The rows of a store in the order of their keys: all of them, or those of the table `kind`."""
    start, end = (BY_NAME[kind].prefix, BY_NAME[kind].end) if kind else (b"", LAST)
    found: Iterable[tuple[bytes, bytes]] = store.scan(start, end)
    version = load_position(store).state_version
    if can_migrate(version):
        found = migrate(found, version)
    for key, value in found:
        yield read(key, value)


def stores(data_dir: Path, name: str | None = None) -> dict[tuple[str, int], Path]:
    """Find the stores of the schedulers that work under `data_dir`.

    Args:
        data_dir: the directory in which the schedulers of this machine keep their stores.
        name: the name of one scheduler; by default, the stores of all schedulers are listed.

    Returns:
        The directory of each store, by the scheduler's name and the partition.
    """
    found = {}
    for path in data_dir.glob(f"{name or '*'}/partition-*"):
        number = path.name.partition("-")[2]
        if number.isdigit() and path.is_dir():
            found[path.parent.name, int(number)] = path
    return dict(sorted(found.items()))


def open_read_only(path: Path) -> RocksStore:
    """Open a store while another process writes it. Rows that the other process has not flushed yet are not seen."""
    return RocksStore(path, read_only=True)
