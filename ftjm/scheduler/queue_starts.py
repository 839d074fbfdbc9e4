"""How many attempts of each queue an owner has dispatched in the last minute.

The counts are kept in memory, and inform people only: a new owner begins to count anew.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from ftjm.core.records import events as e

SPAN_MS = 60_000
SLICE_MS = 1_000


class QueueStarts:
    """Counts dispatches by queue and second. For use by the partition's thread."""

    def __init__(self) -> None:
        self._slices: dict[str, deque[tuple[int, int]]] = {}
        """For each queue, seconds and how many attempts were dispatched in them, of the last minute."""
        self._second = 0
        """When attempts were dispatched last."""

    def note(self, dispatches: Iterable[e.AttemptDispatched], now: int) -> None:
        """Attempts were dispatched at the time `now`, ms of any steady clock."""
        second = now // SLICE_MS
        if second != self._second:
            self._second = second
            for queue in list(self._slices):  # also of queues that nobody asks about
                self.per_minute(queue, now)
        for queue, count in Counter(event.queue for event in dispatches).items():
            slices = self._slices.setdefault(queue, deque())
            if slices and slices[-1][0] == second:
                slices[-1] = second, slices[-1][1] + count
            else:
                slices.append((second, count))

    def per_minute(self, queue: str, now: int) -> int:
        """How many attempts of the queue were dispatched in the minute before `now`."""
        slices = self._slices.get(queue)
        if slices is None:
            return 0
        while slices and slices[0][0] < (now - SPAN_MS) // SLICE_MS:
            slices.popleft()
        if not slices:
            del self._slices[queue]
        return sum(count for _, count in slices)
