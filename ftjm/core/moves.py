"""A move of a job from state to state, and what follows from it alone: counts, queue, timers, slots, outcomes."""

from typing import Any

from ftjm.core import events as e
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.model import (
    TERMINAL,
    Checkpoint,
    Job,
    JobState,
    Message,
    MessageKind,
    Queue,
    Timer,
    TimerKind,
    job_key,
)
from ftjm.core.state import State


def move(state: State, event: e.Event, job: Job, to: JobState) -> None:
    """Bring a job from its state to another: counts, ready queue and timer follow from the two."""
    key = job_key(event.queue, event.job_id)
    before = job.state
    allowed = LIFECYCLE[type(event)].get(before, frozenset())
    assert to in allowed, f"{type(event).__name__} cannot take {key} from {before.name} to {to.name}"
    _leave(state, event, key, job)
    job.state = to
    count(state, event.queue, before, -1)
    enter(state, event, key, job)
    state.save_job(key, job)


def _leave(state: State, event: e.Event, key: str, job: Job) -> None:
    match job.state:
        case JobState.READY:
            state.remove_ready(event.queue, job.priority, job.order)
        case JobState.SCHEDULED | JobState.RETRY_WAIT if job.due_at:
            state.clear_timer(due_timer(key, job))
        case JobState.DISPATCHED | JobState.RUNNING:
            _release_slot(state, key, job)
        case _:
            pass


def enter(state: State, event: e.Event, key: str, job: Job) -> None:
    """Make true what its state implies."""
    count(state, event.queue, job.state, 1)
    match job.state:
        case JobState.READY:
            job.ready_at = event.at
            job.due_at = 0
            state.add_ready(event.queue, event.job_id, job.priority, job.order)
        case JobState.SCHEDULED | JobState.RETRY_WAIT if job.due_at:
            state.set_timer(due_timer(key, job))
        case JobState.DISPATCHED | JobState.RUNNING:
            _take_slot(state, key, job)
        case ended if ended in TERMINAL:
            _end(state, event, key, job)
        case _:
            pass


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


def count(state: State, queue: str, which: JobState, by: int) -> None:
    """Keep the queue's number of jobs by state."""
    row = state.queue(queue) or Queue([0] * (max(JobState) + 1))
    row.counts[which] += by
    state.save_queue(queue, row)


def _end(state: State, event: e.Event, key: str, job: Job) -> None:
    if job.deadline_at:
        state.clear_timer(deadline_timer(key, job))
    job.ended_at = event.at
    job.session = ""
    job.stopping = ""
    state.set_timer(retention_timer(key, job))
    for waiter in job.waiters:
        tell_outcome(state, event, job, waiter)
    job.waiters = []


def keep_checkpoint(state: State, event: e.AttemptCheckpointed, job: Job) -> None:
    """Store how far the run has come; what the event leaves open stays as it was."""
    key = job_key(event.queue, event.job_id)
    assert job.state in LIFECYCLE[type(event)]
    before = state.checkpoint(key) if job.checkpoint_at else Checkpoint()
    progress = event.progress if event.progress >= 0 else before.progress
    state.save_checkpoint(key, Checkpoint(event.data or before.data, progress, event.text or before.text))
    job.checkpoint_at = event.at
    state.save_job(key, job)


def drop_checkpoint(state: State, event: e.Event, job: Job) -> None:
    """The run needs it no more."""
    if job.checkpoint_at:
        state.drop_checkpoint(job_key(event.queue, event.job_id))
        job.checkpoint_at = 0


def tell_outcome(state: State, event: e.Event, job: Job, waiter: str) -> None:
    """Put how the run ended into the outbox, for one client that waits."""
    outcome = state.outcome(job_key(event.queue, event.job_id))
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
