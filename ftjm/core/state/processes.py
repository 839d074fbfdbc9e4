"""The rows of processes: work on many rows that goes on over many batches.

A process is begun by an event. Each batch of its partition advances one process by one slice, which is an event of its
own: it names what it changes, and where the next slice begins. So a process survives every takeover, and is folded like
all else. `ftjm.core.decide.processes` decides the slices.

A row is a msgpack array that begins with the struct's tag, a number. A tag that was used is never given to another
struct.
"""

from enum import IntEnum

import msgspec


class ProcessKind(IntEnum):
    """The kinds of processes. The numbers are part of the store's format."""

    REORDER = 1
    """Waiting jobs get the score that they would have if they came now. The name is the queue's; empty for all."""


class Reorder(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The progress of a REORDER."""

    next_key: bytes
    """The key in the ready queue from which the next slice reads; empty for the first."""


Process = Reorder
"""The value of a process's row. More kinds make it a union."""
