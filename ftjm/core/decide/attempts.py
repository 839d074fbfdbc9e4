"""Decisions about attempts: what their workers report, and what follows for the job when an attempt ends or is lost."""

from typing import Any

from ftjm.core.backoff import backoff_ms, loss_backoff_ms
from ftjm.core.decide.decision import Events, Policy, Rejected, about, unknown, wrong_state
from ftjm.core.lifecycle import may
from ftjm.core.limits import CHECKPOINT_BYTES_MAX, PROGRESS_TEXT_MAX
from ftjm.core.losses import is_charged
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import LIVE, LOSSES, FailureReason, Job, OnWorkerLoss, StopReason, job_key
from ftjm.core.state.view import StateView


def _reported(state: StateView, command: c.AttemptReport) -> Job | Rejected:
    """The job whose current attempt the report is about, or a refusal."""
    job = state.job(job_key(command.queue, command.job_id))
    if job is None:
        return unknown(command)
    if job.state not in LIVE or job.attempt != command.attempt or job.session != command.session:
        return Rejected(
            "STALE_ATTEMPT",
            f"expected a report of the current attempt of {command.queue}/{command.job_id}, but attempt "
            f"{command.attempt} (session {command.session}) is over; the job is {job.state.name} in attempt "
            f"{job.attempt}",
        )
    return job


def start(state: StateView, command: c.StartAttempt, now: int, policy: Policy) -> Events | Rejected:
    """The worker has started the attempt: `AttemptStarted`."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if not may(e.AttemptStarted, job.state):
        return wrong_state(command, job, "DISPATCHED")
    return [
        e.AttemptStarted(
            queue=command.queue,
            job_id=command.job_id,
            shard_key=job.shard_key,
            run=job.run,
            attempt=job.attempt,
            session=job.session,
            started_at=command.started_at,
        )
    ]


def checkpoint(state: StateView, command: c.CheckpointAttempt, now: int, policy: Policy) -> Events | Rejected:
    """The attempt reports how far it has come: `AttemptCheckpointed`. The worker limits how often it reports."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if (size := len(command.data)) > CHECKPOINT_BYTES_MAX:
        text = f"expected a checkpoint of at most {CHECKPOINT_BYTES_MAX} bytes, but found {size}"
        return Rejected("TOO_LARGE", f"{text}; store the data elsewhere, and put its location into the checkpoint")
    return [
        e.AttemptCheckpointed(
            **about(job_key(command.queue, command.job_id), job),
            attempt=job.attempt,
            session=job.session,
            data=command.data,
            progress=command.progress if 0 <= command.progress <= 1 else -1.0,
            text=command.text[:PROGRESS_TEXT_MAX],
        )
    ]


def complete(state: StateView, command: c.CompleteAttempt, now: int, policy: Policy) -> Events | Rejected:
    """The attempt succeeded, and with it the run: `AttemptSucceeded`. A result over the limit makes it a failure."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if (size := len(command.result)) > policy.inline_bytes_max:
        error = (
            f"expected a result of at most {policy.inline_bytes_max} bytes, but found {size}; store the data "
            f"elsewhere and return its location, or raise inline_limit_bytes"
        )
        return _failure(state, job, command, FailureReason.RESULT_REFUSED, error, now, policy)
    limit = policy.inline_bytes_max
    stdout, stderr = command.stdout, command.stderr
    return [
        e.AttemptSucceeded(
            queue=command.queue,
            job_id=command.job_id,
            shard_key=job.shard_key,
            run=job.run,
            attempt=job.attempt,
            session=job.session,
            started_at=command.started_at,
            ended_at=command.ended_at,
            exit_code=command.exit_code,
            result=command.result,
            stdout=stdout[-limit:],
            stderr=stderr[-limit:],
            stdout_cut=command.stdout_cut + _beyond(stdout, limit),
            stderr_cut=command.stderr_cut + _beyond(stderr, limit),
        )
    ]


def _beyond(output: bytes, limit: int) -> int:
    """The bytes of an output before its last `limit` ones, in case the worker sent more: only these are kept."""
    return max(0, len(output) - limit)


def _output(report: c.CompleteAttempt | c.FailAttempt, policy: Policy) -> dict[str, Any]:
    """The output fields."""
    limit = policy.inline_bytes_max
    return {
        "stdout": report.stdout[-limit:],
        "stderr": report.stderr[-limit:],
        "stdout_cut": report.stdout_cut + _beyond(report.stdout, limit),
        "stderr_cut": report.stderr_cut + _beyond(report.stderr, limit),
    }


def fail(state: StateView, command: c.FailAttempt, now: int, policy: Policy) -> Events | Rejected:
    """The attempt did not succeed: `AttemptFailed`; `AttemptLost` if the reason is the worker's and not the job's;
    `AttemptStopped` if it was stopped because of a window."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if command.reason in LOSSES:
        return lost(state, job_key(command.queue, command.job_id), job, command.reason, now)
    if command.reason is FailureReason.STOPPED and job.stopping == StopReason.WINDOW:
        return [_stopped(job, command, policy)]
    return _failure(state, job, command, command.reason, command.error, now, policy)


