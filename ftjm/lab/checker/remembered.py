"""Names that a partition must remember for a fixed time: ids of commands that it carried out, and lost sessions.

While a name is remembered, the same command or loss must not occur again. When its time has passed, the log must hold
an event that forgets the name, neither earlier nor later. A lost session that still holds attempts is remembered until
these have ended, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.lab.checker.verdict import Violation, ViolationKind

COMMAND_ID_MS = SESSION_MS = 24 * 3_600_000
"""How long a partition remembers a command id, and at least a lost session."""


class RememberedNames:
    """The remembered names of one kind and one partition.

    The time of a partition never goes back, so the oldest name is always the first that has to be forgotten.
    """

    def __init__(self, what: str, length_ms: int, is_needed: Callable[[str], bool] = lambda _name: False) -> None:
        """Remember nothing yet.

        Args:
            what: describes the kind in messages, such as "the loss of session".
            length_ms: how long a name is remembered.
            is_needed: whether a name must be remembered for longer.
        """
        self._what = what
        self._length_ms = length_ms
        self._is_needed = is_needed
        self._until: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        """Names that were needed when their time had passed, and that time."""

    def __contains__(self, name: str) -> bool:
        return name in self._until or name in self._kept

    def has_request(self, command: c.RerunJob) -> bool:
        """Whether the request of a rerun is remembered: by its job and its id, or by its id alone (older programs)."""
        prefix, suffix = f"{command.queue}/{command.job_id}/", f"/{command.command_id}"
        return command.command_id in self._until or any(
            name.startswith(prefix) and name.endswith(suffix) for name in self._until
        )

    def add(self, name: str, at: int) -> Iterator[Violation]:
        """Remember a name from `at` (ms) on. It is a violation if the name is remembered already."""
        if name in self:
            yield Violation(ViolationKind.DOUBLED, f"expected {self._what} {name} once, but found it again")
        self._until.pop(name, None)  # the name moves to the end: the dict stays in the order of time
        self._until[name] = at + self._length_ms

    def forget(self, name: str, event: e.Event) -> Iterator[Violation]:
        """Judge the event that forgets a name, and forget it."""
        until = self._until.pop(name, 0) or self._kept.pop(name, 0)
        if self._is_needed(name):
            text = f"expected {self._what} {name} to be remembered while it holds attempts"
            yield Violation(ViolationKind.TIMER, f"{text}, but found it forgotten")
        if event.cause_ref != str(until) or not until:
            text = f"expected {self._what} {name} to be forgotten" + (f" at {until}" if until else " never")
            yield Violation(ViolationKind.TIMER, f"{text}, but found a timer for {event.cause_ref}")
        elif event.at < until:
            yield Violation(ViolationKind.TIMER, f"expected nothing before {until}, but found it at {event.at}")

    def check_overdue(self, now: int) -> Iterator[Violation]:
        """Return a violation for each name that had to be forgotten by `now` (ms) and is still remembered."""
        while self._until and (due := next(iter(self._until.items())))[1] <= now:
            self._kept[due[0]] = self._until.pop(due[0])
        for name, until in [(name, until) for name, until in self._kept.items() if not self._is_needed(name)]:
            del self._kept[name]
            text = f"expected {self._what} {name} to be forgotten at {until}"
            yield Violation(ViolationKind.TIMER, f"{text}, but found it left behind")
