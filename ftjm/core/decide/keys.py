"""Decisions about concurrency keys: which of the jobs that wait for a key gets it.

They follow from other decisions: a job that has the key ends, another arrives. So they are made behind each decision,
at one place for all (`follow_up`), and stand in the same batch:

    a decision ─► events ─► evolve ─► the keys that became free, or were found taken ─► follow_up ─► events ─► evolve

`JobParked` tells that a job has found its key taken. What becomes of it is declared for its queue (`on_conflict`):

- wait: it waits. Of the jobs that wait, the one with the best place in the queue gets the key when it is free:
  `JobQueued`. If it comes before one that has the key and waits for a slot, the two change places: `JobParked`,
  `JobQueued`.
- replace: of the jobs that meet at the key, the newest stays. The others are cancelled, and those that run are asked to
  stop; the newest waits for their end.
- drop: it ends as SKIPPED, by `JobSkipped`. One that has had an attempt in its run waits instead.

Newest is the job whose run began last (`order`). A job that is held or waits for its time is not at the key: it is
neither replaced nor does it replace others until its time comes.
"""

from collections.abc import Iterator, Mapping, Sequence

from ftjm.core.decide import jobs
from ftjm.core.decide.decision import Events, about
from ftjm.core.job_gates import key_limit, on_conflict
from ftjm.core.records import events as e
from ftjm.core.state.model import LIVE, Job, JobState, job_key
from ftjm.core.state.queues import ConcurrencyKey, OnConflict
from ftjm.core.state.rows import first_key_after
from ftjm.core.state.tables import CONCURRENCY_KEYS, KeyPlace, key_line
from ftjm.core.state.view import StateView

HEADS_MAX = 10_000
"""Keys of which the first job that waits is remembered."""
AT_KEY = LIVE | {JobState.READY, JobState.PENDING}
"""States in which a job has its key or waits for it."""
FOLLOWING_MAX = 100
"""Events by which one decision settles a key, beside those of the jobs that have just found it taken."""
LOOKED_MAX = 300
"""Keys that a slice looks at."""
REPLACED = "replaced at its concurrency key by "
"""How the reason of a job begins that is replaced. The key of the newer job follows."""
CONCURRENCY_LIMIT = "CONCURRENCY_LIMIT"
"""The reason of a job that is skipped."""


def follow_up(state: StateView, unsettled: Mapping[tuple[str, str], Sequence[str]]) -> Events:
    """What follows for other jobs from events that were just applied.

    Args:
        unsettled: queues and concurrency keys to look at, with the jobs that have just found the key taken.
    """
    events: Events = []
    if len(state.key_heads) > HEADS_MAX:
        state.key_heads.clear()
    for (queue, key), arrived in unsettled.items():
        events += _KeyLook(state, queue, key).following(arrived, FOLLOWING_MAX + 2 * len(arrived))
    return events


def next_slice(state: StateView, queue: str, next_key: str, most: int) -> Events:
    """The next slice of a KEYS: the keys of a queue are settled, one after the other.

    Args:
        most: how many events the slice may have, beside the one that ends it.
    """
    events: Events = []
    following = ""
    for looked, key in enumerate(_keys_of(state, queue, next_key)):
        if looked == LOOKED_MAX or len(events) >= most:
            following = key
            break
        found = _KeyLook(state, queue, key).following((), most - len(events))
        events += found
        if len(events) >= most and found:
            following = key  # perhaps it is not settled yet
            break
    return [*events, e.KeysSettled(queue=queue, next_key=following)]


def parked_rows(state: StateView, start: bytes, queue: str) -> Iterator[tuple[bytes, str]]:
    """Jobs of a queue that wait for a concurrency key, in the order of their rows from the key `start` on: the row's
    key, and the job's key. It passes over the rows of other jobs at these keys."""
    first = key_line(queue, "", KeyPlace.PARKED)[: len(queue.encode()) + 2]
    for key, job_id in state.scan(max(start, first), first_key_after(first)):
        if key[-17] == KeyPlace.PARKED:
            yield key, job_key(queue, job_id.decode())


