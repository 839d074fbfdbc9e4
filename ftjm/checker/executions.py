"""What attempts wrote down of themselves, against what the log says of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from ftjm.checker.evidence import Evidence, Execution
from ftjm.checker.report import Found, Kind, Name
from ftjm.checker.spans import uncovered
from ftjm.core import events as e

Attempt = tuple[str, str, int]


class Executions:
    """Fed with dispatches and successes; judges at the end. Memory is that of the executions."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._ran: dict[Attempt, list[Execution]] = defaultdict(list)
        for execution in evidence.executions or ():
            self._ran[execution.queue, execution.job_id, execution.attempt].append(execution)
        self._sent: dict[Attempt, e.AttemptDispatched] = {}

    def take(self, event: e.Event) -> Iterator[Found]:
        if self._evidence.executions is None:
            return
        if isinstance(event, e.AttemptDispatched):
            attempt = (event.queue, event.job_id, event.attempt)
            if attempt in self._ran:
                self._sent[attempt] = event
        elif isinstance(event, e.AttemptSucceeded):
            ran = self._ran.get((event.queue, event.job_id, event.attempt), ())
            if not any(execution.finished for execution in ran):
                text = f"expected attempt {event.attempt}, which is recorded as a success, to have come to its end"
                yield Found(Kind.UNDISPATCHED, f"{text}, but found {'that it was killed' if ran else 'no trace of it'}")

    def end(self) -> Iterator[tuple[Name, Found]]:
        """All that is wrong with what ran, and whose it is."""
        by_job: dict[Name, list[Execution]] = defaultdict(list)
        for attempt, executions in self._ran.items():
            name = attempt[:2]
            by_job[name] += executions
            if attempt not in self._sent:
                text = f"expected a dispatch of attempt {attempt[2]}, which ran, but found none"
                yield name, Found(Kind.UNDISPATCHED, text)
            for worker in {each.worker for each in executions if each.worker and attempt in self._sent}:
                if worker != (wanted := self._sent[attempt].worker):
                    text = f"expected attempt {attempt[2]} to run with {wanted}, but found it with {worker}"
                    yield name, Found(Kind.UNDISPATCHED, text)
            if len(executions) > 1:
                text = f"expected attempt {attempt[2]} to be started once, but found it {len(executions)} times"
                yield name, Found(Kind.DOUBLED, text)
        for name, executions in by_job.items():
            for one, other in combinations(executions, 2):
                if one.attempt != other.attempt and (overlap := self._overlap(one, other)) > 0:
                    text = f"expected attempts {one.attempt} and {other.attempt} one after the other"
                    yield name, Found(Kind.OVERLAPPED, f"{text}, but found {overlap:.1f} ms of both")
        yield from self._crowded()

    def _overlap(self, one: Execution, other: Execution) -> float:
        """For how long both executed, ms, beyond what a host that was frozen and woken may do with the older one."""
        older = min(one, other, key=lambda execution: execution.attempt)
        sent = self._sent.get((older.queue, older.job_id, older.attempt))
        woken = self._evidence.woken.get(sent.worker, ()) if sent else ()
        both = [
            (max(start, since), min(end, until))
            for start, end in one.spans
            for since, until in other.spans
            if min(end, until) > max(start, since)
        ]
        return sum(uncovered(start, end, woken) for start, end in both)

    def _crowded(self) -> Iterator[tuple[Name, Found]]:
        """No session ran more at a time than it has slots."""
        if self._evidence.heard is None:
            return
        moments: dict[str, list[tuple[float, int, Name]]] = defaultdict(list)
        for attempt, sent in self._sent.items():
            for execution in self._ran[attempt]:
                if execution.spans:
                    name = execution.name
                    start, end = execution.spans[0][0], execution.spans[-1][1]
                    moments[sent.session] += [(start, 1, name), (end, -1, name)]
        for session, changes in moments.items():
            slots, running = self._evidence.heard.slots.get(session, 0), 0
            for _, change, name in sorted(changes):
                running += change
                if running > slots:
                    text = f"expected at most {slots} attempts at a time in session {session}, but found {running}"
                    yield name, Found(Kind.LIMIT, text)
