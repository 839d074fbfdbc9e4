"""Decisions about attempts: what their workers report, and what becomes of the job when one is over or lost."""

from typing import Any

from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.lifecycle import may
from ftjm.core.model import LIVE, LOSSES, FailureReason, Job, OnWorkerLoss, StopReason, job_key
from ftjm.core.retry import backoff_ms, loss_backoff_ms
from ftjm.core.state import State
from ftjm.core.verdict import Events, Policy, Rejected, about, unknown, wrong_state

CHECKPOINT_BYTES_MAX = 64 * 1024
PROGRESS_TEXT_MAX = 1_000


def _reported(state: State, command: c.AttemptReport) -> Job | Rejected:
    """The job whose current attempt the report speaks of."""
    job = state.job(job_key(command.queue, command.job_id))
    if job is None:
        return unknown(command)
    if job.state not in LIVE or job.attempt != command.attempt or job.session != command.session:
        return Rejected(
            "STALE_ATTEMPT",
            f"expected a report of the current attempt of {command.queue}/{command.job_id}, but attempt "
            f"{command.attempt} of session {command.session} is over: the job is {job.state.name}, attempt "
            f"{job.attempt}",
        )
    return job


def start(state: State, command: c.StartAttempt, now: int, policy: Policy) -> Events | Rejected:
    """It has outlived its first moment: `AttemptStarted`."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if not may(e.AttemptStarted, job.state):
        return wrong_state(command, job, "DISPATCHED")
    return [
        e.AttemptStarted(
            **about(job_key(command.queue, command.job_id), job),
            attempt=job.attempt,
            session=job.session,
            started_at=command.started_at,
        )
    ]


def checkpoint(state: State, command: c.CheckpointAttempt, now: int, policy: Policy) -> Events | Rejected:
    """How far it has come: `AttemptCheckpointed`. How often it is told, its worker bounds."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if (size := len(command.data)) > CHECKPOINT_BYTES_MAX:
        text = f"expected a checkpoint of at most {CHECKPOINT_BYTES_MAX} bytes, but found {size}"
        return Rejected("TOO_LARGE", f"{text}; keep the data elsewhere, and in the checkpoint where")
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


def complete(state: State, command: c.CompleteAttempt, now: int, policy: Policy) -> Events | Rejected:
    """The run's one success, unless its result is larger than what is kept."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if (size := len(command.result)) > policy.inline_bytes_max:
        error = (
            f"expected a result of at most {policy.inline_bytes_max} bytes, but found {size}; keep the data "
            f"elsewhere and return where, or raise inline_limit_bytes"
        )
        return _failure(state, job, command, FailureReason.RESULT_REFUSED, error, now, policy)
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
            **_output(command, policy),
        )
    ]


def _output(report: c.CompleteAttempt | c.FailAttempt, policy: Policy) -> dict[str, Any]:
    """Output, cut to its tail should the worker not have done so."""
    limit = policy.inline_bytes_max
    return {
        "stdout": report.stdout[-limit:],
        "stderr": report.stderr[-limit:],
        "stdout_cut": report.stdout_cut + max(0, len(report.stdout) - limit),
        "stderr_cut": report.stderr_cut + max(0, len(report.stderr) - limit),
    }


def fail(state: State, command: c.FailAttempt, now: int, policy: Policy) -> Events | Rejected:
    """A failure, or a loss where it was not the job's fault."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if command.reason in LOSSES:
        return lost(state, job_key(command.queue, command.job_id), job, command.reason, now)
    return _failure(state, job, command, command.reason, command.error, now, policy)


def _failure(
    state: State,
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
    again = not job.stopping and failures < spec.max_attempts
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
    return [failed] if again else [failed, _given_up(key, job, reason, error)]


def _given_up(key: str, job: Job, reason: str, error: str) -> e.Event:
    """How a job ends that has no further attempt."""
    if job.stopping == StopReason.CANCELLED:
        return e.JobCancelled(**about(key, job), reason=StopReason.CANCELLED)
    return e.JobFailed(**about(key, job), reason=job.stopping or reason, error=error)


def lost(state: State, key: str, job: Job, reason: str, now: int) -> Events:
    """Its worker is gone: on by the job's `on_worker_loss`, without a charge to its attempts."""
    spec = state.spec(key)
    losses = job.losses + 1
    over = losses > spec.worker_losses_max
    again = not job.stopping and spec.on_worker_loss is OnWorkerLoss.REQUEUE and not over
    lost = e.AttemptLost(
        **about(key, job),
        attempt=job.attempt,
        session=job.session,
        reason=reason,
        retry_at=now + loss_backoff_ms(losses) if again else 0,
    )
    if again:
        return [lost]
    if spec.on_worker_loss is OnWorkerLoss.HOLD and not job.stopping:
        return [lost, e.JobHeld(**about(key, job), reason="WORKER_LOST")]
    text = f"its worker was lost ({reason}), {losses} of {spec.worker_losses_max} times" if over else ""
    return [lost, _given_up(key, job, "WORKER_LOST", text or f"its worker was lost ({reason})")]


def decline(state: State, command: c.DeclineAttempt, now: int, policy: Policy) -> Events | Rejected:
    """Back to its place in the queue, untouched; or to its end, where that was asked for meanwhile."""
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if not may(e.AttemptDeclined, job.state):
        return wrong_state(command, job, "DISPATCHED")
    key = job_key(command.queue, command.job_id)
    declined = e.AttemptDeclined(**about(key, job), attempt=job.attempt, session=job.session, reason=command.reason)
    if not job.stopping:
        return [declined]
    return [declined, _given_up(key, job, job.stopping, "")]
