"""`decide` judges: what happens because of a command, a timer, an offer or a lapsed session.

Pure: it reads the state and returns events, or a refusal; time arrives as an argument.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.identity import content_hash, is_name, partition_for
from ftjm.core.lifecycle import may
from ftjm.core.model import (
    LIVE,
    LOSSES,
    TERMINAL,
    FailureReason,
    Job,
    JobSpec,
    OnWorkerLoss,
    StopReason,
    Timer,
    TimerKind,
    job_key,
)
from ftjm.core.retry import backoff_ms, loss_backoff_ms
from ftjm.core.state import State

PRIORITY_MAX = 100
TIME_MAX_MS = 1 << 53
"""Beyond it (the year 287396) other languages' clients lose digits."""


class Policy(msgspec.Struct, frozen=True):
    """The settings of the cluster that decisions depend on."""

    partition: int
    partitions: int
    retention_ms: int = 7 * 86_400_000
    """How long ended jobs are kept if they do not say."""
    inline_bytes_max: int = 256 * 1024
    """For a payload, a result, and each output."""


class Rejected(msgspec.Struct, frozen=True):
    """A refusal: `code` for programs, `text` for people ("expected …, but …")."""

    code: str
    text: str


Events = list[e.Event]


def decide(state: State, command: c.Command, now: int, policy: Policy) -> Events | Rejected:
    """What `command` leads to. The events are not stamped with their cause yet."""
    if not is_name(command.queue) or not is_name(command.job_id):
        return Rejected(
            "BAD_NAME",
            f"expected a queue and a job id of 1 to 128 letters, digits, '.', '_' or '-', but found "
            f"{command.queue[:130]!r} and {command.job_id[:130]!r}",
        )
    if command.shard_key:
        return Rejected("INVALID", f"shard_key: expected none, since queue {command.queue} has no shards")
    return _HANDLERS[type(command)](state, command, now, policy)


def home(command: c.Command, policy: Policy) -> int:
    """The partition that decides about `command`."""
    return partition_for(command.shard_key or command.queue, policy.partitions)


def _name(command: c.Command | e.Event) -> dict[str, Any]:
    return {"queue": command.queue, "job_id": command.job_id, "shard_key": command.shard_key}


def _of(key: str, job: Job) -> dict[str, Any]:
    queue, _, job_id = key.partition("/")
    return {"queue": queue, "job_id": job_id, "run": job.run, "shard_key": job.shard_key}


# -- submissions


def _submit(state: State, command: c.SubmitJob, now: int, policy: Policy) -> Events | Rejected:
    spec = command.spec
    if (fault := _fault(spec, policy)) is not None:
        return Rejected("INVALID", fault)
    content = content_hash(spec)
    job = state.job(job_key(command.queue, command.job_id))
    if job is not None:
        if job.content != content:
            return Rejected(
                "IDENTITY_TAKEN",
                f"expected the same content as the existing job {command.queue}/{command.job_id}, but it differs; "
                f"use another id, or rerun the existing job",
            )
        return [e.SubmissionRepeated(**_name(command), run=job.run, awaits=command.awaits)]
    due_at = now + spec.delay_ms if spec.delay_ms else spec.start_at
    return [
        e.JobSubmitted(
            **_name(command),
            run=1,
            spec=msgspec.structs.replace(spec, retention_ms=spec.retention_ms or policy.retention_ms),
            due_at=due_at if due_at > now else 0,
            deadline_at=now + spec.deadline_ms if spec.deadline_ms else spec.deadline_at,
            content=content,
            awaits=command.awaits,
        )
    ]


def _fault(spec: JobSpec, policy: Policy) -> str | None:
    """What is wrong with a submission, if anything."""
    limit = policy.inline_bytes_max
    size = sum(len(word) for word in spec.command) + sum(
        len(k) + len(v) for part in (spec.environment, spec.labels) for k, v in part.items()
    )
    checks: Sequence[tuple[bool, str]] = (
        (spec.executor == "command", f"executor: expected 'command', but found {spec.executor[:40]!r}"),
        (bool(spec.command and spec.command[0]), "command: expected at least the program to run, but found none"),
        (0 <= spec.priority <= PRIORITY_MAX, f"priority: expected 0 to {PRIORITY_MAX}, but found {spec.priority}"),
        (spec.max_attempts >= 1, f"max_attempts: expected 1 or more, but found {spec.max_attempts}"),
        (1 <= spec.backoff_factor <= 1_000, f"backoff_factor: expected 1 to 1000, but found {spec.backoff_factor}"),
        (spec.worker_losses_max >= 0, f"worker_losses_max: expected 0 or more, but found {spec.worker_losses_max}"),
        (len(spec.payload) <= limit, f"payload: expected at most {limit} bytes, but found {len(spec.payload)}"),
        (size <= limit, f"command, environment and labels: expected at most {limit} bytes, but found {size}"),
        (all(is_name(k) for k in spec.labels), "labels: expected names as keys"),
        (all(k and "=" not in k and "\0" not in k for k in spec.environment), "environment: expected names as keys"),
    )
    for passed, fault in checks:
        if not passed:
            return fault
    for field in _TIMES:
        if not 0 <= (value := getattr(spec, field)) <= TIME_MAX_MS:
            return f"{field}: expected 0 to {TIME_MAX_MS} ms, but found {value}"
    return None


