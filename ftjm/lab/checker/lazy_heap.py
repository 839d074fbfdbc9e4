"""A heap whose entries may go stale while they wait in it.

Removing an entry from the middle of a heap is expensive, so a stale entry stays until it reaches the head, where `head`
drops it. When stale entries fill the heap, `add` rebuilds it from the fresh ones: it never holds much more than
twice as many entries as are fresh.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")
ROOM = 64
"""Entries that the heap may hold before it is rebuilt for the first time."""


class LazyHeap(Generic[T]):
    """Entries in the order of their keys. `fresh` is called with an entry and returns whether it still counts."""

    def __init__(self, fresh: Callable[[T], bool]) -> None:
        self._fresh = fresh
        self._heap: list[tuple[int, int, T]] = []
        self._added = 0
        self._room = ROOM

    def add(self, key: int, entry: T) -> None:
        """Add an entry. Entries of equal keys keep the order in which they were added."""
        self._added += 1
        heappush(self._heap, (key, self._added, entry))
        if len(self._heap) > self._room:
            self._heap = [each for each in self._heap if self._fresh(each[2])]
            heapify(self._heap)
            self._room = 2 * len(self._heap) + ROOM

    def head(self) -> T | None:
        """Return the first fresh entry; `None` if there is none."""
        while self._heap and not self._fresh(self._heap[0][2]):
            heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def drop_head(self) -> None:
        """Remove the entry that `head` has just returned."""
        heappop(self._heap)
