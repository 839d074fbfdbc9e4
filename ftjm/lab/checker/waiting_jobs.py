"""The rule of order: a dispatch takes the job of its line that comes first, of those that wait for a slot.

From the level of shares on, a dispatch also says which job of the whole queue it went past, if any, and why.

The place of a waiting job is the time since which it is eligible, less its priority times the ageing of its queue; and
of equal ones, its age. A partition whose level does not know ageing goes by the priority, and then by age. A job keeps
its place until an event names it as reordered, and after the last of these events of a queue no job is left that would
have another place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ftjm.core.records import events as e
from ftjm.core.records.levels import QUEUE_LEVEL, SHARING_LEVEL
from ftjm.core.state.model import JobState, job_key
from ftjm.core.state.queues import WaitingLimit
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.lazy_heap import LazyHeap
from ftjm.lab.checker.shares import Shares
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind

MINUTE_MS = 60_000
"""The ageing of a queue that is not declared otherwise."""
ROOM = 1_000
"""Entries of jobs that waited which are kept at least, before they are looked through."""
STALLED_BATCHES = 300
"""Batches in one of which a process advances at least, also beside others and under load."""
RANKS = 1 << 40
"""More than the number of jobs that a partition will ever have."""


class _Waiting(NamedTuple):
    name: JobName
    job: CheckedJob
    queue_entry: int
    place: int

    def counts(self) -> bool:
        return self.job.queue_entry == self.queue_entry and self.job.state is JobState.READY


class WaitingJobs:
    """The jobs of one partition that wait for a slot."""

    def __init__(self) -> None:
        self._serial = 0
        self._lines: dict[str, dict[str, LazyHeap[_Waiting]]] = {}
        """Jobs that wait, by queue and share, without some whose deadline has passed."""
        self._queues: dict[str, LazyHeap[_Waiting]] = {}
        """Jobs that wait, by queue. Empty before the level of shares."""
        self._names_passed = False
        """Whether the partition's level knows shares."""
        self.shares = Shares()
        self._ageing: dict[str, int] = {}
        self._limits: dict[str, Sequence[WaitingLimit]] = {}
        self._ages = False
        """Whether the partition's level knows ageing."""
        self._reordering: dict[str, int] = {}
        """Queues whose waiting jobs are about to get other places, and the batch of the last slice; "" is for all."""
        self._batch_no = 0
        self._room = self._parked_room = ROOM
        self._waiting: dict[str, _Waiting] = {}
        """Jobs that wait, by their keys, and some that waited."""
        self._parked: dict[str, CheckedJob] = {}
        """Jobs that wait for their concurrency keys, by their keys, and some that waited."""

    @property
    def newest_rank(self) -> int:
        """The rank of the newest run."""
        return self._serial

    def take(self, event: e.Event) -> Iterator[Violation]:
        """Judge and apply an event that belongs to no single job."""
        match event:
            case e.UpgradeFinalized():
                if event.level >= QUEUE_LEVEL and not self._ages:
                    self._ages = True
                    if self._serial:
                        self._reordering[""] = self._batch_no
                if event.level >= SHARING_LEVEL and not self._names_passed:
                    self._names_passed = True
                    for one in self._waiting.values():
                        if one.counts():
                            self._queues.setdefault(one.name[0], LazyHeap(_Waiting.counts)).add(one.place, one)
            case e.QueueApplied():
                self._declare(event.queue, event.spec.ageing_ms, event.spec.waiting_limits)
            case e.QueueDeleted():
                self._declare(event.queue, MINUTE_MS, [])
            case e.QueueReordered():
                yield from self._reorder(event)
            case _:
                pass

    def _declare(self, queue: str, ageing_ms: int, limits: Sequence[WaitingLimit]) -> None:
        if (self._ageing.get(queue, MINUTE_MS), self._limits.get(queue, [])) == (ageing_ms, limits):
            return
        self._ageing[queue], self._limits[queue] = ageing_ms, limits
        parked = (job.state is JobState.PENDING for key, job in self._parked.items() if key.startswith(f"{queue}/"))
        if any(self._of(queue)) or any(parked):
            self._reordering[queue] = self._batch_no

    def close_batch(self) -> Iterator[Violation]:
        """A batch ends. Judge whether reordering goes on: it takes a slice in some batches."""
        self._batch_no += 1
        for queue, last in list(self._reordering.items()):
            if self._batch_no - last > STALLED_BATCHES:
                del self._reordering[queue]
                text = f"expected the waiting jobs of {queue or 'all queues'} to get their new places"
                yield Violation(ViolationKind.ORDER, f"{text}, but found no slice in {STALLED_BATCHES} batches")

    def waits_unchanged(self, queue: str, rank: int, changed: set[JobName]) -> JobName | None:
        """A job of the queue that waits, of a run up to this rank, and that is none of `changed`; None if none is."""
        names = (one.name for one in self._of(queue) if one.job.age_order <= rank and one.name not in changed)
        return next(names, None)

    def begin_run(self, job: CheckedJob, event: e.JobSubmitted | e.JobRerun) -> None:
        """A run begins: its job is behind all that are there."""
        self._serial += 1
        job.age_order = self._serial
        if isinstance(event, e.JobSubmitted):
            job.submitted_at = event.at
        job.eligible_at = event.at if isinstance(event, e.JobRerun) and self._ages else 0

    def add(self, name: JobName, job: CheckedJob, at: int) -> None:
        """The job waits for a slot since `at`, ms."""
        job.ready_at = at
        if self._ages:
            _make_eligible(job, at)
        self._add(name, job)

    def add_parked(self, name: JobName, job: CheckedJob, at: int) -> None:
        """The job waits for its concurrency key since `at`, ms. It counts as eligible."""
        if self._ages:
            _make_eligible(job, at)
        self._parked[job_key(*name)] = job
        if len(self._parked) > self._parked_room:
            self._parked = {key: one for key, one in self._parked.items() if one.state is JobState.PENDING}
            self._parked_room = 2 * len(self._parked) + ROOM

    def is_reordered(self, queue: str) -> bool:
        """Whether waiting jobs of the queue are about to get other places."""
        return queue in self._reordering or "" in self._reordering

    def _add(self, name: JobName, job: CheckedJob) -> None:
        self._serial += 1
        job.queue_entry = self._serial
        place = self.place(name, job)
        waiting = _Waiting(name, job, job.queue_entry, place)
        lines = self._lines.setdefault(name[0], {})
        lines.setdefault(job.terms.share_identifier, LazyHeap(_Waiting.counts)).add(place, waiting)
        if self._names_passed:
            self._queues.setdefault(name[0], LazyHeap(_Waiting.counts)).add(place, waiting)
        self._waiting[job_key(*name)] = waiting
        if len(self._waiting) > self._room:
            self._waiting = {key: one for key, one in self._waiting.items() if one.counts()}
            self._room = 2 * len(self._waiting) + ROOM

    def place(self, name: JobName, job: CheckedJob) -> int:
        """The place of a job among those of its queue, lower first."""
        ageing = self._ageing.get(name[0], MINUTE_MS)
        score = job.eligible_at - job.terms.priority * ageing if self._ages else -job.terms.priority << 50
        return score * RANKS + job.age_order

    def check_dispatch(self, name: JobName, job: CheckedJob, event: e.AttemptDispatched) -> Iterator[Violation]:
        """Judge whether the job comes first."""
        if job.state is not JobState.READY:
            return
        lines = self._lines.get(name[0], {})
        firsts = {share: first for share, line in lines.items() if (first := _first(line, job, event.at)) is not None}
        for share in [share for share in lines if share not in firsts]:
            del lines[share]
        share = job.terms.share_identifier
        first = firsts.get(share)
        if first is not None and first.job is not job:
            yield Violation(
                ViolationKind.ORDER,
                f"expected {job_key(*first.name)} to be dispatched first ({_described(first.job)}), but found this one "
                f"({_described(job)})",
            )
        yield from self._check_passed(name, job, event)
        yield from self.shares.check_turn(name[0], share, [other for other in firsts if other != share], event)

    def _check_passed(self, name: JobName, job: CheckedJob, event: e.AttemptDispatched) -> Iterator[Violation]:
        """Judge which job of the queue was gone past, and why."""
        lowest = queue.head() if (queue := self._queues.get(name[0])) else None
        if lowest is None:
            return
        passed = "" if lowest.job is job else lowest.name[1]
        if event.passed != passed:
            text = f"expected it to name {passed or 'no job'} as gone past, by the places of the jobs that wait"
            yield Violation(ViolationKind.ORDER, f"{text}, but found {event.passed or 'none'}")
        elif passed and not (event.passed_reason == "Deadline" and _is_overdue(lowest.job, event.at)):
            shares = job.terms.share_identifier, lowest.job.terms.share_identifier
            yield from self.shares.check_passed(name[0], shares[0], passed, shares[1], event)

    def _reorder(self, event: e.QueueReordered) -> Iterator[Violation]:
        if event.queue not in self._reordering:
            text = f"expected no reordering of {event.queue or 'all queues'}, since nothing asks for it"
            yield Violation(ViolationKind.CAUSE, f"{text}, but found some")
        for key in event.jobs:
            one = self._waiting.get(key)
            parked = self._parked.get(key)
            if parked is not None and parked.state is JobState.PENDING:
                continue
            if one is None or not one.counts():
                yield Violation(ViolationKind.ORDER, f"expected {key} to wait, where it is reordered, but it does not")
            else:
                _make_eligible(one.job, one.job.ready_at)
                self._add(one.name, one.job)
        self._reordering[event.queue] = self._batch_no
        if event.next_key:
            return
        self._reordering.pop(event.queue, None)
        queues = [event.queue] if event.queue else [queue for queue in self._lines if queue not in self._reordering]
        for one in (each for queue in queues for each in self._of(queue)):
            if one.place != self.place(one.name, one.job):
                text = f"expected {job_key(*one.name)} to have its new place when all are reordered"
                yield Violation(ViolationKind.ORDER, f"{text}, but found the old one")

    def _of(self, queue: str) -> Iterator[_Waiting]:
        """The jobs of a queue that wait."""
        return (one for one in self._waiting.values() if one.name[0] == queue and one.counts())


def _make_eligible(job: CheckedJob, at: int) -> None:
    """Note since when the run is eligible. If it had an attempt before that was noted, its submission counts."""
    if not job.eligible_at:
        job.eligible_at = job.submitted_at if job.attempt else at


def _first(line: LazyHeap[_Waiting], job: CheckedJob, at: int) -> _Waiting | None:
    """The first job of a line that may start."""
    while (head := line.head()) and head.job is not job and _is_overdue(head.job, at):
        line.drop_head()  # it is not started any more: its deadline has passed
    return head


def _is_overdue(job: CheckedJob, at: int) -> bool:
    return 0 < job.deadline_at <= at


def _described(job: CheckedJob) -> str:
    return f"priority {job.terms.priority}, eligible since {job.eligible_at}, rank {job.age_order}"