_TIMES = (
    "delay_ms",
    "start_at",
    "timeout_ms",
    "deadline_ms",
    "deadline_at",
    "backoff_ms",
    "backoff_max_ms",
    "continue_for_ms",
    "cancel_grace_ms",
    "retention_ms",
)


# -- what people do with a job


def _unknown(command: c.Command) -> Rejected:
    return Rejected(
        "UNKNOWN_JOB",
        f"expected a job {command.queue}/{command.job_id}, but there is none; it was never submitted, or its "
        f"retention is over",
    )


def _wrong_state(command: c.Command, job: Job, expected: str) -> Rejected:
    return Rejected(
        "WRONG_STATE", f"expected {command.queue}/{command.job_id} to be {expected}, but it is {job.state.name}"
    )


def _cancel(state: State, command: c.CancelJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return _unknown(command)
    if job.state in LIVE:
        grace_ms = state.spec(key).cancel_grace_ms
        return [
            e.JobStopRequested(
                **_of(key, job),
                attempt=job.attempt,
                reason=StopReason.CANCELLED,
                text=command.reason,
                grace_ms=grace_ms,
            )
        ]
    if not may(e.JobCancelled, job.state):
        return _wrong_state(command, job, "not ended yet")
    return [e.JobCancelled(**_of(key, job), reason=command.reason or StopReason.CANCELLED)]


def _hold(state: State, command: c.HoldJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return _unknown(command)
    if not may(e.JobHeld, job.state):
        return _wrong_state(command, job, "waiting")
    return [e.JobHeld(**_of(key, job), reason=command.reason)]


def _release(state: State, command: c.ReleaseJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return _unknown(command)
    if not may(e.JobReleased, job.state):
        return _wrong_state(command, job, "HELD")
    return [e.JobReleased(**_of(key, job))]


def _rerun(state: State, command: c.RerunJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return _unknown(command)
    if not is_name(command.command_id):
        return Rejected("INVALID", "command_id: expected a name, so that a repeated wish can be told from a new one")
    if state.remembers(command.command_id):
        return Rejected("REPEATED", f"the command {command.command_id} was carried out before")
    if not may(e.JobRerun, job.state):
        return _wrong_state(command, job, "ended")
    spec = state.spec(key)
    deadline_at = now + spec.deadline_ms if spec.deadline_ms else spec.deadline_at
    return [
        e.JobRerun(
            **{**_of(key, job), "run": job.run + 1},
            # An absolute deadline that has passed is what the user reruns the job in spite of.
            deadline_at=deadline_at if deadline_at > now else 0,
            command_id=command.command_id,
            reason=command.reason,
        )
    ]


# -- what workers report


def _reported(state: State, command: c.AttemptReport) -> Job | Rejected:
    """The job whose current attempt the report speaks of."""
    job = state.job(job_key(command.queue, command.job_id))
    if job is None:
        return _unknown(command)
    if job.state not in LIVE or job.attempt != command.attempt or job.session != command.session:
        return Rejected(
            "STALE_ATTEMPT",
            f"expected a report of the current attempt of {command.queue}/{command.job_id}, but attempt "
            f"{command.attempt} of session {command.session} is over: the job is {job.state.name}, attempt "
            f"{job.attempt}",
        )
    return job


def _start(state: State, command: c.StartAttempt, now: int, policy: Policy) -> Events | Rejected:
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if not may(e.AttemptStarted, job.state):
        return _wrong_state(command, job, "DISPATCHED")
    return [
        e.AttemptStarted(
            **_of(job_key(command.queue, command.job_id), job),
            attempt=job.attempt,
            session=job.session,
            started_at=command.started_at,
        )
    ]


def _complete(state: State, command: c.CompleteAttempt, now: int, policy: Policy) -> Events | Rejected:
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


def _fail(state: State, command: c.FailAttempt, now: int, policy: Policy) -> Events | Rejected:
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if command.reason in LOSSES:
        return _lost(state, job_key(command.queue, command.job_id), job, command.reason, now)
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
        **_of(key, job),
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
        return e.JobCancelled(**_of(key, job), reason=StopReason.CANCELLED)
    return e.JobFailed(**_of(key, job), reason=job.stopping or reason, error=error)


def _lost(state: State, key: str, job: Job, reason: str, now: int) -> Events:
    spec = state.spec(key)
    losses = job.losses + 1
    over = losses > spec.worker_losses_max
    again = not job.stopping and spec.on_worker_loss is OnWorkerLoss.REQUEUE and not over
    lost = e.AttemptLost(
        **_of(key, job),
        attempt=job.attempt,
        session=job.session,
        reason=reason,
        retry_at=now + loss_backoff_ms(losses) if again else 0,
    )
    if again:
        return [lost]
    if spec.on_worker_loss is OnWorkerLoss.HOLD and not job.stopping:
        return [lost, e.JobHeld(**_of(key, job), reason="WORKER_LOST")]
    text = f"its worker was lost ({reason}), {losses} of {spec.worker_losses_max} times" if over else ""
    return [lost, _given_up(key, job, "WORKER_LOST", text or f"its worker was lost ({reason})")]


def _decline(state: State, command: c.DeclineAttempt, now: int, policy: Policy) -> Events | Rejected:
    job = _reported(state, command)
    if isinstance(job, Rejected):
        return job
    if not may(e.AttemptDeclined, job.state):
        return _wrong_state(command, job, "DISPATCHED")
    key = job_key(command.queue, command.job_id)
    declined = e.AttemptDeclined(**_of(key, job), attempt=job.attempt, session=job.session, reason=command.reason)
    if not job.stopping:
        return [declined]
    return [declined, _given_up(key, job, job.stopping, "")]


# -- what time brings


def decide_timer(state: State, timer: Timer, now: int) -> Events:
    """What follows from a timer that is due. Timers that no longer apply do not exist: evolve clears them."""
    if timer.kind is TimerKind.COMMAND_ID:
        return [e.CommandIdForgotten(command_id=timer.key)]
    if timer.kind is TimerKind.SESSION:
        # An attempt that was to go on through a longer cut than sessions are remembered is given up with its own.
        return [*_lost_with(state, timer.key, "LAPSED", now), e.WorkerForgotten(session=timer.key)]
    key = timer.key
    job = state.job(key)
    assert job is not None, f"a timer of {key}, which does not exist"
    if timer.kind is TimerKind.DUE:
        return [e.JobQueued(**_of(key, job))]
    if timer.kind is TimerKind.RETENTION:
        return [e.JobForgotten(**_of(key, job))]
    if job.state in LIVE:
        return [
            e.JobStopRequested(
                **_of(key, job),
                attempt=job.attempt,
                reason=StopReason.DEADLINE,
                grace_ms=state.spec(key).cancel_grace_ms,
            )
        ]
    assert job.state not in TERMINAL
    return [e.JobFailed(**_of(key, job), reason="DEADLINE", error="its deadline passed before it could end")]


def decide_lapse(state: State, name: str, silent_ms: int, now: int, closed: bool = False) -> Events:
    """What follows when a session has been silent for `silent_ms`, or has closed in good order.

    The session is given up past its lease; an attempt that may continue through a cut is given up that much
    later. Returns nothing if the session is within its lease.
    """
    session = state.session(name)
    if session is None or (silent_ms < session.lease_ms and not closed):
        return []
    happened: Events = []
    if not session.lost:
        happened.append(e.WorkerLost(session=name, closed=closed))
    past_lease_ms = None if closed else silent_ms - session.lease_ms
    return happened + _lost_with(state, name, "CLOSED" if closed else "LAPSED", now, past_lease_ms)


def _lost_with(state: State, session: str, reason: str, now: int, past_lease_ms: int | None = None) -> Events:
    """The loss of the session's attempts: of all, or of those that may not go on so long past its lease."""
    happened: Events = []
    for key in state.attempts(session):
        job = state.job(key)
        assert job is not None
        assert job.session == session
        if past_lease_ms is None or past_lease_ms >= job.continue_for_ms:
            happened += _lost(state, key, job, reason, now)
    return happened


_HANDLERS: dict[type[c.Command], Callable[[State, Any, int, Policy], Events | Rejected]] = {
    c.SubmitJob: _submit,
    c.CancelJob: _cancel,
    c.HoldJob: _hold,
    c.ReleaseJob: _release,
    c.RerunJob: _rerun,
    c.StartAttempt: _start,
    c.CompleteAttempt: _complete,
    c.FailAttempt: _fail,
    c.DeclineAttempt: _decline,
}