def _stopped(job: Job, report: c.FailAttempt, policy: Policy) -> e.Event:
    return e.AttemptStopped(
        **about(job_key(report.queue, report.job_id), job),
        attempt=job.attempt,
        session=job.session,
        started_at=report.started_at,
        ended_at=report.ended_at,
        exit_code=report.exit_code,
        signal=report.signal,
        **_output(report, policy),
    )


def _failure(
    state: StateView,
    job: Job,
    report: c.CompleteAttempt | c.FailAttempt,
    reason: FailureReason,
    error: str,
    now: int,
    policy: Policy,
) -> Events:
    key = job_key(report.queue, report.job_id)
    spec = state.spec(key)
    failures = job.failures + 1
    # An attempt whose result is refused has done its work. Another one would have the same effects and the same result.
    again = not job.is_ending and failures < spec.max_attempts and reason is not FailureReason.RESULT_REFUSED
    failed = e.AttemptFailed(
        **about(key, job),
        attempt=job.attempt,
        session=job.session,
        started_at=report.started_at,
        ended_at=report.ended_at,
        reason=reason,
        error=error,
        exit_code=report.exit_code,
        signal=report.signal if isinstance(report, c.FailAttempt) else 0,
        retry_at=now + backoff_ms(spec, key, job.run, failures) if again else 0,
        **_output(report, policy),
    )
    return [failed] if again else [failed, _final_event(key, job, reason, error)]


def _final_event(key: str, job: Job, reason: str, error: str) -> e.Event:
    """The event that ends a job which gets no further attempt."""
    if job.stopping == StopReason.CANCELLED:
        return e.JobCancelled(**about(key, job), reason=StopReason.CANCELLED)
    return e.JobFailed(**about(key, job), reason=job.stopping if job.is_ending else reason, error=error)


def lost(state: StateView, key: str, job: Job, reason: str, now: int) -> Events:
    """The events that follow when an attempt is lost with its worker. `on_worker_loss` decides how the job continues.

    The loss does not count against `max_attempts`, but after `worker_losses_max` losses in a run the job fails. A loss
    beside another attempt, which is suspected to have caused it, counts against neither, nor does the loss of an
    attempt that was sent ahead and is not known to have started.
    """
    spec = state.spec(key)
    losses = job.losses + is_charged(job, reason)
    over = losses > spec.worker_losses_max
    again = not job.is_ending and spec.on_worker_loss is OnWorkerLoss.REQUEUE and not over
    event = e.AttemptLost(
        **about(key, job),
        attempt=job.attempt,
        session=job.session,
        reason=reason,
        retry_at=now + loss_backoff_ms(losses) if again else 0,
    )
    if again:
        return [event]
    if spec.on_worker_loss is OnWorkerLoss.HOLD and not job.is_ending:
        return [event, e.JobHeld(**about(key, job), reason="WORKER_LOST")]
    text = f"; it is loss {losses} of this run, and worker_losses_max allows {spec.worker_losses_max}" if over else ""
    return [event, _final_event(key, job, "WORKER_LOST", f"its worker was lost ({reason}){text}")]


def decline(state: StateView, command: c.DeclineAttempt, now: int, policy: Policy) -> Events | Rejected:
    """The job goes back to its place in the queue: `AttemptDeclined`. If it was asked to stop meanwhile, it ends."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if not may(e.AttemptDeclined, job.state):
        return wrong_state(command, job, "DISPATCHED")
    key = job_key(command.queue, command.job_id)
    declined = e.AttemptDeclined(**about(key, job), attempt=job.attempt, session=job.session, reason=command.reason)
    if not job.is_ending:
        return [declined]
    return [declined, _final_event(key, job, job.stopping, "")]
