"""Requests of the guard to a process of foreign code, sent a few at a time so that sending never blocks."""

import socket
from contextlib import suppress
from typing import Generic, TypeVar

from ftjm.runtime.clock import boot_ms
from ftjm.worker.executors.python.packets import REQUEST, Receiver

R = TypeVar("R", bound=Receiver)
ANSWER_MS = 5_000
"""A process that has requests and sends nothing for this long is killed."""
UNANSWERED_MAX = 16
"""More packets would fill the socket, and sending would block."""


class PendingRequests(Generic[R]):
    """The requests to one process that it has not answered, in the order in which they were added."""

    def __init__(self) -> None:
        self._token = 0
        self._waiting: dict[int, R] = {}
        self._sent: set[int] = set()
        self._answer_by: int | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._waiting)

    def add(self, receiver: R) -> None:
        """Add a request for `receiver`. The next `send` may send it."""
        self._token += 1
        self._waiting[self._token] = receiver

    def send(self, connection: socket.socket) -> None:
        """Send the oldest requests, as many as may be unanswered at a time."""
        for token, receiver in self._waiting.items():
            if len(self._sent) >= UNANSWERED_MAX:
                break
            if token not in self._sent:
                self._sent.add(token)
                # That the process has died is noticed where its answers are read.
                with suppress(OSError):
                    socket.send_fds(connection, [REQUEST.pack(token)], receiver.child_descriptors)
        if self._sent and self._answer_by is None:
            self._answer_by = boot_ms() + ANSWER_MS

    def answered(self, token: int) -> R | None:
        """Remove the request of this token; what it was for, or None if there is none."""
        self._answer_by = None
        self._sent.discard(token)
        return self._waiting.pop(token, None)

    def is_overdue(self, now: int) -> bool:
        """Whether the process has left its requests unanswered for too long."""
        return self._answer_by is not None and now >= self._answer_by

    def clear(self) -> list[R]:
        """Remove all requests. Returns what they were for."""
        waiting, self._waiting = list(self._waiting.values()), {}
        self._sent.clear()
        self._answer_by = None
        return waiting
