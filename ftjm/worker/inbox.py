"""What reaches the supervisor's one loop from other threads, and the two ports that it works through."""

import socket
from collections import deque
from contextlib import suppress
from typing import Protocol

import msgspec

from ftjm.core.commands import AttemptReport
from ftjm.core.messages import Dispatch, DrainWorker, SchedulerHeartbeat, WorkerHeartbeat
from ftjm.worker.protocol import Frame


class Opened(msgspec.Struct, frozen=True):
    """The session's lane is being read."""

    session: str


class Acknowledged(msgspec.Struct, frozen=True):
    """The log has the heartbeat of this token."""

    session: str
    token: int


class Confirmed(msgspec.Struct, frozen=True):
    """The log has a report of the session."""

    session: str


class Unreadable(msgspec.Struct, frozen=True):
    """A message for the session that this version cannot decode."""

    session: str


class Deaf(msgspec.Struct, frozen=True):
    """The session's lane cannot be read, and could not for a lease."""

    session: str


class Asked(msgspec.Struct, frozen=True):
    """Somebody (a signal) wants the worker to leave: the first time in peace, then more and more at once."""


Item = Opened | Acknowledged | Confirmed | Unreadable | Deaf | Asked | Dispatch | SchedulerHeartbeat | DrainWorker


class Inbox:
    """A queue that a selector can wait for. `put` is safe in any thread, and in a signal handler."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def fileno(self) -> int:
        return self._receiver.fileno()

    def put(self, item: Item) -> None:
        """Add an item, and wake who waits."""
        self._items.append(item)
        # A full socket means that it is awake already.
        with suppress(BlockingIOError):
            self._sender.send(b"\0")

    def take(self) -> list[Item]:
        """All items that are there, oldest first."""
        with suppress(BlockingIOError):
            while self._receiver.recv(4096):
                pass
        # Read after the wake-up bytes: an item that comes now has a byte of its own.
        return [self._items.popleft() for _ in range(len(self._items))]

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


class Wire(Protocol):
    """The log, as a worker needs it. Nothing here fails or blocks for long: while the log is out of reach, things
    wait. Answers come to the inbox."""

    @property
    def fault(self) -> str:
        """Why nothing more will ever reach the log from here; empty as long as it may."""

    def report(self, session: str, command: AttemptReport) -> None:
        """Append a command; `Confirmed` follows."""

    def beat(self, session: str, token: int, heartbeat: WorkerHeartbeat) -> None:
        """Produce a heartbeat; `Acknowledged` follows."""

    def listen(self, session: str, lane: int) -> None:
        """Read the lane from its present end on, for this session; `Opened` and dispatches follow."""

    def leave(self, session: str) -> None:
        """Stop reading for this session."""

    def close(self, limit_seconds: float) -> int:
        """Deliver what is under way; returns how many records were not delivered."""


class GuardPort(Protocol):
    """The guard, as the supervisor needs it: see `GuardLink`."""

    @property
    def pid(self) -> int: ...

    def fileno(self) -> int: ...

    @property
    def wants_write(self) -> bool: ...

    def send(self, frame: Frame) -> None: ...

    def flush(self) -> None:
        """Raises Disconnected."""

    def receive(self) -> list[Frame]:
        """Raises Disconnected."""

    def kill(self) -> bool: ...

    def leave(self) -> None: ...
