"""The inbox of the supervisor's loop, and the two ports that the loop works through: the log and the guard."""

import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

import msgspec

from ftjm.core.records.commands import AttemptReport
from ftjm.core.records.messages import Dispatch, DrainWorker, MemberVersion, SchedulerHeartbeat, WorkerHeartbeat
from ftjm.worker.attempts.protocol import Frame


class LaneOpened(msgspec.Struct, frozen=True):
    """The session's lane is being read."""

    session: str


class HeartbeatAcknowledged(msgspec.Struct, frozen=True):
    """The log has the session's heartbeat of this token."""

    session: str
    token: int
    logged_ms: int = 0
    """When the log took it, by the brokers' clock, ms since the epoch; 0 if that is unknown."""


class ReportConfirmed(msgspec.Struct, frozen=True):
    """The log has more reports of the session."""

    session: str
    reports: int = 1
    """How many."""


class MessageUndecodable(msgspec.Struct, frozen=True):
    """A message for the session has arrived that this version cannot decode."""

    session: str


class LaneUnreadable(msgspec.Struct, frozen=True):
    """The session's lane cannot be read, and could not for a whole lease."""

    session: str


class LeaveRequested(msgspec.Struct, frozen=True):
    """A signal asks the worker to leave. The first lets attempts end, the second stops them, the third kills them."""


Item = (
    LaneOpened
    | HeartbeatAcknowledged
    | ReportConfirmed
    | MessageUndecodable
    | LaneUnreadable
    | LeaveRequested
    | Dispatch
    | SchedulerHeartbeat
    | DrainWorker
    | MemberVersion
)


class Inbox:
    """A queue that a selector can wait for. `put` is safe in any thread, and in a signal handler."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._woken = False
        """Whether a byte is on its way that wakes the selector. Cleared between the reading of bytes and of items."""
        self._hurries = True
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._receiver.fileno()

    def put(self, item: Item) -> None:
        """Add an item, and wake the selector."""
        self.put_all((item,))

    def put_all(self, items: Iterable[Item]) -> None:
        """Add items, and wake the selector once for all of them: those that arrive together are taken together."""
        self._items.extend(items)
        self._wake()

    def put_patiently(self, item: Item) -> None:
        """Add an item that can wait until something else wakes the selector, unless the taker hurries."""
        self._items.append(item)
        if self._hurries:
            self._wake()

    def hurry(self, *, wanted: bool) -> bool:
        """Tell whether patient items shall wake the selector from now on. Returns whether some item is to be taken now.

        The wish is set before items are looked for, and `put_patiently` does these in the other order: an item that is
        not seen here wakes the selector.
        """
        self._hurries = wanted
        return wanted and bool(self._items)

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            # A full socket means that the selector is awake already.
            with suppress(BlockingIOError):
                self._sender.send(b"\0")

    def take(self, *, readable: bool = True) -> list[Item]:
        """Remove all items. Returns them, oldest first.

        Args:
            readable: Whether the selector was woken. If it was not, there are at most patient items.
        """
        if readable:
            with suppress(BlockingIOError):
                self._receiver.recv(4096)
            # In this order: an item that is added from here on has a byte of its own, which nothing has read; one that
            # was added before is read now.
            self._woken = False
        take = self._items.popleft
        return [take() for _ in range(len(self._items))]

    def close(self) -> None:
        """Close both ends."""
        self._receiver.close()
        self._sender.close()


class LogPort(Protocol):
    """The log, as the supervisor needs it: see `LogLink`.

    No method fails or blocks for long: while the log is out of reach, records wait. Answers come to the inbox.
    """

    @property
    def fault(self) -> str:
        """The error by which no further record of this process will reach the log; empty if there is none."""

    def report(self, session: str, command: AttemptReport) -> None:
        """Append a command. `ReportConfirmed` follows."""

    def beat(self, session: str, token: int, heartbeat: WorkerHeartbeat) -> None:
        """Produce a heartbeat. `HeartbeatAcknowledged` follows."""

    def listen(self, session: str, lane: int) -> None:
        """Read the lane from its present end on, for this session. `LaneOpened` and dispatches follow."""

    def leave(self, session: str) -> None:
        """Read no more for this session."""

    def close(self, limit_seconds: float) -> int:
        """Deliver the records that are on their way. Returns how many were not delivered within the limit."""


class GuardPort(Protocol):
    """The guard, as the supervisor needs it: see `GuardLink`."""

    @property
    def pid(self) -> int:
        """The pid of the guard process."""

    def fileno(self) -> int:
        """The descriptor to wait for."""

    @property
    def wants_write(self) -> bool:
        """Whether `flush` should be called once the descriptor can be written."""

    def send(self, frame: Frame) -> None:
        """Send a frame, at the latest by `flush`. That the guard has gone is noticed by `receive`."""

    def flush(self) -> None:
        """Send the frames that wait. Raises Disconnected."""

    def receive(self) -> list[Frame]:
        """The frames that have arrived. Raises Disconnected once the guard has gone."""

    def kill(self) -> bool:
        """Kill the guard and all that it ran. False if some process is left."""

    def leave(self) -> None:
        """Let the guard end, which kills the attempts that still run."""
