"""The packets between the guard and its zygote: over a SOCK_SEQPACKET socket, some with descriptors.

The guard sends requests, each with a token that it chose; every answer names the token of its request.

    guard ──► zygote         `REQUEST`                 with the descriptors of the new task process
    guard ◄── zygote         READY or BROKEN, once     then one `FORKED` for each request

What guard and task process send each other is in `call.py`.
"""

import os
import socket
import struct
from typing import Protocol

import msgspec

REQUEST = struct.Struct("!I")
"""A request to fork a task process: its token."""
DESCRIPTORS = 4
"""Descriptors of a task process: its connection to the guard, standard output and errors, and the file `LAST_WORD`."""

FORKED = struct.Struct("!II")
"""The zygote's answer to a request: token and pid; a pid of 0 means that it could not fork."""

READY, BROKEN = b"R", b"E"
"""The zygote's first packet: it has imported the apps (`Apps` follows as JSON), or it cannot (the error follows)."""
FRAME_BYTES_MAX = 64 * 1024


class Apps(msgspec.Struct, frozen=True):
    """The names of the tasks that the apps define."""

    tasks: list[str]
    isolated: list[str]
    """Those of which each attempt has a process of its own."""


class Receiver(Protocol):
    """The subject of a request: a task process that is to be forked."""

    child_descriptors: list[int]
    """Descriptors that are sent with the request, and used by the new process."""


def take_standard_input() -> socket.socket:
    """The socket to the guard that is standard input. Foreign code finds the end of its input there from now on."""
    connection = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return connection
