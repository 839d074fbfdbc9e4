"""The frames between supervisor and guard: msgpack with a length before it, over a socket pair.

    supervisor ──► guard    Start, Stop, Renew, Forget, Ping
    supervisor ◄── guard    Started, Checkpointed, Ended, Pong, Warned

Neither side ever blocks on the other: a stopped supervisor must not stop the guard's timers.
"""

import socket
import struct
from typing import Any, Generic, TypeVar

import msgspec

from ftjm.core.state.model import FailureReason

_LENGTH = struct.Struct("!I")
_CHUNK = 1 << 18


class Start(msgspec.Struct, kw_only=True, tag=True):
    """Start an attempt, unless the deadline of its session has passed. One `Ended` follows in any case."""

    key: str
    """`queue/job_id/attempt`"""
    session: str
    queue: str
    job_id: str
    run: int
    attempt: int
    executor: str
    command: list[str]
    payload: bytes
    environment: dict[str, str]
    working_directory: str
    timeout_ms: int
    grace_ms: int
    """Time between SIGTERM and SIGKILL at its timeout, ms."""
    continue_for_ms: int
    """How much longer than its session's deadline it may run."""
    checkpoint: bytes = b""
    """The checkpoint that an earlier attempt of the run left; empty for none."""


class Stop(msgspec.Struct, kw_only=True, tag=True):
    """Stop an attempt: SIGTERM, and SIGKILL after the grace; SIGKILL at once if the grace is 0."""

    key: str
    reason: FailureReason
    grace_ms: int


class Renew(msgspec.Struct, kw_only=True, tag=True):
    """The deadline of a session, CLOCK_BOOTTIME ms. No attempt of a session without a deadline is started."""

    session: str
    deadline_ms: int


class Forget(msgspec.Struct, kw_only=True, tag=True):
    """The session has ended and holds no attempt."""

    session: str


class Ping(msgspec.Struct, tag=True):
    """Asks the guard for a `Pong`. A guard that is stopped or hangs cannot keep deadlines."""


class Pong(msgspec.Struct, tag=True):
    """The answer to a `Ping`."""


class Started(msgspec.Struct, kw_only=True, tag=True):
    """The attempt runs. An attempt that was started again is reported again."""

    key: str
    started_at: int
    """Wall clock, ms."""


class Checkpointed(msgspec.Struct, kw_only=True, tag=True):
    """The checkpoint and progress of an attempt, as it reports them. A field with its default value has not changed."""

    key: str
    data: bytes = b""
    progress: float = -1.0
    text: str = ""


class Ended(msgspec.Struct, kw_only=True, tag=True):
    """An attempt has ended; none of its processes runs any more."""

    key: str
    reason: FailureReason | None = None
    """The reason why it failed; None for a success."""
    error: str = ""
    exit_code: int = 0
    signal: int = 0
    started_at: int = 0
    """Wall clock, ms; 0 if it never started."""
    ended_at: int = 0
    result: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_cut: int = 0
    stderr_cut: int = 0
    scratch: str = ""
    """The path of its directory if the supervisor must remove it; empty if the guard has done so."""


class Warned(msgspec.Struct, kw_only=True, tag=True):
    """A text for the worker's log. The guard does not write it itself: standard errors may be a pipe that is full."""

    text: str


Frame = Start | Stop | Renew | Forget | Ping | Pong | Started | Checkpointed | Ended | Warned


class Disconnected(Exception):
    """The other side has closed the connection, or has ended."""


Sent = TypeVar("Sent", bound=msgspec.Struct)
Received = TypeVar("Received", bound=msgspec.Struct)


class FrameChannel(Generic[Sent, Received]):
    """Sends and receives frames over a non-blocking stream socket. What the socket does not take waits for `flush`."""

    def __init__(self, sock: socket.socket, received: Any) -> None:
        """Take over the socket.

        Args:
            received: The type of the frames that arrive.
        """
        sock.setblocking(False)
        self._socket = sock
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Received] = msgspec.msgpack.Decoder(received)
        self._unsent = bytearray()
        self._received = bytearray()
        # One for all receptions: a new object of this size would be mapped into memory and unmapped each time.
        self._chunk = memoryview(bytearray(_CHUNK))

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether `flush` should be called once the socket can be written."""
        return bool(self._unsent)

    def send(self, frame: Sent) -> None:
        """Send a frame, or keep it for `flush`. Raises Disconnected."""
        idle = not self._unsent
        self.post(frame)
        if idle:
            self.flush()

    def post(self, frame: Sent) -> None:
        """Keep a frame for `flush`. Several frames then take one system call, and wake the other side once."""
        body = self._encoder.encode(frame)
        self._unsent += _LENGTH.pack(len(body))
        self._unsent += body

    def flush(self) -> None:
        """Send as many of the kept bytes as the socket takes. Raises Disconnected."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(memoryview(self._unsent)[:_CHUNK].tobytes())]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Disconnected from error

    def receive(self) -> list[Received]:
        """The frames that have arrived whole. Raises Disconnected once the other side has gone and all is read."""
        gone = False
        try:
            while size := self._socket.recv_into(self._chunk):
                self._received += self._chunk[:size]
                if size < _CHUNK:
                    break  # that is all; what arrives from here on makes the socket readable again
            else:
                gone = True
        except BlockingIOError:
            pass
        except OSError:
            gone = True
        frames = self._frames()
        if gone and not frames:
            raise Disconnected
        return frames

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _frames(self) -> list[Received]:
        frames: list[Received] = []
        at, received = 0, self._received
        while len(received) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received, at)
            end = at + _LENGTH.size + length
            if len(received) < end:
                break
            frames.append(self._decoder.decode(memoryview(received)[at + _LENGTH.size : end].tobytes()))
            at = end
        del received[:at]
        return frames
