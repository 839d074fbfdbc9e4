"""What the engine needs from the world. `adapters.memory` and the Kafka and RocksDB adapters pass one suite."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ftjm.core.state.rows import Changes, Rows


class Fenced(Exception):
    """Another owner extends the log now; nothing of this transaction was written."""


class CommitUnknown(Exception):
    """Whether the transaction was written is not known: only the log can tell, after a takeover."""


class StoreFailed(Exception):
    """The store cannot be read or written: nothing may be decided by what it seems to hold."""


class EventRecord(msgspec.Struct, frozen=True, gc=False):
    """A committed record of `events[p]`."""

    offset: int
    value: bytes
    key: bytes = b""


class CommandRecord(msgspec.Struct, frozen=True, gc=False):
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
    """Epoch of the leader that took the record. Every later leader has a higher one."""


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


class Clock(Protocol):
    """An owner's two clocks: one that tells the time, and one that measures it."""

    def wall_ms(self) -> int:
        """The time to decide with, ms since the Unix epoch."""

    def boot_ms(self) -> int:
        """Milliseconds that have passed since some fixed moment. No change of the time of day moves it."""


class Unsendable(Exception):
    """A parcel can never be sent, however often it is tried: it is too large, or the topic has no such partition."""


class Parcel(msgspec.Struct, frozen=True, gc=False):
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
    """For a forwarded command: every number up to this one is known to have been delivered."""


Send = Callable[[Parcel, Callable[[bool], None]], None]
"""Sends a parcel. The callback is called, from any thread, with True when the log has the parcel, and with False if the
log refuses it.

Raises Unsendable. Any other exception means that nothing can be sent now.
"""
