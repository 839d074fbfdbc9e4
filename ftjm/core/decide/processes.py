"""Decisions about processes: the next slice of work that goes on over many batches.

A slice is bounded in what it reads and in what it changes, so that it never delays the commands beside it for long.
"""

from itertools import chain

from ftjm.core import ageing
from ftjm.core.decide import backfills, bulk, calendars, keys, resources, windows
from ftjm.core.decide.decision import Events, Policy
from ftjm.core.records import events as e
from ftjm.core.state.processes import BackfillTurn, Bulk, Keys, ProcessKind, Reckon, Reconcile, Tell, WindowStop
from ftjm.core.state.view import StateView
from ftjm.core.waiting_limits import limits_of, next_look, waits_since

CHANGED_MAX = 100
"""Jobs that a slice changes: less than a third of a batch, so that commands and free slots have their part."""
LOOKED_MAX = 500
"""Jobs that a slice looks at."""
ROWS_OF_A_CHANGE = 3
"""Rows that a change of a job's place writes: the job's, and those of its old and its new place."""
ROWS_OF_A_STOP = 4
"""Rows that a request to stop writes: the job's, its session's, the message's, and the counters'."""
ROWS_OF_A_KEY = 6
"""About so many rows are written where a job gets its concurrency key, or is replaced."""


def next_slice(state: StateView, kind: ProcessKind, name: str, rows: int, now: int, policy: Policy) -> Events:
    """The events of a process's next slice: at least one, since it records how far the process has come.

    Args:
        rows: how many rows the batch may change yet.
        now: the batch's time, ms.
    """
    process = state.process(kind, name)
    assert process is not None
    if isinstance(process, Bulk):
        return bulk.next_slice(state, name, process, rows, now, policy)
    if isinstance(process, Keys):
        return keys.next_slice(state, name, process.next_key, min(CHANGED_MAX, rows // ROWS_OF_A_KEY))
    if isinstance(process, BackfillTurn):
        return backfills.next_slice(state, name, rows, now, policy)
    if isinstance(process, Reckon):
        return calendars.next_slice(state, name, process, rows, policy)
    if isinstance(process, WindowStop):
        return windows.next_stops(state, process, LOOKED_MAX, min(CHANGED_MAX, rows // ROWS_OF_A_STOP))
    if isinstance(process, Tell):
        return resources.next_told(state, name, process, rows)
    if isinstance(process, Reconcile):
        return resources.next_reconciled(state, name, process, rows)
    return [_reorder(state, name, process.next_key, min(CHANGED_MAX, rows // ROWS_OF_A_CHANGE), now)]


def _reorder(state: StateView, queue: str, start: bytes, most: int, now: int) -> e.QueueReordered:
    """Name the jobs whose score is not what it would be if they came now, or that are looked at at another time.

    A job that is moved to a place behind the slice is met again, and has the right score then.
    """
    wrong: list[str] = []
    rows = state.ready_rows(start, queue)
    if queue:  # where all queues are reordered, no job has a concurrency key yet
        rows = chain(rows, keys.parked_rows(state, start, queue))
    for looked, (row_key, key) in enumerate(rows):
        if looked == LOOKED_MAX or len(wrong) == most:
            return e.QueueReordered(queue=queue, jobs=wrong, next_key=row_key)
        job = state.job(key)
        assert job is not None
        declaration = state.declaration(key.partition("/")[0])
        look_at = next_look(limits_of(declaration), waits_since(job), now)
        is_watched = bool(job.look_at) == bool(look_at) and (job.look_at <= now or job.look_at == look_at)
        if not job.eligible_at or job.score != ageing.score(state.finalized, declaration, job) or not is_watched:
            wrong.append(key)
    return e.QueueReordered(queue=queue, jobs=wrong, next_key=b"")