def _keys_of(state: StateView, queue: str, start: str) -> Iterator[str]:
    first = CONCURRENCY_KEYS.prefix + job_key(queue, "").encode()
    for key, _ in state.scan(first + start.encode(), first_key_after(first)):
        yield key[len(first) :].decode()


class _KeyLook:
    """One look at one concurrency key."""

    def __init__(self, state: StateView, queue: str, key: str) -> None:
        self._state = state
        self._queue = queue
        self._key = key
        self._gone: set[str] = set()
        """Jobs that the events of this look take away from the key."""
        self._events: Events = []

    def following(self, arrived: Sequence[str], most: int) -> Events:
        """The events by which the right jobs have the key; about `most` of them at most."""
        row = self._state.concurrency_key(job_key(self._queue, self._key))
        if row is None or not row.parked:
            return []
        declaration = self._state.declaration(self._queue)
        conflict = on_conflict(declaration)
        for key in arrived:
            job = self._job(key)
            self._events.append(e.JobParked(**about(key, job)))
            self._judge_arrival(key, job, conflict)
        given_up = self._replace(row, most) if conflict is OnConflict.REPLACE else 0
        admitted, limit = row.admitted - given_up, key_limit(declaration)
        waiting = self._standing(KeyPlace.PARKED)
        first = next(waiting, None)
        while first is not None and admitted < limit and len(self._events) < most:
            self._events.append(e.JobQueued(**about(*first)))
            admitted += 1
            first = next(waiting, None)
        if conflict is OnConflict.WAIT and admitted <= limit:
            ready = self._standing(KeyPlace.READY)  # the last of the queue first
            last = next(ready, None)
            while first and last and _rank(first[1]) < _rank(last[1]) and len(self._events) < most:
                self._events += [e.JobParked(**about(*last)), e.JobQueued(**about(*first))]
                first, last = next(waiting, None), next(ready, None)
        return self._events

    def _judge_arrival(self, key: str, job: Job, conflict: OnConflict) -> None:
        """What becomes of a job that has found the key taken, if that is not to wait."""
        if conflict is OnConflict.DROP and not job.dispatched_at:
            self._events.append(e.JobSkipped(**about(key, job), reason=CONCURRENCY_LIMIT))
            self._gone.add(key)
        elif conflict is OnConflict.REPLACE:
            having = (one for place in (KeyPlace.READY, KeyPlace.LIVE) for one in self._standing(place))
            newer = next((other for other, having_it in having if having_it.order > job.order), None)
            if newer is not None:
                self._cancel(key, job, newer)

    def _replace(self, row: ConcurrencyKey, most: int) -> int:
        """Cancel the jobs that the newest one replaces, if that is at the key. Returns how many of them give the key up
        at once."""
        by = job_key(self._queue, row.replaced_by)
        newest = self._state.job(by) if row.replaced_by else None
        if newest is None or newest.state not in AT_KEY or by in self._gone:
            return 0
        if newest.concurrency_key != self._key:
            return 0  # the one that replaced them is forgotten, and another job has its id
        given_up = 0
        for place in KeyPlace:
            for key, job in self._standing(place):
                if len(self._events) >= most:
                    return given_up
                if job.order < newest.order and not job.is_ending:
                    self._cancel(key, job, by)
                    given_up += place is KeyPlace.READY
        return given_up

    def _cancel(self, key: str, job: Job, by: str) -> None:
        self._events.append(jobs.stop(self._state, key, job, f"{REPLACED}{by}"))
        self._gone.add(key)

    def _standing(self, place: KeyPlace) -> Iterator[tuple[str, Job]]:
        """The jobs at the key, in the order of their rows."""
        line = key_line(self._queue, self._key, place)
        heads = self._state.key_heads
        for row_key, job_id in self._state.scan(heads.pop(line, line), first_key_after(line)):
            if place is KeyPlace.PARKED:
                # The next look begins here, so that it does not pass over the deleted keys again.
                heads.setdefault(line, row_key)
            if (key := job_key(self._queue, job_id.decode())) not in self._gone:
                yield key, self._job(key)

    def _job(self, key: str) -> Job:
        job = self._state.job(key)
        assert job is not None
        return job


def _rank(job: Job) -> tuple[int, int]:
    return job.score, job.order
