"""The rules of windows and cordons, judged by what the partition knew.

- No attempt of a queue starts on a worker while its windows forbid that, and none on a worker that is cordoned.
- An attempt is stopped because of windows only while these say so, and only if it is not being stopped already.
- When the process ends that stops attempts, no attempt is left that its windows stop. The process goes on as long as
  there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from ftjm.core.records import events as e
from ftjm.core.records.levels import FIRST_LEVEL, STOP_LEVEL
from ftjm.core.state.model import job_key
from ftjm.core.state.windows import WindowSpec
from ftjm.lab.checker.causes import is_window_stop
from ftjm.lab.checker.job import OUTCOMES
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind
from ftjm.lab.checker.waiting_jobs import STALLED_BATCHES

STOPS = "WINDOW_STOP/"
"""The process that stops attempts, as a cause names it."""


class Closures:
    """Judges the starts and the stops of one partition's attempts. Its memory is that of live attempts."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], e.ResourceApplied | e.ResourceAdopted] = {}
        self._open: dict[str, bool] = {}
        """Whether each window is open."""
        self._level = FIRST_LEVEL
        self._workers: dict[JobName, str] = {}
        """The worker of each job's live attempt."""
        self._asked: set[JobName] = set()
        """Jobs whose attempt was asked to stop."""
        self._may_stop = False
        """Whether the process may be under way that stops attempts."""
        self._advanced = 0
        """The batch of that process's last slice, or of what has begun it."""
        self._batch_no = 0

    def take(self, event: e.Event) -> Iterator[Violation]:
        """Judge and apply an event of a resource, of the level, or of the process that stops attempts."""
        match event:
            case e.UpgradeFinalized():
                self._level = event.level
                return
            case e.WindowStopsAdvanced():
                yield from self._take_slice(event)
                return
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
                return
        if self._level >= STOP_LEVEL:
            self._may_stop, self._advanced = True, self._batch_no

    def take_job_event(self, name: JobName, event: e.Event) -> Iterator[Violation]:
        """Judge and apply an event of a job."""
        if isinstance(event, e.AttemptDispatched):
            yield from self._check_start(event)
            self._workers[name] = event.worker
        elif isinstance(event, e.JobStopRequested):
            if is_window_stop(event):
                yield from self._check_stop(name, event)
            self._asked.add(name)
        elif isinstance(event, OUTCOMES):
            self._workers.pop(name, None)
            self._asked.discard(name)

    def close_batch(self) -> Iterator[Violation]:
        """A batch ends. Judge whether the process goes on: it has a slice in some batches."""
        self._batch_no += 1
        if self._may_stop and self._batch_no - self._advanced > STALLED_BATCHES:
            self._advanced = self._batch_no
            yield from self._check_left(f"no slice in {STALLED_BATCHES} batches")

    def _check_start(self, event: e.AttemptDispatched) -> Iterator[Violation]:
        if ("Cordon", event.worker) in self._known:
            text = f"expected no attempt on worker {event.worker}, which is cordoned, but found one"
            yield Violation(ViolationKind.LIMIT, text)
        allowing: list[str] = []
        for name, window in self._concerned(event.queue, event.worker):
            if window.effect == "allow":
                allowing.append(name)
            elif self._open[name]:
                text = f"expected no attempt of {event.queue} while the window {name} is open, but found one"
                yield Violation(ViolationKind.LIMIT, text)
        if allowing and not any(self._open[name] for name in allowing):
            text = f"expected no attempt of {event.queue} while all of its windows are closed ({', '.join(allowing)})"
            yield Violation(ViolationKind.LIMIT, f"{text}, but found one")

    def _check_stop(self, name: JobName, event: e.JobStopRequested) -> Iterator[Violation]:
        if not self._may_stop or event.cause_ref != STOPS:
            text = f"expected the process {STOPS} to be under way, and to stop the attempt"
            yield Violation(ViolationKind.CAUSE, f"{text}, but found {event.cause_ref or 'nothing'}")
        if name in self._asked:
            text = "expected windows to stop an attempt that is not being stopped, but found that it is"
            yield Violation(ViolationKind.DOUBLED, text)
        if name in self._workers and not self._stops(name[0], self._workers[name]):
            text = f"expected attempts of {name[0]} to run on {self._workers[name]} now, by its windows"
            yield Violation(ViolationKind.CAUSE, f"{text}, but found one stopped")

    def _take_slice(self, event: e.WindowStopsAdvanced) -> Iterator[Violation]:
        if not self._may_stop or event.cause_ref != STOPS:
            text = f"expected the process {STOPS} to be under way"
            yield Violation(ViolationKind.CAUSE, f"{text}, but found a slice of {event.cause_ref or 'nothing'}")
        self._advanced = self._batch_no
        if not event.next_session:
            self._may_stop = False
            yield from self._check_left("it running at the end of the process")

    def _check_left(self, found: str) -> Iterator[Violation]:
        for name, worker in self._workers.items():
            if name not in self._asked and self._stops(name[0], worker):
                text = f"{job_key(*name)}: expected its windows to stop its attempt on {worker}"
                yield Violation(ViolationKind.LOST, f"{text}, but found {found}")

    def _stops(self, queue: str, worker: str) -> bool:
        """Whether windows say that attempts of a queue on a worker are stopped now."""
        closed: list[bool] = []
        """Of each window that allows: whether it is closed and says `stop`."""
        for name, window in self._concerned(queue, worker):
            is_open, says_stop = self._open.get(name, False), window.on_close == "stop"
            if window.effect == "allow":
                closed.append(says_stop and not is_open)
            elif says_stop and is_open:
                return True
        return closed != [] and all(closed)

    def _concerned(self, queue: str, worker: str) -> Iterator[tuple[str, WindowSpec]]:
        """Names and declarations of the windows that are about a queue and a worker."""
        for (_, name), known in self._known.items():
            for window in known.spec.window:
                if _names(window.queues, queue) and (not window.workers or _names(window.workers, worker)):
                    yield name, window


def _names(patterns: list[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
