"""What the engine needs from the world. `adapters.memory` and the Kafka and RocksDB adapters pass one suite."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ftjm.core.keys import Rows
from ftjm.core.state import Changes


class Fenced(Exception):
    """Another owner extends the log now; nothing of this transaction was written."""


class CommitUnknown(Exception):
    """Whether the transaction was written is not known: only the log can tell, after a takeover."""


class StoreFailed(Exception):
    """The store cannot be read or written: nothing may be decided by what it seems to hold."""


class EventRecord(msgspec.Struct, frozen=True):
    """A committed record of `events[p]`."""

    offset: int
    value: bytes


class CommandRecord(msgspec.Struct, frozen=True):
    """A record of `commands[p]` with what its headers say."""

    offset: int
    value: bytes
    reply_to: str = ""
    source: int = -1
    """The partition that forwarded it; -1 if it came from a client."""
    number: int = 0
    confirmed: int = 0
    """Every number of that partition up to this one was in the log before it was sent."""
    epoch: int = 0
    """Of the leader that took it: every later one is higher."""


class Codec(Protocol):
    """Structs to record bytes and back."""

    def encode(self, struct: msgspec.Struct) -> bytes: ...

    def decode(self, data: bytes) -> msgspec.Struct:
        """Raises `ftjm.core.errors.UndecodableError`."""


class Writer(Protocol):
    """The right to extend one partition's log, until somebody takes it."""

    def commit(self, records: Sequence[tuple[str, bytes]]) -> int:
        """Append (key, value) records in one transaction.

        Returns: the offset of the last one.
        Raises: Fenced, CommitUnknown. The writer is of no use after either.
        """


class Store(Rows, Protocol):
    """One partition's rows."""

    def write(self, changes: Changes) -> None:
        """All of `changes`, or none."""

    def clear(self) -> None:
        """Forget everything."""

    def close(self) -> None: ...


class Parcel(msgspec.Struct, frozen=True):
    """A record that leaves the partition after a commit."""

    topic: str
    """`dispatch`, `replies` or `commands`."""
    partition: int
    key: str
    value: bytes
    reply_to: str = ""
    source: int = -1
    number: int = 0
    confirmed: int = 0
    """Of a forwarded command: every number up to this one is known to have been delivered."""


Send = Callable[[Parcel, Callable[[bool], None]], None]
"""Sends a parcel; the callback is told, from any thread, whether the log has it, or has refused it."""
