"""`evolve` records: the one place where state is made, live and in replay alike."""

from collections.abc import Callable
from typing import Any

from ftjm.core import events as e
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.model import (
    TERMINAL,
    Job,
    JobState,
    Message,
    MessageKind,
    Outcome,
    Session,
    Timer,
    TimerKind,
    job_key,
)
from ftjm.core.moves import (
    count,
    deadline_timer,
    drop_checkpoint,
    enter,
    keep_checkpoint,
    move,
    retention_timer,
    tell_outcome,
    tell_session,
)
from ftjm.core.state import State

DAY_MS = 86_400_000
COMMAND_ID_MEMORY_MS = DAY_MS
SESSION_MEMORY_MS = DAY_MS
"""How long a lost session is remembered, so that it can never be given work again."""
WAITERS_MAX = 8


def evolve(state: State, event: e.Event) -> None:
    """Make `event` true in `state`.

    Raises:
        AssertionError: if it cannot have happened there. The log is the truth, so the partition must stop.
    """
    key = job_key(event.queue, event.job_id)
    _HANDLERS[type(event)](state, event, key)
    if event.reply:
        _answer(state, event, key)


def _answer(state: State, event: e.Event, key: str) -> None:
    code, text = (event.code, event.text) if isinstance(event, e.CommandRejected) else ("", "")
    job = state.job(key)
    state.push(
        Message(
            MessageKind.REPLY,
            event.reply,
            0,
            queue=event.queue,
            job_id=event.job_id,
            run=job.run if job else event.run,
            code=code,
            text=text,
            state=job.state if job else 0,
        )
    )


def _job(state: State, event: e.Event, key: str) -> Job:
    job = state.job(key)
    assert job is not None, f"{type(event).__name__} of {event.queue}/{event.job_id}, which does not exist"
    return job


def _await(job: Job, event: e.Event) -> None:
    job.waiters = [*(w for w in job.waiters if w != event.reply), event.reply][-WAITERS_MAX:]


def _submitted(state: State, event: e.JobSubmitted, key: str) -> None:
    spec = event.spec
    state.counters.order += 1
    state.save_counters()
    job = Job(
        JobState.HELD if spec.held else JobState.SCHEDULED if event.due_at > event.at else JobState.READY,
        order=state.counters.order,
        priority=spec.priority,
        shard_key=event.shard_key,
        content=event.content,
        continue_for_ms=spec.continue_for_ms,
        retention_ms=spec.retention_ms,
        submitted_at=event.at,
        due_at=event.due_at,
        deadline_at=event.deadline_at,
    )
    if event.awaits and event.reply:
        _await(job, event)
    assert job.state in LIFECYCLE[e.JobSubmitted][None]
    enter(state, event, key, job)
    count(state, event.queue, None, job.state)
    if job.deadline_at:
        state.set_timer(deadline_timer(key, job))
    state.save_job(key, job)
    state.save_spec(key, spec)


def _repeated(state: State, event: e.SubmissionRepeated, key: str) -> None:
    job = _job(state, event, key)
    if not event.awaits or not event.reply:
        return
    if job.state in TERMINAL:
        tell_outcome(state, event, key, job, event.reply)
    else:
        _await(job, event)
        state.save_job(key, job)


def _queued(state: State, event: e.JobQueued, key: str) -> None:
    move(state, event, key, _job(state, event, key), JobState.READY)


def _held(state: State, event: e.JobHeld, key: str) -> None:
    job = _job(state, event, key)
    job.reason = event.reason
    move(state, event, key, job, JobState.HELD)


def _released(state: State, event: e.JobReleased, key: str) -> None:
    job = _job(state, event, key)
    job.reason = ""
    if job.due_at <= event.at:
        move(state, event, key, job, JobState.READY)
    else:
        move(state, event, key, job, JobState.RETRY_WAIT if job.attempt else JobState.SCHEDULED)


