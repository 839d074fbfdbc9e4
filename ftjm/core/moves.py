"""A move of a job from state to state, and what follows from it alone: counts, queue, timers, slots, outcomes."""

from typing import Any

from ftjm.core import events as e
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.model import (
    LIVE,
    TERMINAL,
    Checkpoint,
    Job,
    JobState,
    Message,
    MessageKind,
    Queue,
    Timer,
    TimerKind,
)
from ftjm.core.state import State

READY = JobState.READY
"""By a name of its own: on Python 3.11 each look into an enumeration is a call."""
DELAYED = frozenset({JobState.SCHEDULED, JobState.RETRY_WAIT})


def move(state: State, event: e.Event, key: str, job: Job, to: JobState) -> None:
    """Bring a job from its state to another: counts, ready queue, slots and timer follow from the two."""
    before = job.state
    assert to in LIFECYCLE[type(event)].get(before, ()), (
        f"{type(event).__name__} cannot take {key} from {before.name} to {to.name}"
    )
    if before not in LIVE or to not in LIVE:  # else its slot stays as it is
        _leave(state, event, key, job)
        job.state = to
        enter(state, event, key, job)
    job.state = to
    count(state, event.queue, before, to)
    state.save_job(key, job)


def _leave(state: State, event: e.Event, key: str, job: Job) -> None:
    if job.state in LIVE:
        _release_slot(state, key, job)
    elif job.state is READY:
        state.remove_ready(event.queue, job.priority, job.order)
    elif job.due_at and job.state in DELAYED:
        state.clear_timer(due_timer(key, job))


def enter(state: State, event: e.Event, key: str, job: Job) -> None:
    """Make true what its state implies."""
    if job.state in LIVE:
        _take_slot(state, key, job)
    elif job.state is READY:
        job.ready_at = event.at
        job.due_at = 0
        state.add_ready(event.queue, event.job_id, job.priority, job.order)
    elif job.state in TERMINAL:
        _end(state, event, key, job)
    elif job.due_at and job.state in DELAYED:
        state.set_timer(due_timer(key, job))


def due_timer(key: str, job: Job) -> Timer:
    """Of its start time or backoff; names the attempt before which it waits."""
    return Timer(job.due_at, TimerKind.DUE, key, job.attempt)


def deadline_timer(key: str, job: Job) -> Timer:
    """Of its deadline; names the run."""
    return Timer(job.deadline_at, TimerKind.DEADLINE, key, job.run)


def retention_timer(key: str, job: Job) -> Timer:
    """Of its leaving the store; names the run."""
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
    """Keep the queue's number of jobs by state, as one comes (None before), goes (None now) or moves."""
    row = state.queue(queue) or Queue([0] * (max(JobState) + 1))
    if before is not None:
        row.counts[before] -= 1
    if now is not None:
        row.counts[now] += 1
    state.save_queue(queue, row)


def _end(state: State, event: e.Event, key: str, job: Job) -> None:
    if job.deadline_at:
        state.clear_timer(deadline_timer(key, job))
    job.ended_at = event.at
    job.session = ""
    job.stopping = ""
    state.set_timer(retention_timer(key, job))
    for waiter in job.waiters:
        tell_outcome(state, event, key, job, waiter)
    job.waiters = []


def keep_checkpoint(state: State, event: e.AttemptCheckpointed, key: str, job: Job) -> None:
    """Store how far the run has come; what the event leaves open stays as it was."""
    assert job.state in LIFECYCLE[type(event)]
    before = state.checkpoint(key) if job.checkpoint_at else Checkpoint()
    progress = event.progress if event.progress >= 0 else before.progress
    state.save_checkpoint(key, Checkpoint(event.data or before.data, progress, event.text or before.text))
    job.checkpoint_at = event.at
    state.save_job(key, job)


def drop_checkpoint(state: State, key: str, job: Job) -> None:
    """The run needs it no more."""
    if job.checkpoint_at:
        state.drop_checkpoint(key)
        job.checkpoint_at = 0


def tell_outcome(state: State, event: e.Event, key: str, job: Job, waiter: str) -> None:
    """Put how the run ended into the outbox, for one client that waits."""
    outcome = state.outcome(key)
    state.push(
        Message(
            MessageKind.OUTCOME,
            waiter,
            0,
            queue=event.queue,
            job_id=event.job_id,
            run=job.run,
            code=job.reason,
            text=outcome.error,
            state=job.state,
            body=outcome.result,
            attempt=outcome.exit_code,
        )
    )


def tell_session(state: State, name: str, kind: MessageKind, **fields: Any) -> None:
    """Put a message to a worker session into the outbox, under the session's next number."""
    session = state.session(name)
    assert session is not None
    session.sent += 1
    state.save_session(name, session)
    state.push(Message(kind, name, session.sent, lane=session.lane, **fields))
