"""A store's rows for people: names and values instead of keys and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ftjm.adapters.rocks import RocksStore
from ftjm.core.keys import TOP, Rows
from ftjm.core.model import Counters, Job, JobSpec, Message, Outcome, Peer, Position, Queue, Session, Timer, TimerKind

LAST = b"\xff"
"""Behind every key."""


class Kind(NamedTuple):
    """A kind of row: its name, how its key is read, and what its value is."""

    name: str
    key: Callable[[bytes], str]
    value: type[msgspec.Struct] | None


class Row(NamedTuple):
    """One row, readable."""

    kind: str
    key: str
    value: Any


def _text(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


def _ready(key: bytes) -> str:
    queue, _, place = key.partition(b"\0")
    return f"{_text(queue)} priority {TOP - place[0]} order {int.from_bytes(place[1:])}"


def _timer(key: bytes) -> str:
    return f"{int.from_bytes(key[:8])} {TimerKind(key[8]).name} {_text(key[9:-5])} attempt {int.from_bytes(key[-4:])}"


def _number(key: bytes) -> str:
    return str(int.from_bytes(key))


def _lease(key: bytes) -> str:
    session, _, job = key.partition(b"\0")
    return f"{_text(session)} {_text(job)}"


KINDS: dict[bytes, Kind] = {
    b"j": Kind("job", _text, Job),
    b"s": Kind("spec", _text, JobSpec),
    b"v": Kind("outcome", _text, Outcome),
    b"r": Kind("ready", _ready, None),
    b"t": Kind("timer", _timer, Timer),
    b"o": Kind("outbox", _number, Message),
    b"w": Kind("session", _text, Session),
    b"l": Kind("held", _lease, None),
    b"q": Kind("queue", _text, Queue),
    b"f": Kind("peer", _text, Peer),
    b"c": Kind("command_id", _text, None),
    b"x": Kind("counters", _text, Counters),
    b"p": Kind("position", _text, Position),
}
"""By the first byte of the key; `ftjm.core.state` defines them."""
PREFIXES = {kind.name: prefix for prefix, kind in KINDS.items()}


def read(key: bytes, value: bytes) -> Row:
    """A row in words. One that cannot be read is shown as it is."""
    kind = KINDS.get(key[:1], Kind("unknown", _text, None))
    try:
        shown = msgspec.msgpack.decode(value, type=kind.value) if kind.value else value
        return Row(kind.name, kind.key(key[1:]), shown)
    except (msgspec.MsgspecError, ValueError, IndexError):
        return Row(kind.name, repr(key[1:]), value)


def rows(store: Rows, kind: str | None = None) -> Iterator[Row]:
    """All rows of a store in the order of their keys, or those of one kind."""
    prefix = PREFIXES[kind] if kind else b""
    end = bytes([prefix[0] + 1]) if prefix else LAST
    for key, value in store.scan(prefix, end):
        yield read(key, value)


def stores(data_dir: Path, name: str | None = None) -> dict[tuple[str, int], Path]:
    """The stores of the schedulers that work under `data_dir`, by scheduler and partition."""
    found = {}
    for path in data_dir.glob(f"{name or '*'}/partition-*"):
        number = path.name.partition("-")[2]
        if number.isdigit() and path.is_dir():
            found[path.parent.name, int(number)] = path
    return dict(sorted(found.items()))


def look(path: Path) -> RocksStore:
    """Open a store beside the process that writes it: what that one has not flushed yet is not seen."""
    return RocksStore(path, read_only=True)
