"""The changes of rows when a job moves from one state to another, whichever event moves it.

Each state implies rows besides the job's own. `move` removes those of the old state and writes those of the new one:

| state | implies |
|---|---|
| SCHEDULED, RETRY_WAIT | a DUE timer |
| READY | an entry in the ready queue |
| PENDING, READY | a WAITING timer, if the queue has limits of waiting |
| PENDING, READY, DISPATCHED, RUNNING | a note at its concurrency key, if it has one: see `keys.py` |
| DISPATCHED, RUNNING | a slot of the session, and an entry in the list of its attempts |
| an end (`TERMINAL`) | a RETENTION timer, and an outcome message for each client that waits |

The queue's count of jobs in each state follows, too.
"""

from ftjm.core import ageing
from ftjm.core.evolve import keys, schedules, shares
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.records import events as e
from ftjm.core.state.model import DEAD, LIVE, TERMINAL, Checkpoint, Job, JobState
from ftjm.core.state.outbox import OutcomeMessage
from ftjm.core.state.queues import Queue
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.core.waiting_limits import next_look

READY, PENDING = JobState.READY, JobState.PENDING
"""Looked up once: on Python 3.11, reading a member of an enumeration is a call."""
IN_LINE = frozenset({READY, PENDING})
"""States in which a job has a place in its queue."""
DELAYED = frozenset({JobState.SCHEDULED, JobState.RETRY_WAIT})


def move(state: State, event: e.Event, key: str, job: Job, to: JobState) -> None:
    """Move a job to another state, with all rows that the two states imply.

    Raises:
        AssertionError: the lifecycle's table does not allow the event to make this move.
    """
    before = job.state
    assert to in LIFECYCLE[type(event)].get(before, ()), (
        f"{type(event).__name__} cannot take {key} from {before.name} to {to.name}"
    )
    if before not in LIVE or to not in LIVE:  # otherwise it keeps its slot
        score = job.score
        _leave(state, event, key, job)
        job.state = to
        enter(state, event, key, job)
        if job.concurrency_key:
            keys.moved(state, event, key, job, before, score)
    job.state = to
    count(state, event.queue, before, to)
    state.save_job(key, job)


def existing_job(state: State, event: e.Event, key: str) -> Job:
    """The job that `event` is about. Raises AssertionError if there is none."""
    job = state.job(key)
    assert job is not None, f"{type(event).__name__} of {event.queue}/{event.job_id}, which does not exist"
    return job


def _leave(state: State, event: e.Event, key: str, job: Job) -> None:
    if job.state in LIVE:
        _release_slot(state, key, job)
        if job.charged:
            shares.ended(state, event, job)
    elif job.state in IN_LINE:
        if job.state is READY:
            state.remove_ready(event.queue, job.score, job.order, job.share)
        if job.look_at:
            look_next(state, key, job, 0)
        job.score = job.pending_at = 0
    elif job.due_at and job.state in DELAYED:
        state.clear_timer(due_timer(key, job))


def enter(state: State, event: e.Event, key: str, job: Job) -> None:
    """Write the rows that the job's state implies."""
    if job.state in LIVE:
        _take_slot(state, key, job)
    elif job.state in IN_LINE:
        job.due_at = 0
        declaration = state.declaration(event.queue)
        ageing.join_line(state.finalized, declaration, job, event.at)
        if job.state is READY:
            job.ready_at = event.at
            state.add_ready(event.queue, event.job_id, job.score, job.order, job.share)
        else:
            job.pending_at = event.at
        if declaration is not None and declaration.spec.waiting_limits:
            look_next(state, key, job, next_look(declaration.spec.waiting_limits, event.at, event.at))
    elif job.state in TERMINAL:
        _end(state, event, key, job)
    elif job.due_at and job.state in DELAYED:
        state.set_timer(due_timer(key, job))


def due_timer(key: str, job: Job) -> Timer:
    """Timer of the job's start time or backoff. Its key names the newest attempt, so that it acts on no later wait."""
    return Timer(job.due_at, TimerKind.DUE, key, job.attempt)


