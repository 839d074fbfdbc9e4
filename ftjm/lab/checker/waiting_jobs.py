"""The rule of order: a dispatch takes the job of its queue that comes first, of those that wait for a slot.

The place of a waiting job is the time since which it is eligible, less its priority times the ageing of its queue; and
of equal ones, its age. A partition whose level does not know ageing goes by the priority, and then by age. A job keeps
its place until an event names it as reordered, and after the last of these events of a queue no job is left that would
have another place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ftjm.core.records import events as e
from ftjm.core.records.levels import QUEUE_LEVEL
from ftjm.core.state.model import JobState, job_key
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.lazy_heap import LazyHeap
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
        self._queues: dict[str, LazyHeap[_Waiting]] = {}
        self._ageing: dict[str, int] = {}
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
            case e.QueueApplied():
                self._declare(event.queue, event.spec.ageing_ms)
            case e.QueueDeleted():
                self._declare(event.queue, MINUTE_MS)
            case e.QueueReordered():
                yield from self._reorder(event)
            case _:
                pass

    def _declare(self, queue: str, ageing_ms: int) -> None:
        if self._ageing.get(queue, MINUTE_MS) == ageing_ms:
            return
        self._ageing[queue] = ageing_ms
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
        queue = self._queues.get(name[0])
        if queue is None:
            queue = self._queues[name[0]] = LazyHeap(_Waiting.counts)
        place = self.place(name, job)
        waiting = _Waiting(name, job, job.queue_entry, place)
        queue.add(place, waiting)
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
        queue = self._queues.get(name[0])
        while queue and (head := queue.head()) and head.job is not job and 0 < head.job.deadline_at <= event.at:
            queue.drop_head()  # it is not started any more: its deadline has passed
        first = queue.head() if queue else None
        if first is not None and first.job is not job and job.state is JobState.READY:
            yield Violation(
                ViolationKind.ORDER,
                f"expected {job_key(*first.name)} to be dispatched first ({_described(first.job)}), but found this one "
                f"({_described(job)})",
            )

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
        queues = [event.queue] if event.queue else [queue for queue in self._queues if queue not in self._reordering]
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


def _described(job: CheckedJob) -> str:
    return f"priority {job.terms.priority}, eligible since {job.eligible_at}, rank {job.age_order}"
