"""The gates of a job: what it waits for before it is READY.

A job passes its own gates one after the other, and then those of its queue (`queue_gates.py`). At which of its own it
waits is its stored state, so `explain` knows the reason from the job's row:

| gate | the job is | until |
|---|---|---|
| Held | HELD | it is released |
| StartTime | SCHEDULED, or RETRY_WAIT behind an attempt | its start time or backoff has passed |
| ConcurrencyLimit | PENDING | its concurrency key is free |

The order is part of the promise: a job that waits for its time keeps no key from others. To add a gate, add a row to
`GATES`, and its reason to `ftjm.readmodel.explain`.

**A concurrency key** is had by at most so many jobs of a queue as its declaration says (`key_concurrency`, 1 if it says
nothing). A job has it while it is READY or has a worker. It gives it up when its run ends, and when it waits for a
retry or is held. `evolve` asks this gate wherever a job could become READY, and counts who has the key; it never gives
a key to one more than may have it. Whom a free key is given to needs a search, so `decide` names that job in an event:
see `ftjm.core.decide.keys`. A job that arrives while others wait for its key waits behind them, also if the key is
free.
"""

from collections.abc import Callable, Mapping

from ftjm.core.state.model import Job, JobState, job_key
from ftjm.core.state.queues import ConcurrencyKey, OnConflict, QueueDeclaration
from ftjm.core.state.view import StateView

Gate = Callable[[StateView, str, Job, int, bool], JobState | None]
"""Takes the state, the queue, the job, the time (ms), and whether the job waits for a release. Gives the state in which
the job waits at the gate; None if it passes."""


def _hold(_state: StateView, _queue: str, _job: Job, _at: int, held: bool) -> JobState | None:
    return JobState.HELD if held else None


def _start_time(_state: StateView, _queue: str, job: Job, at: int, _held: bool) -> JobState | None:
    if job.due_at <= at:
        return None
    return JobState.RETRY_WAIT if job.attempt else JobState.SCHEDULED


def _concurrency_key(state: StateView, queue: str, job: Job, _at: int, _held: bool) -> JobState | None:
    key = job.concurrency_key
    if not key or (row := state.concurrency_key(job_key(queue, key))) is None:
        return None
    return JobState.PENDING if row.parked or not free_places(state.declaration(queue), row) else None


GATES: Mapping[str, Gate] = {"Held": _hold, "StartTime": _start_time, "ConcurrencyLimit": _concurrency_key}
"""The gates by the reason that `explain` gives, in the order in which a job passes them."""


def state_at_gates(state: StateView, queue: str, job: Job, at: int, *, held: bool = False) -> JobState:
    """The state of a job that could become READY: that of the first gate at which it waits, or READY."""
    for gate in GATES.values():
        if (waits := gate(state, queue, job, at, held)) is not None:
            return waits
    return JobState.READY


def key_limit(declaration: QueueDeclaration | None) -> int:
    """How many jobs of a queue may have one concurrency key at a time."""
    return 1 if declaration is None else declaration.spec.key_concurrency


def on_conflict(declaration: QueueDeclaration | None) -> OnConflict:
    """What becomes of a job of a queue whose concurrency key is taken."""
    return OnConflict.WAIT if declaration is None else declaration.spec.on_conflict


def free_places(declaration: QueueDeclaration | None, row: ConcurrencyKey) -> int:
    """How many jobs more may have a concurrency key. 0 also if more have it than may, since the limit was lowered."""
    return max(0, key_limit(declaration) - row.admitted)
