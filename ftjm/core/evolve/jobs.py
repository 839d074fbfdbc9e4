"""Events of a job: submitted, queued, held, released, stopped, ended, run again, forgotten."""

from ftjm.core import ageing
from ftjm.core.evolve import keys, schedules, shares
from ftjm.core.evolve.transitions import (
    IN_LINE,
    count,
    deadline_timer,
    drop_checkpoint,
    enter,
    existing_job,
    look_next,
    move,
    next_number,
    push_outcome,
    retention_timer,
)
from ftjm.core.identity import unpack_content
from ftjm.core.job_gates import state_at_gates
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.limits import COMMAND_ID_MEMORY_MS
from ftjm.core.records import events as e
from ftjm.core.state.model import DEAD, TERMINAL, Ahead, Job, JobState, Outcome
from ftjm.core.state.outbox import StopMessage
from ftjm.core.state.processes import ProcessKind, Reorder
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.core.waiting_limits import limits_of, next_look, waits_since

WAITERS_MAX = 8
"""Clients that can wait for one job's outcome. The newest are kept."""


def submitted(state: State, event: e.JobSubmitted, key: str) -> None:
    """A new job is created, with its first run."""
    spec = event.spec
    content_version, content = unpack_content(event.content)
    state.counters.order += 1
    state.save_counters()
    job = Job(
        JobState.READY,
        order=state.counters.order,
        priority=spec.priority,
        shard_key=event.shard_key,
        content=content,
        content_version=content_version,
        continue_for_ms=spec.continue_for_ms,
        retention_ms=spec.retention_ms,
        submitted_at=event.at,
        due_at=event.due_at,
        deadline_at=event.deadline_at,
        concurrency_key=spec.concurrency_key,
        share=spec.share_identifier,
    )
    job.state = state_at_gates(state, event.queue, job, event.at, held=spec.held)
    if event.awaits and event.reply:
        _add_waiter(job, event)
    assert job.state in LIFECYCLE[e.JobSubmitted][None]
    enter(state, event, key, job)
    if job.concurrency_key:
        keys.moved(state, event, key, job, None, 0)
    count(state, event.queue, None, job.state)
    if job.share:
        shares.joined(state, event.queue, job.share)
    if job.deadline_at:
        state.set_timer(deadline_timer(key, job))
    state.save_job(key, job)
    state.save_spec(key, spec)


def repeated(state: State, event: e.SubmissionRepeated, key: str) -> None:
    """The same job was submitted again: nothing changes, but the client may wait for its outcome."""
    job = existing_job(state, event, key)
    if not event.awaits or not event.reply:
        return
    if job.state in TERMINAL:
        push_outcome(state, event, key, job, event.reply)
    else:
        _add_waiter(job, event)
        state.save_job(key, job)


def queued(state: State, event: e.JobQueued, key: str) -> None:
    """The job has its concurrency key; or its start time or backoff has passed, and it is at the next gate."""
    job = existing_job(state, event, key)
    if job.state is JobState.PENDING:
        move(state, event, key, job, JobState.READY)
    else:
        move(state, event, key, job, state_at_gates(state, event.queue, job, max(event.at, job.due_at)))


def parked(state: State, event: e.JobParked, key: str) -> None:
    """The job gives its concurrency key up and waits for it. One that has found it taken waits already.

    (Not where the events of this job alone are folded: then no other job is known to have the key.)
    """
    job = existing_job(state, event, key)
    if job.state is not JobState.PENDING:
        move(state, event, key, job, JobState.PENDING)


def held(state: State, event: e.JobHeld, key: str) -> None:
    """The job does not start until it is released."""
    job = existing_job(state, event, key)
    job.reason = event.reason
    move(state, event, key, job, JobState.HELD)


def released(state: State, event: e.JobReleased, key: str) -> None:
    """The job is ready, or waits at another of its gates."""
    job = existing_job(state, event, key)
    job.reason = ""
    move(state, event, key, job, state_at_gates(state, event.queue, job, event.at))


def stop_requested(state: State, event: e.JobStopRequested, key: str) -> None:
    """The outbox carries the request to stop to the worker that runs the job."""
    job = existing_job(state, event, key)
    assert job.state in LIFECYCLE[type(event)]
    assert job.attempt == event.attempt
    job.stopping = event.reason
    if job.deadline_at and job.is_ending:
        # The attempt is being stopped already, so the deadline no longer matters.
        state.clear_timer(deadline_timer(key, job))
        job.deadline_at = 0
    state.save_job(key, job)
    number, lane = next_number(state, job.session)
    state.push(
        StopMessage(job.session, number, lane, event.queue, event.job_id, event.attempt, event.reason, event.grace_ms)
    )


