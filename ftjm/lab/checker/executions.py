"""The log against what really ran: attempts of chaos runs record when they run, and the log must agree.

Every attempt that ran was dispatched, to the worker that ran it, and ran once; none that was sent back ran at all.
Every recorded success ran to its end. Two attempts of one job never ran at the same time, and no session ran more
attempts at a time than it has slots.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from ftjm.core.records import events as e
from ftjm.lab.checker.evidence import Evidence, Execution
from ftjm.lab.checker.intervals import uncovered
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind

Attempt = tuple[str, str, int]


class Executions:
    """Judges executions against dispatches and successes. Its memory is that of the executions."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._ran: dict[Attempt, list[Execution]] = defaultdict(list)
        for execution in evidence.executions or ():
            self._ran[execution.queue, execution.job_id, execution.attempt].append(execution)
        self._dispatched: dict[Attempt, e.AttemptDispatched] = {}

    def take(self, event: e.Event) -> Iterator[Violation]:
        """Take an event of a job; judge a success at once."""
        if self._evidence.executions is None:
            return
        if isinstance(event, e.AttemptDispatched):
            attempt = (event.queue, event.job_id, event.attempt)
            if attempt in self._ran:
                self._dispatched[attempt] = event
        elif isinstance(event, e.AttemptDeclined):
            if (event.queue, event.job_id, event.attempt) in self._ran:
                text = (
                    f"expected attempt {event.attempt}, which was sent back, never to have run, but found that it did"
                )
                yield Violation(ViolationKind.UNDISPATCHED, text)
        elif isinstance(event, e.AttemptSucceeded):
            ran = self._ran.get((event.queue, event.job_id, event.attempt), ())
            if not any(execution.finished for execution in ran):
                text = f"expected attempt {event.attempt}, which is recorded as a success, to have come to its end"
                yield Violation(
                    ViolationKind.UNDISPATCHED, f"{text}, but found {'that it was killed' if ran else 'no trace of it'}"
                )

    def end(self) -> Iterator[tuple[JobName, Violation]]:
        """Judge all executions against the dispatches, once the whole history was read."""
        by_job: dict[JobName, list[Execution]] = defaultdict(list)
        for attempt, executions in self._ran.items():
            name = attempt[:2]
            by_job[name] += executions
            if attempt not in self._dispatched:
                text = f"expected a dispatch of attempt {attempt[2]}, which ran, but found none"
                yield name, Violation(ViolationKind.UNDISPATCHED, text)
            for worker in {each.worker for each in executions if each.worker and attempt in self._dispatched}:
                if worker != (wanted := self._dispatched[attempt].worker):
                    text = f"expected attempt {attempt[2]} to run with {wanted}, but found it with {worker}"
                    yield name, Violation(ViolationKind.UNDISPATCHED, text)
            if len(executions) > 1:
                text = f"expected attempt {attempt[2]} to be started once, but found it {len(executions)} times"
                yield name, Violation(ViolationKind.DOUBLED, text)
        for name, executions in by_job.items():
            for one, other in combinations(executions, 2):
                if one.attempt != other.attempt and (overlap := self._overlap(one, other)) > 0:
                    text = f"expected attempts {one.attempt} and {other.attempt} one after the other"
                    yield name, Violation(ViolationKind.OVERLAPPED, f"{text}, but found {overlap:.1f} ms of both")
        yield from self._check_slots()

    def _overlap(self, one: Execution, other: Execution) -> float:
        """Return how long both ran at the same time, ms.

        A host that was frozen may run the older attempt for a moment after it wakes: that time is not counted.
        """
        older = min(one, other, key=lambda execution: execution.attempt)
        dispatch = self._dispatched.get((older.queue, older.job_id, older.attempt))
        woken = self._evidence.woken.get(dispatch.worker, ()) if dispatch else ()
        both = [
            (max(start, since), min(end, until))
            for start, end in one.spans
            for since, until in other.spans
            if min(end, until) > max(start, since)
        ]
        return sum(uncovered(start, end, woken) for start, end in both)

    def _check_slots(self) -> Iterator[tuple[JobName, Violation]]:
        """Judge that no session ran more attempts at a time than it has slots."""
        if self._evidence.offers is None:
            return
        moments: dict[str, list[tuple[float, int, JobName]]] = defaultdict(list)
        for attempt, dispatch in self._dispatched.items():
            for execution in self._ran[attempt]:
                if execution.spans:
                    name = execution.name
                    start, end = execution.spans[0][0], execution.spans[-1][1]
                    moments[dispatch.session] += [(start, 1, name), (end, -1, name)]
        for session, changes in moments.items():
            slots, running = self._evidence.offers.slots.get(session, 0), 0
            for _, change, name in sorted(changes):
                running += change
                if running > slots:
                    text = f"expected at most {slots} attempts at a time in session {session}, but found {running}"
                    yield name, Violation(ViolationKind.LIMIT, text)
