"""The keys of the store, and how they sort.

The first byte of a key tells its kind:

| key | row |
|---|---|
| `j` job | `Job` |
| `s` job | `JobSpec` |
| `v` job | `Outcome`, if its run left a result or an error |
| `k` job | `Checkpoint`, if its run left one |
| `r` queue, 0, 200 - priority, order | id of a READY job: the ready queue, in the order in which it is served |
| `t` due time, kind, key, attempt | `Timer`, in the order in which they are due |
| `o` number | `Message`: the outbox, in the order in which it is sent |
| `w` session | `Session` |
| `l` session, 0, job | empty: attempts that a session holds |
| `q` queue | `Queue` |
| `f` partition | `Peer` |
| `c` command id | empty: ids of commands that were carried out in the last 24 h |
| `x` | `Counters` |
| `p` | `Position`; not part of the state's hash |
"""

from collections.abc import Iterator
from typing import Protocol

from ftjm.core.model import Timer

POSITION_KEY = b"p"
COUNTERS_KEY = b"x"
TOP = 200
"""Priorities are stored as what they lack to this, so that the highest sorts first."""


class Rows(Protocol):
    """Sorted keys and their values, as last written."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in order."""


def ready_key(queue: str, priority: int, order: int) -> bytes:
    """The key of a READY job: keys sort as jobs are served."""
    return b"r%b\0%c%b" % (queue.encode(), TOP - priority, order.to_bytes(8))


def timer_key(timer: Timer) -> bytes:
    """The key of a timer: keys sort as timers fall due."""
    return b"t%b%c%b\0%b" % (
        timer.due_at.to_bytes(8),
        timer.kind,
        timer.key.encode(),
        timer.attempt.to_bytes(4),
    )


def outbox_key(number: int) -> bytes:
    """The key of an outbox entry: keys sort as entries are sent."""
    return b"o" + number.to_bytes(8)


def after(prefix: bytes) -> bytes:
    """The first key behind all that start with `prefix` (whose last byte is below 255)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
