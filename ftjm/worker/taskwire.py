"""What the guard, the zygote and the pool of threads say to each other: packets over a socket, some with descriptors.

The guard asks for something, with a token; what comes back names the token.
"""

import struct
from typing import Protocol

import msgspec

ASK = struct.Struct("!cI")
"""What is wanted, and its token."""
FORK, POOL = b"F", b"P"
"""Of the zygote: a process for an attempt, or one for many. With the descriptors that it is to have."""
RUN, STOP = b"R", b"S"
"""Of the pool: a thread for an attempt, with its descriptors; that an attempt be stopped, by its token."""
GIVEN = 4
"""Descriptors of an attempt: standard input, output and errors, and a file for its outcome."""

FORKED = struct.Struct("!II")
"""From the zygote: token and pid, 0 if there could be none."""
TOLD = struct.Struct("!cIi")
"""From the pool: what, the token, and an exit status."""
BEGUN, ENDED, REFUSED = b"B", b"E", b"N"

READY, BROKEN = b"R", b"E"
"""From the zygote, once: it has imported the apps (followed by `Apps`), or why it cannot."""
POOL_MARK = "FTJM_POOL"
"""In the environment of what the pool's threads start: its pid."""
FRAME_BYTES_MAX = 64 * 1024


class Apps(msgspec.Struct, frozen=True):
    """The names of the tasks that the apps define."""

    tasks: list[str]
    idempotent: list[str]


class Wanted(Protocol):
    """Who waits for an answer, and what is given to the other side."""

    given: list[int]
