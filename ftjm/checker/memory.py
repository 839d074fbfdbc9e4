"""Names that a partition remembers for a fixed time: of wishes carried out, of sessions given up."""

from __future__ import annotations

from collections.abc import Iterator

from ftjm.checker.report import Found, Kind
from ftjm.core import events as e

WISH_MS = SESSION_MS = 24 * 3_600_000


class Memory:
    """Of one partition. Its times never go back, so that what is remembered first is due first."""

    def __init__(self, what: str, length_ms: int) -> None:
        self._what = what
        self._length_ms = length_ms
        self._until: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._until

    def add(self, name: str, at: int) -> Iterator[Found]:
        """It has happened at `at`, and may not happen again before it is forgotten."""
        if name in self._until:
            yield Found(Kind.DOUBLED, f"expected {self._what} {name} once, but found it again")
        self._until.pop(name, None)  # which keeps the order
        self._until[name] = at + self._length_ms

    def drop(self, name: str, event: e.Event) -> Iterator[Found]:
        """It is forgotten."""
        until = self._until.pop(name, 0)
        if event.cause_ref != str(until) or not until:
            text = f"expected {self._what} {name} to be forgotten" + (f" at {until}" if until else " never")
            yield Found(Kind.TIMER, f"{text}, but found a timer for {event.cause_ref}")
        elif event.at < until:
            yield Found(Kind.TIMER, f"expected nothing before {until}, but found it at {event.at}")

    def left_behind(self, now: int) -> Iterator[Found]:
        """Whatever was due by then, and is still remembered."""
        while self._until and (due := next(iter(self._until.items())))[1] <= now:
            del self._until[due[0]]
            text = f"expected {self._what} {due[0]} to be forgotten at {due[1]}"
            yield Found(Kind.TIMER, f"{text}, but found it left behind")