def _stop_requested(state: State, event: e.JobStopRequested, key: str) -> None:
    job = _job(state, event, key)
    assert job.state in LIFECYCLE[type(event)]
    assert job.attempt == event.attempt
    job.stopping = event.reason
    if job.deadline_at:
        # It is being stopped already: the deadline has nothing more to say.
        state.clear_timer(deadline_timer(key, job))
        job.deadline_at = 0
    state.save_job(key, job)
    tell_session(
        state,
        job.session,
        MessageKind.STOP,
        queue=event.queue,
        job_id=event.job_id,
        attempt=event.attempt,
        code=event.reason,
        grace_ms=event.grace_ms,
    )


def _cancelled(state: State, event: e.JobCancelled, key: str) -> None:
    job = _job(state, event, key)
    job.reason = event.reason
    move(state, event, key, job, JobState.CANCELLED)


def _failed(state: State, event: e.JobFailed, key: str) -> None:
    job = _job(state, event, key)
    job.reason = event.reason
    if event.error:
        outcome = state.outcome(key)
        state.save_outcome(key, Outcome(outcome.result, outcome.exit_code, event.error))
    move(state, event, key, job, JobState.FAILED)


def _rerun(state: State, event: e.JobRerun, key: str) -> None:
    job = _job(state, event, key)
    assert event.run == job.run + 1
    state.clear_timer(retention_timer(key, job))
    state.drop_outcome(key)
    drop_checkpoint(state, key, job)
    job.run = event.run
    job.failures = job.losses = 0
    job.dispatched_at = job.started_at = job.ended_at = 0
    job.deadline_at = event.deadline_at
    job.reason = ""
    state.counters.order += 1
    state.save_counters()
    job.order = state.counters.order
    move(state, event, key, job, JobState.READY)
    if job.deadline_at:
        state.set_timer(deadline_timer(key, job))
    state.remember(event.command_id)
    state.set_timer(Timer(event.at + COMMAND_ID_MEMORY_MS, TimerKind.COMMAND_ID, event.command_id))


def _forgotten(state: State, event: e.JobForgotten, key: str) -> None:
    job = _job(state, event, key)
    assert job.state in LIFECYCLE[type(event)]
    state.clear_timer(retention_timer(key, job))
    count(state, event.queue, job.state, None)
    drop_checkpoint(state, key, job)
    state.drop_job(key)


def _dispatched(state: State, event: e.AttemptDispatched, key: str) -> None:
    job = _job(state, event, key)
    assert event.attempt == job.attempt + 1
    session = state.session(event.session)
    if session is None:
        state.save_session(event.session, Session(event.worker, event.lane, event.lease_ms))
    else:
        assert not session.lost, f"session {event.session} is over"
    job.attempt = event.attempt
    job.session = event.session
    job.dispatched_at = event.at
    job.started_at = 0
    move(state, event, key, job, JobState.DISPATCHED)
    tell_session(state, event.session, MessageKind.RUN, queue=event.queue, job_id=event.job_id, attempt=event.attempt)


def _current(state: State, event: Any, key: str) -> Job:
    """The job of an event that speaks of its current attempt."""
    job = _job(state, event, key)
    assert (job.attempt, job.session) == (event.attempt, event.session), f"a stale attempt in {event}"
    return job


def _started(state: State, event: e.AttemptStarted, key: str) -> None:
    job = _current(state, event, key)
    job.started_at = event.started_at
    move(state, event, key, job, JobState.RUNNING)


def _checkpointed(state: State, event: e.AttemptCheckpointed, key: str) -> None:
    keep_checkpoint(state, event, key, _current(state, event, key))


def _succeeded(state: State, event: e.AttemptSucceeded, key: str) -> None:
    job = _current(state, event, key)
    drop_checkpoint(state, key, job)
    job.started_at = event.started_at
    job.reason = ""
    if event.result:
        state.save_outcome(key, Outcome(event.result, event.exit_code))
    elif job.failures:
        state.drop_outcome(key)
    move(state, event, key, job, JobState.SUCCEEDED)


