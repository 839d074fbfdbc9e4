"""The rules of windows and cordons: no attempt of a queue starts on a worker while its windows forbid that, and none on
a worker that is cordoned. They are judged by what the dispatching partition knew.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from ftjm.core.records import events as e
from ftjm.lab.checker.verdict import Violation, ViolationKind


class Closures:
    """Judges the dispatches of one partition."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], e.ResourceApplied | e.ResourceAdopted] = {}
        self._open: dict[str, bool] = {}
        """Whether each window is open."""

    def take(self, event: e.Event) -> None:
        """Apply an event of a resource."""
        match event:
            case e.ResourceApplied() | e.ResourceAdopted() if event.spec.kinds:
                self._known[event.kind.value, event.name] = event
            case e.ResourceDeleted() | e.ResourceAdopted():
                self._known.pop((event.kind.value, event.name), None)
            case e.ResourcesReconciled():
                for key in event.dropped:
                    kind, _, name = key.partition("/")
                    self._known.pop((kind, name), None)
            case e.WindowTurned():
                self._open[event.name] = event.open
            case _:
                pass

    def attempt_started(self, event: e.AttemptDispatched) -> Iterator[Violation]:
        """Judge a dispatch."""
        if ("Cordon", event.worker) in self._known:
            text = f"expected no attempt on worker {event.worker}, which is cordoned, but found one"
            yield Violation(ViolationKind.LIMIT, text)
        allowing: list[str] = []
        for (kind, name), known in self._known.items():
            for window in known.spec.window if kind == "Window" else ():
                if not _names(window.queues, event.queue) or (
                    window.workers and not _names(window.workers, event.worker)
                ):
                    continue
                if window.effect == "allow":
                    allowing.append(name)
                elif self._open[name]:
                    text = f"expected no attempt of {event.queue} while the window {name} is open, but found one"
                    yield Violation(ViolationKind.LIMIT, text)
        if allowing and not any(self._open[name] for name in allowing):
            text = f"expected no attempt of {event.queue} while all of its windows are closed ({', '.join(allowing)})"
            yield Violation(ViolationKind.LIMIT, f"{text}, but found one")


def _names(patterns: list[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
