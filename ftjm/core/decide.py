"""`decide` judges: what happens because of a command, a timer, an offer or a lapsed session.

Pure: it reads the state and returns events, or a refusal; time arrives as an argument.
"""

from collections.abc import Callable
from typing import Any

from ftjm.core import attempts
from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.identity import partition_for
from ftjm.core.lifecycle import may
from ftjm.core.model import LIVE, TERMINAL, StopReason, Timer, TimerKind, job_key
from ftjm.core.names import is_name
from ftjm.core.state import State
from ftjm.core.submission import submit
from ftjm.core.verdict import Events, Policy, Rejected, about, unknown, wrong_state

__all__ = ["Events", "Policy", "Rejected", "decide", "decide_lapse", "decide_timer", "home"]


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


# -- what people do with a job


def _cancel(state: State, command: c.CancelJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return unknown(command)
    if job.state in LIVE:
        grace_ms = state.spec(key).cancel_grace_ms
        return [
            e.JobStopRequested(
                **about(key, job),
                attempt=job.attempt,
                reason=StopReason.CANCELLED,
                text=command.reason,
                grace_ms=grace_ms,
            )
        ]
    if not may(e.JobCancelled, job.state):
        return wrong_state(command, job, "not ended yet")
    return [e.JobCancelled(**about(key, job), reason=command.reason or StopReason.CANCELLED)]


def _hold(state: State, command: c.HoldJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return unknown(command)
    if not may(e.JobHeld, job.state):
        return wrong_state(command, job, "waiting")
    return [e.JobHeld(**about(key, job), reason=command.reason)]


def _release(state: State, command: c.ReleaseJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return unknown(command)
    if not may(e.JobReleased, job.state):
        return wrong_state(command, job, "HELD")
    return [e.JobReleased(**about(key, job))]


def _rerun(state: State, command: c.RerunJob, now: int, policy: Policy) -> Events | Rejected:
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return unknown(command)
    if not is_name(command.command_id):
        return Rejected("INVALID", "command_id: expected a name, so that a repeated wish can be told from a new one")
    if state.remembers(command.command_id):
        return Rejected("REPEATED", f"the command {command.command_id} was carried out before")
    if not may(e.JobRerun, job.state):
        return wrong_state(command, job, "ended")
    spec = state.spec(key)
    deadline_at = now + spec.deadline_ms if spec.deadline_ms else spec.deadline_at
    return [
        e.JobRerun(
            **{**about(key, job), "run": job.run + 1},
            # An absolute deadline that has passed is what the user reruns the job in spite of.
            deadline_at=deadline_at if deadline_at > now else 0,
            command_id=command.command_id,
            reason=command.reason,
        )
    ]


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
        return [e.JobQueued(**about(key, job))]
    if timer.kind is TimerKind.RETENTION:
        return [e.JobForgotten(**about(key, job))]
    if job.state in LIVE:
        return [
            e.JobStopRequested(
                **about(key, job),
                attempt=job.attempt,
                reason=StopReason.DEADLINE,
                grace_ms=state.spec(key).cancel_grace_ms,
            )
        ]
    assert job.state not in TERMINAL
    return [e.JobFailed(**about(key, job), reason="DEADLINE", error="its deadline passed before it could end")]


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
            happened += attempts.lost(state, key, job, reason, now)
    return happened


_HANDLERS: dict[type[c.Command], Callable[[State, Any, int, Policy], Events | Rejected]] = {
    c.SubmitJob: submit,
    c.CancelJob: _cancel,
    c.HoldJob: _hold,
    c.ReleaseJob: _release,
    c.RerunJob: _rerun,
    c.StartAttempt: attempts.start,
    c.CompleteAttempt: attempts.complete,
    c.FailAttempt: attempts.fail,
    c.CheckpointAttempt: attempts.checkpoint,
    c.DeclineAttempt: attempts.decline,
}
