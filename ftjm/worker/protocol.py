"""What supervisor and guard say to each other: length-prefixed msgpack frames over a socket pair.

Neither side ever blocks on the other: a stopped supervisor must not stop the guard's timers.
"""

import socket
import struct

import msgspec

from ftjm.core.model import FailureReason

_LENGTH = struct.Struct("!I")
_CHUNK = 1 << 18


class Start(msgspec.Struct, kw_only=True, tag=True):
    """Start an attempt, unless its deadline has passed."""

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
    """Between SIGTERM and SIGKILL at its timeout."""
    continue_for_ms: int
    """How much later than its session's its deadline is."""
    checkpoint: bytes = b""
    """What an earlier attempt of the run has left."""


class Stop(msgspec.Struct, kw_only=True, tag=True):
    """Stop an attempt: SIGTERM, and SIGKILL after the grace; at once where that is 0."""

    key: str
    reason: FailureReason
    grace_ms: int


class Renew(msgspec.Struct, kw_only=True, tag=True):
    """The deadline of a session, CLOCK_BOOTTIME ms. An attempt whose session has none is not started."""

    session: str
    deadline_ms: int


class Forget(msgspec.Struct, kw_only=True, tag=True):
    """The session has ended and holds nothing."""

    session: str


class Ping(msgspec.Struct, tag=True):
    """Are you there? A guard that is stopped or hangs must not keep attempts running."""


class Pong(msgspec.Struct, tag=True):
    """I am."""


class Started(msgspec.Struct, kw_only=True, tag=True):
    key: str
    started_at: int
    """Wall clock, ms."""


class Checkpointed(msgspec.Struct, kw_only=True, tag=True):
    """How far an attempt has come, by its own word; what is left at its default stays as it was."""

    key: str
    data: bytes = b""
    progress: float = -1.0
    text: str = ""


class Ended(msgspec.Struct, kw_only=True, tag=True):
    """An attempt is over; nothing of it runs any more."""

    key: str
    reason: FailureReason | None = None
    """None is success."""
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
    """Its directory, where something is left to remove: too slow for the guard, whose timers must run."""


Frame = Start | Stop | Renew | Forget | Ping | Pong | Started | Checkpointed | Ended


class Disconnected(Exception):
    """The other side has gone."""


class Channel:
    """Frames over a non-blocking stream socket. What the socket does not take is kept until `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Frame)
        self._unsent = bytearray()
        self._received = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether `flush` should be called when the socket is writable."""
        return bool(self._unsent)

    def send(self, frame: Frame) -> None:
        """Send, or keep to send later. Raises Disconnected."""
        body = self._encoder.encode(frame)
        idle = not self._unsent
        self._unsent += _LENGTH.pack(len(body))
        self._unsent += body
        if idle:
            self.flush()

    def flush(self) -> None:
        """Send what is kept, as far as the socket takes it. Raises Disconnected."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(memoryview(self._unsent)[:_CHUNK].tobytes())]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Disconnected from error

    def receive(self) -> list[Frame]:
        """The frames that have arrived whole. Raises Disconnected once the other side has gone and all is read."""
        gone = False
        try:
            while chunk := self._socket.recv(_CHUNK):
                self._received += chunk
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
        self._socket.close()

    def _frames(self) -> list[Frame]:
        frames: list[Frame] = []
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
