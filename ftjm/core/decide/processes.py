"""Decisions about processes: the next slice of work that goes on over many batches.

A slice is bounded in what it reads and in what it changes, so that it never delays the commands beside it for long.
"""

from ftjm.core import ageing
from ftjm.core.decide.decision import Events
from ftjm.core.records import events as e
from ftjm.core.state.processes import ProcessKind
from ftjm.core.state.view import StateView

CHANGED_MAX = 250
"""Jobs that a slice changes."""
LOOKED_MAX = 1_000
"""Jobs that a slice looks at."""


def next_slice(state: StateView, kind: ProcessKind, name: str, room: int) -> Events:
    """The events of a process's next slice: at least one, since it records how far the process has come.

    Args:
        room: how many jobs the batch may change yet.
    """
    assert kind is ProcessKind.REORDER
    process = state.process(kind, name)
    assert process is not None
    return [_reorder(state, name, process.next_key, min(CHANGED_MAX, room))]


def _reorder(state: StateView, queue: str, start: bytes, most: int) -> e.QueueReordered:
    """Name the jobs whose score is not what it would be if they came now.

    A job that is moved to a place behind the slice is met again, and has the right score then.
    """
    wrong: list[str] = []
    for looked, (row_key, key) in enumerate(state.ready_rows(start, queue)):
        if looked == LOOKED_MAX or len(wrong) == most:
            return e.QueueReordered(queue=queue, jobs=wrong, next_key=row_key)
        job = state.job(key)
        assert job is not None
        declaration = state.declaration(key.partition("/")[0])
        if not job.eligible_at or job.score != ageing.score(state.finalized, declaration, job):
            wrong.append(key)
    return e.QueueReordered(queue=queue, jobs=wrong, next_key=b"")
