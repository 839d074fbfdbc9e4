"""Waiting for the answers to commands, by the thread that sends and receives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from ftjm.client.ticket import Ticket

TICK_SECONDS = 0.2

Progress = Callable[[int], None]
"""Called with how many of the commands have come so far."""


class WaitingForAnswers(Protocol):
    """A client that one thread uses. What it is derived from receives, and sends again what was refused."""

    def receive(self, timeout_seconds: float) -> bool:
        """Receive the answers that have arrived; returns whether one of them was for this session."""

    def send_again(self) -> None:
        """Send what was refused for its form in one that the cluster knows."""

    def decided(self, tickets: Iterable[Ticket], timeout_seconds: float) -> bool:
        """Wait until each command is decided; False if `timeout_seconds` pass without any answer."""
        return self._receive_until(tickets, lambda ticket: ticket.reply is None, timeout_seconds)

    def ended(self, tickets: Iterable[Ticket], timeout_seconds: float, progress: Progress | None = None) -> bool:
        """Wait until each submission (sent with `awaits`) is refused or its run has ended; False as in `decided`."""
        return self._receive_until(tickets, lambda ticket: not ticket.has_ended, timeout_seconds, progress)

    def _receive_until(
        self,
        tickets: Iterable[Ticket],
        is_open: Callable[[Ticket], bool],
        timeout_seconds: float,
        progress: Progress | None = None,
    ) -> bool:
        everything = list(tickets)
        still = [ticket for ticket in everything if is_open(ticket)]
        deadline = time.monotonic() + timeout_seconds
        while still:
            if (left := deadline - time.monotonic()) <= 0:
                return False
            self.send_again()
            if self.receive(min(left, TICK_SECONDS)):
                deadline = time.monotonic() + timeout_seconds
                still = [ticket for ticket in still if is_open(ticket)]
                if progress:
                    progress(len(everything) - len(still))
        return True