def cancelled(state: State, event: e.JobCancelled, key: str) -> None:
    """The job is CANCELLED."""
    job = existing_job(state, event, key)
    job.reason = event.reason
    move(state, event, key, job, JobState.CANCELLED)


def failed(state: State, event: e.JobFailed, key: str) -> None:
    """The job is FAILED."""
    job = existing_job(state, event, key)
    job.reason = event.reason
    if event.error:
        outcome = state.outcome(key)
        state.save_outcome(key, Outcome(outcome.result, outcome.exit_code, event.error))
    move(state, event, key, job, JobState.FAILED)


def reviewed(state: State, event: e.JobStuck | e.JobReviewed, key: str) -> None:
    """The job waits on, and is looked at again."""
    job = existing_job(state, event, key)
    assert job.state in LIFECYCLE[type(event)]
    look_next(state, key, job, event.next_at)
    state.save_job(key, job)


def skipped(state: State, event: e.JobSkipped, key: str) -> None:
    """The job is SKIPPED."""
    job = existing_job(state, event, key)
    job.reason = event.reason
    move(state, event, key, job, JobState.SKIPPED)


def rerun(state: State, event: e.JobRerun, key: str) -> None:
    """A new run begins: counters, times and results of the run before are cleared."""
    job = existing_job(state, event, key)
    assert event.run == job.run + 1
    state.clear_timer(retention_timer(key, job))
    state.drop_outcome(key)
    drop_checkpoint(state, key, job)
    if job.state in DEAD:
        job.retention_ms = state.spec(key).retention_ms
    job.run = event.run
    job.failures = job.losses = 0
    job.ahead = Ahead.NO
    job.eligible_at = event.at if ageing.is_known(state.finalized) else 0
    job.due_at = job.dispatched_at = job.started_at = job.ended_at = 0
    job.deadline_at = event.deadline_at
    job.reason = ""
    state.counters.order += 1
    state.save_counters()
    job.order = state.counters.order
    move(state, event, key, job, state_at_gates(state, event.queue, job, event.at))
    if job.schedule:
        schedules.job_moved(state, event, job)
    if job.deadline_at:
        state.set_timer(deadline_timer(key, job))
    state.remember(event.command_id)
    state.set_timer(Timer(event.at + COMMAND_ID_MEMORY_MS, TimerKind.COMMAND_ID, event.command_id))


def prioritized(state: State, event: e.JobPrioritized, key: str) -> None:
    """The job has another priority. One that waits gets another place in its queue."""
    job = existing_job(state, event, key)
    assert job.state in LIFECYCLE[type(event)]
    job.priority = event.priority
    if job.state in IN_LINE:
        job.eligible_at = ageing.eligible_since(job, job.ready_at)
        _place(state, key, job)
    state.save_job(key, job)


def forgotten(state: State, event: e.JobForgotten, key: str) -> None:
    """The ended job is removed from the store with all its rows."""
    job = existing_job(state, event, key)
    assert job.state in LIFECYCLE[type(event)]
    state.clear_timer(retention_timer(key, job))
    if job.share:
        shares.left(state, event.queue, job.share)
    count(state, event.queue, job.state, None)
    drop_checkpoint(state, key, job)
    state.drop_job(key)


def reordered(state: State, event: e.QueueReordered, _key: str) -> None:
    """Waiting jobs have the place that they would get if they became eligible again (see `ftjm.core.ageing`), and are
    looked at when the limits of their queue say so."""
    for key in event.jobs:
        job = state.job(key)
        assert job is not None
        assert job.state in IN_LINE, f"{key} has no place in its queue"
        job.eligible_at = ageing.eligible_since(job, job.ready_at)
        _place(state, key, job)
        limits = limits_of(state.declaration(key.partition("/")[0]))
        if not 0 < job.look_at <= event.at:  # else it is about to be looked at
            look_next(state, key, job, next_look(limits, waits_since(job), event.at))
        state.save_job(key, job)
    assert state.process(ProcessKind.REORDER, event.queue) is not None
    if event.next_key:
        state.save_process(ProcessKind.REORDER, event.queue, Reorder(event.next_key))
    else:
        state.drop_process(ProcessKind.REORDER, event.queue)


def _place(state: State, key: str, job: Job) -> None:
    """Give a waiting job the place that follows from its row and from its queue's ageing."""
    queue, _, job_id = key.partition("/")
    before, job.score = job.score, ageing.score(state.finalized, state.declaration(queue), job)
    if job.state is JobState.READY:
        state.remove_ready(queue, before, job.order, job.share)
        state.add_ready(queue, job_id, job.score, job.order, job.share)
    if job.concurrency_key:
        keys.place_changed(state, key, job, before)


def _add_waiter(job: Job, event: e.Event) -> None:
    job.waiters = (*(w for w in job.waiters if w != event.reply), event.reply)[-WAITERS_MAX:]
