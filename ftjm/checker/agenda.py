"""What waits in order: a heap whose entries may go stale, and which holds no more than twice what is fresh."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
ROOM = 64


class Agenda(Generic[T]):
    """Entries come in the order of their keys; `fresh` says whether one still counts."""

    def __init__(self, fresh: Callable[[T], bool]) -> None:
        self._fresh = fresh
        self._heap: list[tuple[int, int, T]] = []
        self._added = 0
        self._room = ROOM

    def add(self, key: int, entry: T) -> None:
        """Put an entry in; those of one key come as they were added."""
        self._added += 1
        heappush(self._heap, (key, self._added, entry))
        if len(self._heap) > self._room:
            self._heap = [each for each in self._heap if self._fresh(each[2])]
            heapify(self._heap)
            self._room = 2 * len(self._heap) + ROOM

    def head(self) -> T | None:
        """The first entry that counts."""
        while self._heap and not self._fresh(self._heap[0][2]):
            heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def drop_head(self) -> None:
        """Take the first entry out, which `head` has just told."""
        heappop(self._heap)
