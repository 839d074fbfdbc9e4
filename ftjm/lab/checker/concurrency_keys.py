"""The rules of concurrency keys: no key is had by more jobs than may, and none is free while a job waits for it.

A job has its key while it is READY or has a worker. It is counted here by the states that its events lead to, and not
as the core counts it. What a job does that finds its key taken is in the declaration of its queue:

- wait: a free key goes to the job that has the best place of those that wait; one that waits for a slot gives its key
  to a job before it. Both hold behind every batch.
- replace: only jobs behind which a newer one has come are cancelled for that.
- drop: only jobs that find the key taken, and have had no attempt in their run, are skipped; and none of them waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ftjm.core.records import events as e
from ftjm.core.state.model import LIVE, JobState, job_key
from ftjm.core.state.queues import OnConflict, QueueSpec
from ftjm.lab.checker.causes import REPLACED, is_replacement
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.lazy_heap import LazyHeap
from ftjm.lab.checker.verdict import JobName, Violation, ViolationKind
from ftjm.lab.checker.waiting_jobs import STALLED_BATCHES, WaitingJobs

HAVING = LIVE | {JobState.READY}
ARRIVALS = (e.JobSubmitted, e.JobQueued, e.JobReleased, e.JobRerun)
"""Events by which a job comes to the gate at which it needs its key."""
REPLACED_AT_ONCE = 100
"""With more jobs that wait for a key, a process goes on with what a newer job replaces."""


class _Parked(NamedTuple):
    name: JobName
    job: CheckedJob
    place: int
    of: WaitingJobs

    def counts(self) -> bool:
        return self.job.state is JobState.PENDING and self.of.place(self.name, self.job) == self.place


class _Key:
    """The jobs at one key."""

    def __init__(self) -> None:
        self.having: dict[JobName, CheckedJob] = {}
        self.waiting: dict[JobName, CheckedJob] = {}
        self.line: LazyHeap[_Parked] | None = None
        """Those that wait, by their places; None if it has to be made anew."""

    def move(self, name: JobName, job: CheckedJob, places: WaitingJobs) -> None:
        self.having.pop(name, None)
        self.waiting.pop(name, None)
        if job.state in HAVING:
            self.having[name] = job
        elif job.state is JobState.PENDING:
            self.waiting[name] = job
            self._add(name, job, places)

    def _add(self, name: JobName, job: CheckedJob, places: WaitingJobs) -> None:
        if self.line is not None:
            place = places.place(name, job)
            self.line.add(place, _Parked(name, job, place, places))

    def first(self, places: WaitingJobs) -> int:
        """The best place of those that wait. There must be some."""
        if self.line is None:
            self.line = LazyHeap(_Parked.counts)
            for name, job in self.waiting.items():
                self._add(name, job, places)
        head = self.line.head()
        assert head is not None
        return head.place


class ConcurrencyKeys:
    """Judges the concurrency keys of one partition. Its memory is that of the jobs at keys."""

    def __init__(self, places: WaitingJobs) -> None:
        """`places` knows the places of jobs in their queues."""
        self._places = places
        self._declared: dict[str, QueueSpec] = {}
        self._keys: dict[tuple[str, str], _Key] = {}
        self._touched: set[tuple[str, str]] = set()
        """Keys of which something has changed, and that were not judged since."""
        self._arrived: set[JobName] = set()
        """Jobs that have found their key taken in this batch, of which no event has told yet."""
        self._settling: dict[str, int] = {}
        """Queues of which a process settles the keys, and the batch of its last slice."""
        self._batch_no = 0

    def must_wait(self, queue: str, key: str) -> bool:
        """Whether a job that comes to its gate for this key finds it taken."""
        found = self._keys.get((queue, key))
        return found is not None and bool(found.waiting or len(found.having) >= self._spec(queue).key_concurrency)

    def check_process(self, event: e.Event) -> Iterator[Violation]:
        """Judge whether the process is under way that has caused an event of a job at a key."""
        kind, _, queue = event.cause_ref.partition("/")
        if event.cause is e.Cause.CONTINUATION and kind == "KEYS" and queue not in self._settling:
            yield Violation(ViolationKind.CAUSE, f"expected the keys of {queue} to be settled, but found nothing begun")

    def take(self, event: e.Event) -> Iterator[Violation]:
        """Judge and apply an event of a queue as a whole."""
        match event:
            case e.QueueApplied():
                self._declare(event.queue, event.spec)
            case e.QueueDeleted():
                self._declare(event.queue, QueueSpec())
            case e.QueueReordered():
                self._make_anew(event.queue)
            case e.KeysSettled():
                yield from self.check_process(event)
                self._settling[event.queue] = self._batch_no
                if not event.next_key:
                    del self._settling[event.queue]
                    self._touched |= {name for name in self._keys if name[0] == event.queue}
            case _:
                pass

    def _declare(self, queue: str, spec: QueueSpec) -> None:
        before, self._declared[queue] = self._spec(queue), spec
        waits = any(key.waiting for (name, _), key in self._keys.items() if name == queue)
        begins_to_wait = before.on_conflict is not spec.on_conflict is OnConflict.WAIT
        if waits and (begins_to_wait or spec.key_concurrency > before.key_concurrency):
            self._settling[queue] = self._batch_no
        self._make_anew(queue)

    def _make_anew(self, queue: str) -> None:
        for name, key in self._keys.items():
            if name[0] == queue:
                key.line = None
                self._touched.add(name)

    def _spec(self, queue: str) -> QueueSpec:
        return self._declared.get(queue) or QueueSpec()

    def job_moved(self, name: JobName, job: CheckedJob, before: JobState | None, event: e.Event) -> Iterator[Violation]:
        """Judge and apply what an event of a job with a key has changed.

        Args:
            before: its state before the event; None if it was not there.
        """
        of = (name[0], job.terms.concurrency_key)
        key = self._keys.setdefault(of, _Key())
        self._touched.add(of)
        key.move(name, job, self._places)
        spec = self._spec(name[0])
        if isinstance(event, e.JobSkipped):
            dropped = spec.on_conflict is OnConflict.DROP and key.having and job.dispatched_run != job.run
            if not dropped:
                yield Violation(ViolationKind.END, "expected it not to be skipped, but found that it was")
        if is_replacement(event):
            yield from self._check_replacement(key, job, event)
        if job.state is JobState.READY and before not in HAVING and len(key.having) > spec.key_concurrency:
            text = f"expected at most {spec.key_concurrency} job(s) to have the key {of[1]} of queue {of[0]}"
            yield Violation(ViolationKind.LIMIT, f"{text}, but found {len(key.having)}")
        if isinstance(event, e.JobParked):
            self._arrived.discard(name)
        elif job.state is JobState.PENDING and isinstance(event, ARRIVALS):
            self._arrived.add(name)
            if spec.on_conflict is OnConflict.REPLACE and len(key.waiting) > REPLACED_AT_ONCE:
                self._settling[name[0]] = self._batch_no

    def _check_replacement(self, key: _Key, job: CheckedJob, event: e.Event) -> Iterator[Violation]:
        reason = event.text if isinstance(event, e.JobStopRequested) else getattr(event, "reason", "")
        queue, _, job_id = str(reason).removeprefix(REPLACED).partition("/")
        newer = key.having.get((queue, job_id)) or key.waiting.get((queue, job_id))
        if newer is None or newer.age_order <= job.age_order:
            text = f"expected a newer job of its key, {queue}/{job_id}"
            yield Violation(ViolationKind.END, f"{text}, to replace it, but found none")

    def close_batch(self) -> Iterator[Violation]:
        """Judge the keys of which something has changed."""
        self._batch_no += 1
        for name in sorted(self._arrived):
            yield Violation(ViolationKind.LOST, f"{job_key(*name)}: expected an event that it waits, but found none")
        self._arrived.clear()
        for queue, last in list(self._settling.items()):
            if self._batch_no - last > STALLED_BATCHES:
                del self._settling[queue]
                text = f"expected the concurrency keys of {queue} to be settled"
                yield Violation(ViolationKind.LOST, f"{text}, but found no slice in {STALLED_BATCHES} batches")
        left = set()
        for name in sorted(self._touched):
            key = self._keys[name]
            if not key.having and not key.waiting:
                del self._keys[name]
            elif name[0] in self._settling or self._places.is_reordered(name[0]):
                left.add(name)
            elif key.waiting:
                yield from self._check_settled(*name, key)
        self._touched = left

    def _check_settled(self, queue: str, name: str, key: _Key) -> Iterator[Violation]:
        spec, having = self._spec(queue), len(key.having)
        if having < spec.key_concurrency:
            text = f"{job_key(*next(iter(key.waiting)))}: expected it to get the key {name}, which is free"
            yield Violation(ViolationKind.LOST, f"{text}, but found it waiting")
        if spec.on_conflict is not OnConflict.WAIT or having > spec.key_concurrency:
            return
        first = key.first(self._places)
        for other, job in key.having.items():
            if job.state is JobState.READY and self._places.place(other, job) > first:
                text = f"{job_key(*other)}: expected it to give the key {name} to a job before it"
                yield Violation(ViolationKind.ORDER, f"{text}, but found that it has it")