def _attempt_failed(state: State, event: e.AttemptFailed, key: str) -> None:
    job = _current(state, event, key)
    job.failures += 1
    job.started_at = event.started_at
    job.reason = event.reason
    if event.exit_code or event.error:
        outcome = Outcome(exit_code=event.exit_code, error=event.error)
        state.save_outcome(key, outcome)
    _again(state, event, key, job, event.retry_at)


def _attempt_lost(state: State, event: e.AttemptLost, key: str) -> None:
    job = _current(state, event, key)
    job.losses += 1
    job.reason = event.reason
    _again(state, event, key, job, event.retry_at)


def _again(state: State, event: e.Event, key: str, job: Job, retry_at: int) -> None:
    """On to the next attempt, or, with no `retry_at`, to whatever event follows."""
    job.due_at = retry_at
    ready = 0 < retry_at <= event.at
    move(state, event, key, job, JobState.READY if ready else JobState.RETRY_WAIT)
    job.session = ""


def _declined(state: State, event: e.AttemptDeclined, key: str) -> None:
    job = _current(state, event, key)
    move(state, event, key, job, JobState.READY)
    job.session = ""


def _worker_lost(state: State, event: e.WorkerLost, _key: str) -> None:
    session = state.session(event.session)
    assert session is not None
    assert not session.lost
    session.lost = True
    state.save_session(event.session, session)
    if not event.closed:
        tell_session(state, event.session, MessageKind.CLOSE)
    state.set_timer(Timer(event.at + SESSION_MEMORY_MS, TimerKind.SESSION, event.session))


def _worker_forgotten(state: State, event: e.WorkerForgotten, _key: str) -> None:
    state.drop_session(event.session)
    state.clear_timer(Timer(int(event.cause_ref), TimerKind.SESSION, event.session))


def _rejected(state: State, event: e.CommandRejected, key: str) -> None:
    """Leaves no trace in the state but the answer to its sender."""


def _forwarded(state: State, event: e.CommandForwarded, _key: str) -> None:
    peer = state.peer(event.partition)
    peer.sent += 1
    state.save_peer(event.partition, peer)
    state.push(Message(MessageKind.FORWARD, str(event.partition), peer.sent, body=event.body, reply=event.reply_to))


def _forward_received(state: State, event: e.ForwardReceived, _key: str) -> None:
    peer = state.peer(event.source)
    assert event.number > peer.received  # and not the next one only where the log has lost some
    peer.received = event.number
    state.save_peer(event.source, peer)


def _command_id_forgotten(state: State, event: e.CommandIdForgotten, _key: str) -> None:
    state.forget(event.command_id)
    state.clear_timer(Timer(int(event.cause_ref), TimerKind.COMMAND_ID, event.command_id))


_HANDLERS: dict[type[e.Event], Callable[[State, Any, str], None]] = {
    e.JobSubmitted: _submitted,
    e.SubmissionRepeated: _repeated,
    e.JobQueued: _queued,
    e.JobHeld: _held,
    e.JobReleased: _released,
    e.JobStopRequested: _stop_requested,
    e.JobCancelled: _cancelled,
    e.JobFailed: _failed,
    e.JobRerun: _rerun,
    e.JobForgotten: _forgotten,
    e.AttemptDispatched: _dispatched,
    e.AttemptStarted: _started,
    e.AttemptCheckpointed: _checkpointed,
    e.AttemptSucceeded: _succeeded,
    e.AttemptFailed: _attempt_failed,
    e.AttemptLost: _attempt_lost,
    e.AttemptDeclined: _declined,
    e.WorkerLost: _worker_lost,
    e.WorkerForgotten: _worker_forgotten,
    e.CommandRejected: _rejected,
    e.CommandForwarded: _forwarded,
    e.ForwardReceived: _forward_received,
    e.CommandIdForgotten: _command_id_forgotten,
}
