"""Events of an attempt: dispatched, started, checkpointed, ended, lost, stopped, declined.

**Attempts that are sent ahead** of a free slot carry a mark in the job's row until they are known to have started:

    AttemptDispatched(ahead)  UNSTARTED ──► started, checkpointed, an outcome   NO
                                        └─► declined, or its session is given up   NEVER again in this run

If such an attempt is lost with its session, nobody knows whether it has started. The loss is not charged, since the
job may have waited for another one. The run's next attempts go to free slots only, and their losses are charged. So a
job that ends its worker costs one more attempt, and not one more without end.
"""

from typing import Any

from ftjm.core.evolve import shares
from ftjm.core.evolve.transitions import drop_checkpoint, existing_job, keep_checkpoint, move, next_number
from ftjm.core.losses import SESSION_LOSSES, is_charged
from ftjm.core.queue_gates import used_by_start
from ftjm.core.records import events as e
from ftjm.core.state.model import Ahead, Job, JobState, Outcome, Session
from ftjm.core.state.outbox import RunMessage
from ftjm.core.state.state import State


def dispatched(state: State, event: e.AttemptDispatched, key: str) -> None:
    """The job is bound to a slot of the session, and the outbox carries the attempt to its worker."""
    job = existing_job(state, event, key)
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
    counts = state.queue(event.queue)
    if counts is not None and counts.shared:
        shares.dispatched(state, event, counts, job)
    if event.ahead:
        assert job.ahead is Ahead.NO, f"{key} is for free slots only"
        job.ahead = Ahead.UNSTARTED
    move(state, event, key, job, JobState.DISPATCHED)
    declaration = state.declaration(event.queue)
    if declaration is not None and declaration.spec.rate_limit:
        rate = used_by_start(declaration.spec, state.queue_rate(event.queue), event.at)
        state.save_queue_rate(event.queue, rate)
    number, lane = next_number(state, event.session)
    state.push(RunMessage(event.session, number, lane, event.queue, event.job_id, event.attempt))


def started(state: State, event: e.AttemptStarted, key: str) -> None:
    """The worker has started the attempt."""
    job = _job_of_attempt(state, event, key)
    job.started_at = event.started_at
    _has_started(job)
    move(state, event, key, job, JobState.RUNNING)


def checkpointed(state: State, event: e.AttemptCheckpointed, key: str) -> None:
    """The attempt has reported its checkpoint or progress."""
    job = _job_of_attempt(state, event, key)
    _has_started(job)
    keep_checkpoint(state, event, key, job)


def succeeded(state: State, event: e.AttemptSucceeded, key: str) -> None:
    """The attempt has reached the run's result: the job is SUCCEEDED."""
    job = _job_of_attempt(state, event, key)
    drop_checkpoint(state, key, job)
    job.started_at = event.started_at
    _has_started(job)
    job.reason = ""
    if event.result:
        state.save_outcome(key, Outcome(event.result, event.exit_code))
    elif job.failures:
        state.drop_outcome(key)
    move(state, event, key, job, JobState.SUCCEEDED)


def failed(state: State, event: e.AttemptFailed, key: str) -> None:
    """The attempt has failed, and counts against `max_attempts`."""
    job = _job_of_attempt(state, event, key)
    job.failures += 1
    job.started_at = event.started_at
    _has_started(job)
    job.reason = event.reason
    if event.exit_code or event.error:
        outcome = Outcome(exit_code=event.exit_code, error=event.error)
        state.save_outcome(key, outcome)
    _next_attempt(state, event, key, job, event.retry_at)


def lost(state: State, event: e.AttemptLost, key: str) -> None:
    """The attempt was lost with its worker. The loss counts against `worker_losses_max`, if `is_charged` says so."""
    job = _job_of_attempt(state, event, key)
    if is_charged(job, event.reason):
        job.losses += 1
    if event.reason in SESSION_LOSSES:
        _never_ahead_again(job)
    _has_started(job)
    job.reason = event.reason
    _next_attempt(state, event, key, job, event.retry_at)


def stopped(state: State, event: e.AttemptStopped, key: str) -> None:
    """The worker has stopped the attempt, as windows say: the job returns to its place in the queue."""
    job = _job_of_attempt(state, event, key)
    job.started_at = event.started_at
    _has_started(job)
    _back_in_line(state, event, key, job)


def declined(state: State, event: e.AttemptDeclined, key: str) -> None:
    """The worker sent the attempt back: the job returns to its place in the queue."""
    job = _job_of_attempt(state, event, key)
    _never_ahead_again(job)
    _back_in_line(state, event, key, job)


def _back_in_line(state: State, event: e.Event, key: str, job: Job) -> None:
    move(state, event, key, job, JobState.READY)
    job.session = job.stopping = ""


def _has_started(job: Job) -> None:
    """The current attempt is known to have started, or is over."""
    if job.ahead is Ahead.UNSTARTED:
        job.ahead = Ahead.NO


def _never_ahead_again(job: Job) -> None:
    """If the current attempt was sent ahead, the run's later ones are not."""
    if job.ahead is Ahead.UNSTARTED:
        job.ahead = Ahead.NEVER


def _job_of_attempt(state: State, event: Any, key: str) -> Job:
    """The job of the event, whose current attempt must be the event's."""
    job = existing_job(state, event, key)
    assert (job.attempt, job.session) == (event.attempt, event.session), f"a stale attempt in {event}"
    return job


def _next_attempt(state: State, event: e.Event, key: str, job: Job, retry_at: int) -> None:
    """Leave the slot, and wait for the next attempt until `retry_at`.

    A `retry_at` of 0 means that no attempt follows: the next event of the batch ends the job or holds it.
    """
    job.due_at = retry_at
    ready = 0 < retry_at <= event.at
    if not job.is_ending:
        job.stopping = ""
    move(state, event, key, job, JobState.READY if ready else JobState.RETRY_WAIT)
    job.session = ""
