"""The rows of concurrency keys: who has a key, and who waits for it. `ftjm.core.job_gates` says what a key is.

A job with a key has one note at the key in these states, and none in others:

| the job is | its note |
|---|---|
| PENDING | PARKED, by score and order |
| READY | READY, by score and order, the last first |
| DISPATCHED, RUNNING | LIVE, by order |

Where a key may have become free for another job, or a job has found it taken, the key is put on the list of unsettled
keys, which the owner goes through behind each decision.
"""

from ftjm.core.job_gates import free_places, key_limit, on_conflict
from ftjm.core.records import events as e
from ftjm.core.state.model import Job, JobState, job_key
from ftjm.core.state.processes import Keys, ProcessKind
from ftjm.core.state.queues import ConcurrencyKey, OnConflict, QueueDeclaration
from ftjm.core.state.state import State
from ftjm.core.state.tables import KeyPlace

REPLACED_AT_ONCE_MAX = 100
"""Jobs that wait for a key and are replaced in the batch of the job that replaces them. More are left to a process."""
PLACES = {
    JobState.PENDING: KeyPlace.PARKED,
    JobState.READY: KeyPlace.READY,
    JobState.DISPATCHED: KeyPlace.LIVE,
    JobState.RUNNING: KeyPlace.LIVE,
}


def moved(state: State, event: e.Event, key: str, job: Job, before: JobState | None, score: int) -> None:
    """A job with a concurrency key has another state.

    Args:
        before: its state until now; None if it is new.
        score: its score until now.
    """
    was, now = PLACES.get(before) if before is not None else None, PLACES.get(job.state)
    if was is None and now is None:
        return
    queue, concurrency_key = event.queue, job.concurrency_key
    name = job_key(queue, concurrency_key)
    row = state.concurrency_key(name) or ConcurrencyKey()
    admitted = now is KeyPlace.READY and was is not KeyPlace.LIVE
    assert not admitted or free_places(state.declaration(queue), row), f"the key {name} is taken, and {key} gets it"
    if was is not None:
        state.remove_key_job(key, concurrency_key, was, score, job.order)
        row.admitted -= was is not KeyPlace.PARKED
        row.parked -= was is KeyPlace.PARKED
    if now is not None:
        state.add_key_job(key, concurrency_key, now, job.score, job.order)
        row.admitted += now is not KeyPlace.PARKED
        row.parked += now is KeyPlace.PARKED
    if not (row.admitted or row.parked):
        state.drop_concurrency_key(name)
        return
    state.save_concurrency_key(name, row)
    if now is KeyPlace.PARKED and not isinstance(event, e.JobParked):
        _replace(state, event, job, row)
        state.unsettled_keys.setdefault((queue, concurrency_key), []).append(key)
    elif was is KeyPlace.PARKED:
        if now is not None and score != job.score:  # the ageing has changed, and the process has not come to it yet
            _unsettle(state, queue, concurrency_key, row)
    elif now is not KeyPlace.LIVE:
        _unsettle(state, queue, concurrency_key, row)


def place_changed(state: State, key: str, job: Job, score: int) -> None:
    """A job with a concurrency key, which is PENDING or READY, has another score than `score` now."""
    queue, place = key.partition("/")[0], PLACES[job.state]
    state.remove_key_job(key, job.concurrency_key, place, score, job.order)
    state.add_key_job(key, job.concurrency_key, place, job.score, job.order)
    row = state.concurrency_key(job_key(queue, job.concurrency_key))
    assert row is not None
    _unsettle(state, queue, job.concurrency_key, row)


def settled(state: State, event: e.KeysSettled, _key: str) -> None:
    """A slice of the process is done."""
    assert state.process(ProcessKind.KEYS, event.queue) is not None
    if event.next_key:
        state.save_process(ProcessKind.KEYS, event.queue, Keys(event.next_key))
    else:
        state.drop_process(ProcessKind.KEYS, event.queue)


def declared(state: State, queue: str, before: QueueDeclaration | None, now: QueueDeclaration | None) -> None:
    """The queue is declared otherwise. If more jobs may have a key than before, or if they change places for it from
    now on, begin to give the keys away."""
    row = state.queue(queue)
    waits_now = on_conflict(before) is not on_conflict(now) is OnConflict.WAIT
    if (waits_now or key_limit(now) > key_limit(before)) and row is not None and row.counts[JobState.PENDING]:
        state.save_process(ProcessKind.KEYS, queue, Keys(""))


def _unsettle(state: State, queue: str, concurrency_key: str, row: ConcurrencyKey) -> None:
    if row.parked:
        state.unsettled_keys.setdefault((queue, concurrency_key), [])


def _replace(state: State, event: e.Event, job: Job, row: ConcurrencyKey) -> None:
    """The job has found its key taken. If its queue replaces jobs, note it as the one that does."""
    if on_conflict(state.declaration(event.queue)) is not OnConflict.REPLACE:
        return
    before = state.job(job_key(event.queue, row.replaced_by)) if row.replaced_by else None
    if before is None or before.order < job.order:
        row.replaced_by = event.job_id
        if row.parked > REPLACED_AT_ONCE_MAX:
            state.save_process(ProcessKind.KEYS, event.queue, Keys(""))
