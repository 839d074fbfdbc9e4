"""The rules of limits of waiting: a job is looked at when it has waited for as long as a limit of its queue says, and
what follows fits that limit.

The looks of a job are at the multiples of each limit's time since it became READY or PENDING. The reason that an event
names must be one that the job can have by the events: PENDING is `ConcurrencyLimit` and nothing else, and READY in a
paused queue is `QueuePaused` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ftjm.core.records import events as e
from ftjm.core.state.model import JobState
from ftjm.core.state.queues import WaitingLimit
from ftjm.lab.checker.causes import action_of
from ftjm.lab.checker.job import AT_KEY as WAITING
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.queue_limits import QueueLimits
from ftjm.lab.checker.verdict import Violation, ViolationKind

AT_KEY, PAUSED = "ConcurrencyLimit", "QueuePaused"


class WaitingLimits:
    """Judges the looks at the waiting jobs of one partition."""

    def __init__(self, queues: QueueLimits) -> None:
        """`queues` knows which queues are paused, and what they are declared to."""
        self._queues = queues

    def check(self, job: CheckedJob, event: e.Event) -> Iterator[Violation]:
        """Judge an event that follows from a look, by the state before it."""
        action = action_of(event)
        if action is None and not isinstance(event, e.JobReviewed):
            return
        limits, since, at = self._limits(event.queue), job.waits_since, event.at
        due = [one for one in limits if any(True for _ in _looks(one, since, job.look_at, at))]
        possible = self._possible(event.queue, job)
        if isinstance(event, e.JobStuck | e.JobReviewed):
            if event.reason not in possible if possible else event.reason in (AT_KEY, PAUSED):
                yield Violation(ViolationKind.ANSWER, f"expected a reason that it can have, but found {event.reason}")
            if event.next_at != (expected := _next(limits, since, at)):
                text = f"expected the next look at {expected}"
                yield Violation(ViolationKind.TIMER, f"{text}, but found {event.next_at}")
            possible = (event.reason,)
        fitting = [one for one in due if not one.reason or (one.reason in possible if possible else _is_hidden(one))]
        if action is None and fitting:
            yield Violation(
                ViolationKind.LOST, f"expected its limit of {fitting[0].after_ms} ms to act, but it did not"
            )
        if action is not None and all(one.action is not action for one in fitting):
            yield Violation(ViolationKind.LIMIT, f"expected a limit of its queue to {action}, but found none")

    def job_moved(self, job: CheckedJob, before: JobState | None, event: e.Event) -> None:
        """Apply what an event of a job has changed."""
        if isinstance(event, e.JobStuck | e.JobReviewed):
            job.look_at = event.next_at
        elif job.state in WAITING and job.state is not before:
            job.waits_since = event.at
            job.look_at = _next(self._limits(event.queue), event.at, event.at)
        elif job.state not in WAITING:
            job.look_at = 0

    def reordered(self, queue: str, job: CheckedJob, at: int) -> None:
        """The job is looked at as its queue's declaration says now."""
        if not 0 < job.look_at <= at:
            job.look_at = _next(self._limits(queue), job.waits_since, at)

    def _limits(self, queue: str) -> Sequence[WaitingLimit]:
        return self._queues.spec(queue).waiting_limits

    def _possible(self, queue: str, job: CheckedJob) -> tuple[str, ...]:
        """The only reason that the job can have; none if there are several."""
        if job.state is JobState.PENDING:
            return (AT_KEY,)
        return (PAUSED,) if self._queues.is_paused(queue) else ()


def _is_hidden(limit: WaitingLimit) -> bool:
    """Whether events do not tell if a READY job of a queue that goes on waits for the reason."""
    return limit.reason not in (AT_KEY, PAUSED)


def _looks(limit: WaitingLimit, since: int, first: int, last: int) -> Iterator[int]:
    """The looks for the limit from `first` to `last`, both included."""
    count = -(-(first - since) // limit.after_ms)
    yield from range(since + max(1, count) * limit.after_ms, last + 1, limit.after_ms)


def _next(limits: Iterable[WaitingLimit], since: int, at: int) -> int:
    """The first look behind `at`; 0 if there is no limit."""
    return min((since + (at - since) // one.after_ms * one.after_ms + one.after_ms for one in limits), default=0)
