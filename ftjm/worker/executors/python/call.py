"""The packets between the guard and a task process: a call starts an attempt, a `Return` ends it.

They go over a SOCK_SEQPACKET socket, one packet each, so that none is ever half sent: neither by a guard, which must
not wait, nor by a process in which a stop may be raised at any moment. A packet that would be larger than
`PACKET_BYTES_MAX` is empty but for one byte, and its content is in a file in memory whose descriptor comes with it.

A task may write to any descriptor of its process, and so to this connection. What is no `Return` of the attempt that
runs is passed over. A task may also close all descriptors. Its process then leaves its `Return` in the file that the
call names (`last_word`), and ends. The guard closes the connection itself if too much on it is no `Return`, or if it
has no descriptor free to receive one: the process then does the same, or ends if it waits for a call.
"""

import errno
import fcntl
import os
import socket
import struct
from contextlib import suppress
from typing import TypeVar

import msgspec

from ftjm.core.state.model import FailureReason

PACKET_BYTES_MAX = 128 * 1024
"""Half of what a socket takes by default."""
_IN_A_FILE = b"\xc1"
"""The packet whose content is in a file: msgpack never begins so."""
_DESCRIPTOR_SPACE = socket.CMSG_SPACE(4)
# As plain numbers: an operation on members of an `enum` is a function in Python.
_CLOEXEC, _DESCRIPTORS_LOST, _CUT = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC), int(socket.MSG_TRUNC)
TASK_REASONS = frozenset({FailureReason.EXCEPTION, FailureReason.RESULT_REFUSED, FailureReason.START_FAILED})
"""The reasons for a failure that the process of a task may give. The guard knows all others better."""

P = TypeVar("P", bound=msgspec.Struct)


class TaskFailure(msgspec.Struct, frozen=True, array_like=True):
    """The reason why a task failed."""

    reason: FailureReason
    error: str


class Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call of a task."""

    token: int
    """The attempt: no other call of this guard has the same."""
    task: str
    payload: bytes
    """The arguments as JSON."""
    environment: dict[str, str]
    """The variables that the attempt has beside those that the process began with."""
    directory: str
    """The attempt's own directory."""
    is_made: bool
    """Whether the directory exists already: an earlier attempt of the process has left it empty."""
    working_directory: str
    """Where the task runs, if the job says so; empty for `work` in the attempt's directory."""
    checkpoint: bytes
    """What an earlier attempt of the run left; empty for nothing."""
    result_limit: int
    """How many bytes a result may have. Of a longer one, only the size is needed."""
    memory_limit: int
    """How many bytes of memory the process may have beyond those that it began with, to be used again."""
    is_last: bool
    """Whether the process ends with this attempt."""
    last_word: str
    """The path of a file for the `Return` if the connection is lost: a descriptor of the guard."""


class Return(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a call has ended."""

    token: int
    exit_status: int
    result: bytes = b""
    """JSON; empty for None. At most a little more than `result_limit`."""
    result_size: int = 0
    """How many bytes the result has in all."""
    failure: TaskFailure | None = None
    """None for a success, and for an exit status that the task has chosen."""
    is_clean: bool = False
    """Whether the attempt's directory is as empty as it was."""
    leaves: bool = False
    """Whether the process ends, and the attempt with it; else it waits for the next call."""
    why: str = ""
    """The reason why it ends, as the end of a sentence, if the attempt has caused it."""


class Packets:
    """Receives packets, all of them into one buffer."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(PACKET_BYTES_MAX))
        self._buffers = [self._view]

    def receive(self, connection: socket.socket, decoder: msgspec.msgpack.Decoder[P], bytes_max: int) -> P | None:
        """The next packet.

        Args:
            connection: The socket.
            decoder: The decoder of its content.
            bytes_max: A file that is larger is not read.

        Returns:
            None if it is not such a packet.

        Raises:
            BlockingIOError: There is none, and the socket does not wait.
            OSError: The connection is lost. EMFILE: the connection is there, but a packet is lost, since its descriptor
                could not be received.
            EOFError: The other side has closed it, and all is received.
        """
        size, ancillary, flags, _ = connection.recvmsg_into(self._buffers, _DESCRIPTOR_SPACE, _CLOEXEC)
        descriptors = _descriptors(ancillary) if ancillary else []
        try:
            if flags & _DESCRIPTORS_LOST:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            if not size and not descriptors:
                raise EOFError
            if flags & _CUT:
                return None
            content = _content(descriptors[0], bytes_max) if descriptors else self._view[:size]
            return decoder.decode(content)
        except (ValueError, msgspec.MsgspecError, RecursionError, MemoryError):
            return None
        finally:
            for fd in descriptors:
                os.close(fd)


def send(connection: socket.socket, packet: bytes, flags: int = 0) -> None:
    """Send a packet. Raises OSError if it cannot be sent, or only by waiting where `flags` forbid that."""
    if len(packet) <= PACKET_BYTES_MAX:
        connection.send(packet, flags)
        return
    fd = os.memfd_create("packet", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        write_all(fd, packet)
        socket.send_fds(connection, [_IN_A_FILE], [fd], flags)
    finally:
        os.close(fd)


def write_all(fd: int, content: bytes) -> None:
    """Write all of the content to a file."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found += struct.unpack(f"{len(data) // 4}i", data)
    return found


def _content(fd: int, bytes_max: int) -> bytes:
    """The content of a file in memory. Raises ValueError for any other: reading that may wait without end."""
    with suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if (size := os.fstat(fd).st_size) <= bytes_max:
            return os.pread(fd, size, 0)
    raise ValueError("expected a file in memory")
