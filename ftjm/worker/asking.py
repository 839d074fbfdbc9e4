"""The guard's wishes to a process of foreign code: told a few at a time, so that no answer is ever waited for."""

import socket
from contextlib import suppress
from typing import Generic, TypeVar

from ftjm.clock import boot_ms
from ftjm.worker.taskwire import ASK, Wanted

W = TypeVar("W", bound=Wanted)
PATIENCE_MS = 5_000
"""Who is asked and says nothing for so long is killed."""
ASKED_MAX = 16
"""More packets would fill the socket, and block us."""


class Asking(Generic[W]):
    """Those who wait for one process's answer."""

    def __init__(self) -> None:
        self._token = 0
        self._waiting: dict[int, tuple[bytes, W]] = {}
        self._asked: set[int] = set()
        self._answer_by: int | None = None

    @property
    def waiting(self) -> list[W]:
        """In the order in which they came."""
        return [wanted for _, wanted in self._waiting.values()]

    def add(self, kind: bytes, wanted: W) -> None:
        """Ask for it, with the next `send`."""
        self._token += 1
        self._waiting[self._token] = kind, wanted

    def send(self, control: socket.socket) -> None:
        """Ask for those that wait, as far as it is their turn."""
        for token, (kind, wanted) in self._waiting.items():
            if len(self._asked) >= ASKED_MAX:
                break
            if token not in self._asked:
                self._asked.add(token)
                # A process that has died is noticed by who listens to it.
                with suppress(OSError):
                    socket.send_fds(control, [ASK.pack(kind, token)], wanted.given)
        if self._asked and self._answer_by is None:
            self._answer_by = boot_ms() + PATIENCE_MS

    def answered(self, token: int) -> W | None:
        """Who waited for this answer, if anybody still does."""
        self.heard()
        self._asked.discard(token)
        _, wanted = self._waiting.pop(token, (b"", None))
        return wanted

    def heard(self) -> None:
        """It has said something."""
        self._answer_by = None

    def overdue(self, now: int) -> bool:
        """Whether it has been silent for too long."""
        return self._answer_by is not None and now >= self._answer_by

    def drop(self, wanted: W) -> bool:
        """It waits no more; False if it did not."""
        before = len(self._waiting)
        self._waiting = {token: other for token, other in self._waiting.items() if other[1] is not wanted}
        return len(self._waiting) < before

    def clear(self) -> list[W]:
        """Nobody waits any more: those who did."""
        waiting, self._waiting = self.waiting, {}
        self._asked.clear()
        self._answer_by = None
        return waiting