def deadline_timer(key: str, job: Job) -> Timer:
    """Timer of the job's deadline. Its key names the run, so that it never ends a later run."""
    return Timer(job.deadline_at, TimerKind.DEADLINE, key, job.run)


def look_next(state: State, key: str, job: Job, at: int) -> None:
    """The limits of waiting are looked at for the job then, ms; never if that is 0."""
    if job.look_at:
        state.clear_timer(Timer(job.look_at, TimerKind.WAITING, key))
    if at:
        state.set_timer(Timer(at, TimerKind.WAITING, key))
    job.look_at = at


def retention_timer(key: str, job: Job) -> Timer:
    """Timer that removes an ended job after its retention. Its key names the run, so that a rerun cancels it."""
    return Timer(job.ended_at + job.retention_ms, TimerKind.RETENTION, key, job.run)


def _take_slot(state: State, key: str, job: Job) -> None:
    session = state.session(job.session)
    assert session is not None
    session.live += 1
    state.save_session(job.session, session)
    state.hold_attempt(job.session, key)


def _release_slot(state: State, key: str, job: Job) -> None:
    session = state.session(job.session)
    assert session is not None
    session.live -= 1
    state.save_session(job.session, session)
    state.drop_attempt(job.session, key)


def count(state: State, queue: str, before: JobState | None, now: JobState | None) -> None:
    """Count a job that moves between states in its queue's row. The row of a queue without jobs is dropped.

    Args:
        before: its state until now; None if it is new.
        now: its state from now on; None if it is removed from the store.
    """
    row = state.queue(queue) or Queue([0] * (max(JobState) + 1))
    if before is not None:
        row.counts[before] -= 1
    if now is not None:
        row.counts[now] += 1
    elif not any(row.counts):
        if row.shared:
            shares.emptied(state, queue)
        state.drop_queue(queue)
        return
    state.save_queue(queue, row)


def _end(state: State, event: e.Event, key: str, job: Job) -> None:
    if job.deadline_at:
        state.clear_timer(deadline_timer(key, job))
    job.ended_at = event.at
    job.session = ""
    job.stopping = ""
    if job.state in DEAD and (declaration := state.declaration(event.queue)) is not None:
        job.retention_ms = max(job.retention_ms, declaration.spec.dead_letter_ms)
    state.set_timer(retention_timer(key, job))
    for waiter in job.waiters:
        push_outcome(state, event, key, job, waiter)
    job.waiters = ()
    if job.schedule:
        schedules.job_moved(state, event, job)


def keep_checkpoint(state: State, event: e.AttemptCheckpointed, key: str, job: Job) -> None:
    """Store how far the run has come. Fields that the event leaves at their defaults keep their value."""
    assert job.state in LIFECYCLE[type(event)]
    before = state.checkpoint(key) if job.checkpoint_at else Checkpoint()
    progress = event.progress if event.progress >= 0 else before.progress
    state.save_checkpoint(key, Checkpoint(event.data or before.data, progress, event.text or before.text))
    job.checkpoint_at = event.at
    state.save_job(key, job)


def drop_checkpoint(state: State, key: str, job: Job) -> None:
    """Delete the run's checkpoint, if it has one."""
    if job.checkpoint_at:
        state.drop_checkpoint(key)
        job.checkpoint_at = 0


def push_outcome(state: State, event: e.Event, key: str, job: Job, waiter: str) -> None:
    """Put the run's outcome into the outbox, for one client that waits for it."""
    outcome = state.outcome(key)
    state.push(
        OutcomeMessage(
            waiter,
            event.queue,
            event.job_id,
            job.run,
            job.state,
            job.reason,
            outcome.exit_code,
            outcome.error,
            outcome.result,
        )
    )


def next_number(state: State, name: str) -> tuple[int, int]:
    """Take the next number for a message to the session. Returns the number, and the session's lane."""
    session = state.session(name)
    assert session is not None
    session.sent += 1
    state.save_session(name, session)
    return session.sent, session.lane
