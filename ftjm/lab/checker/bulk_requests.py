"""The rules of bulk requests: what is done in the name of a request belongs to one that is under way.

Each event with the cause CONTINUATION names its process. One of a bulk request is of the kind that the request asked
for, about a job that was there when it was accepted, at most once for each run. The numbers that the request reports at
the end of each slice are those of its events. One that cancels all jobs leaves none of them waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ftjm.core.records import events as e
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.lab.checker.backfills import is_backfills
from ftjm.lab.checker.causes import is_window_stop
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind
from ftjm.lab.checker.waiting_jobs import WaitingJobs

EVENTS: Mapping[BulkAction, tuple[type[e.Event], ...]] = {
    BulkAction.CANCEL: (e.JobCancelled, e.JobStopRequested),
    BulkAction.HOLD: (e.JobHeld,),
    BulkAction.RELEASE: (e.JobReleased,),
    BulkAction.RERUN: (e.JobRerun,),
    BulkAction.PURGE: (e.JobForgotten,),
    BulkAction.PRIORITIZE: (e.JobPrioritized,),
}


class _Request:
    def __init__(self, event: e.BulkBegun, rank: int) -> None:
        self.queue = event.queue
        self.action = event.action
        self.filter = event.filter
        self.priority = event.priority
        self.rank = rank
        """The rank of the newest run when it was accepted."""
        self.changed: set[JobName] = set()


class BulkRequests:
    """The bulk requests of one partition."""

    def __init__(self, waiting: WaitingJobs) -> None:
        """`waiting` are the partition's jobs that wait for a slot."""
        self._waiting = waiting
        self._under_way: dict[str, _Request] = {}

    def take(self, event: e.Event) -> Iterator[Violation]:
        """Judge and apply an event of a request as a whole."""
        if not isinstance(event, e.BulkBegun | e.BulkAdvanced | e.BulkStopped):
            return
        name = f"BULK/{event.queue}/{event.bulk}"
        request = self._under_way.get(name)
        if isinstance(event, e.BulkBegun):
            if request is not None:
                yield Violation(ViolationKind.DOUBLED, f"expected {name} to begin once, but found it under way")
            self._under_way[name] = _Request(event, self._waiting.newest_rank)
        elif request is None:
            yield Violation(ViolationKind.CAUSE, f"expected {name} to be under way, but it is not")
        elif isinstance(event, e.BulkStopped):
            del self._under_way[name]
        else:
            if event.changed != len(request.changed):
                text = f"expected {name} to report {len(request.changed)} changed jobs"
                yield Violation(ViolationKind.ANSWER, f"{text}, but found {event.changed}")
            if not event.next_job:
                del self._under_way[name]
                yield from self._check_complete(name, request)

    def _check_complete(self, name: str, request: _Request) -> Iterator[Violation]:
        """Judge whether a request to cancel all jobs of a queue has left one out that waits."""
        if request.action is not BulkAction.CANCEL or request.filter != JobFilter():
            return
        if left := self._waiting.waits_unchanged(request.queue, request.rank, request.changed):
            yield Violation(ViolationKind.LOST, f"expected {name} to cancel {'/'.join(left)}, but found it waiting")

    def take_job_event(self, name: JobName, job: CheckedJob, event: e.Event) -> Iterator[Violation]:
        """Judge an event of a job that a request has caused."""
        if event.cause is not e.Cause.CONTINUATION or is_backfills(event) or is_window_stop(event):
            return
        request = self._under_way.get(event.cause_ref)
        if request is None:
            text = f"expected the process {event.cause_ref or 'that caused it'} to be under way, but it is not"
            yield Violation(ViolationKind.CAUSE, text)
            return
        if name[0] != request.queue or not isinstance(event, EVENTS[request.action]):
            text = f"expected a job of {request.queue} and what {request.action} leads to, by {event.cause_ref}"
            yield Violation(ViolationKind.CAUSE, f"{text}, but found {type(event).__name__} of {'/'.join(name)}")
        if job.age_order > request.rank:
            text = f"expected {event.cause_ref} to leave runs alone that came behind it, but found it change one"
            yield Violation(ViolationKind.CAUSE, text)
        if isinstance(event, e.JobPrioritized) and event.priority != request.priority:
            text = f"expected the priority {request.priority}, which {event.cause_ref} asks for"
            yield Violation(ViolationKind.ANSWER, f"{text}, but found {event.priority}")
        if name in request.changed:
            yield Violation(ViolationKind.DOUBLED, f"expected {event.cause_ref} to change a job once, but found more")
        request.changed.add(name)
