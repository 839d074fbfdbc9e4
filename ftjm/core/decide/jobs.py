"""Decisions about what people ask of a job that exists: cancel, hold, release, run again, another priority, purge."""

from ftjm.core.decide.decision import Events, Policy, Rejected, about, unknown, wrong_state
from ftjm.core.lifecycle import may
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import LIVE, Job, StopReason, job_key
from ftjm.core.state.view import StateView


def cancel(state: StateView, command: c.CancelJob, now: int, policy: Policy) -> Events | Rejected:
    """Cancel a job: at once where it waits; where an attempt holds a slot, ask the worker to stop it."""
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return unknown(command)
    if job.state not in LIVE and not may(e.JobCancelled, job.state):
        return wrong_state(command, job, "not ended yet")
    return [stop(state, key, job, command.reason)]


def stop(state: StateView, key: str, job: Job, reason: str) -> e.Event:
    """The event that cancels a job which has not ended, or asks its worker to stop it."""
    if job.state not in LIVE:
        return e.JobCancelled(**about(key, job), reason=reason or StopReason.CANCELLED)
    grace_ms = state.spec(key).cancel_grace_ms
    return e.JobStopRequested(
        **about(key, job), attempt=job.attempt, reason=StopReason.CANCELLED, text=reason, grace_ms=grace_ms
    )


def _job_that_may(
    state: StateView, command: c.Command, event: type[e.Event], expected: str
) -> tuple[str, Job] | Rejected:
    """The key and the job of a command, if `event` may happen to it; else the refusal."""
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return unknown(command)
    return (key, job) if may(event, job.state) else wrong_state(command, job, expected)


def hold(state: StateView, command: c.HoldJob, now: int, policy: Policy) -> Events | Rejected:
    """Keep a waiting job from starting until it is released."""
    found = _job_that_may(state, command, e.JobHeld, "waiting")
    return found if isinstance(found, Rejected) else [e.JobHeld(**about(*found), reason=command.reason)]


def release(state: StateView, command: c.ReleaseJob, now: int, policy: Policy) -> Events | Rejected:
    """Let a held job start again."""
    found = _job_that_may(state, command, e.JobReleased, "HELD")
    return found if isinstance(found, Rejected) else [e.JobReleased(**about(*found))]


def rerun(state: StateView, command: c.RerunJob, now: int, policy: Policy) -> Events | Rejected:
    """Begin a new run of an ended job. A repeated command is recognised by its job and its `command_id`."""
    key = job_key(command.queue, command.job_id)
    job = state.job(key)
    if job is None:
        return unknown(command)
    if not is_name(command.command_id):
        return Rejected("INVALID", "command_id: expected a name, so that a repeated request is recognised")
    # One person may name the reruns of many jobs alike. A job that was forgotten and submitted anew is another job.
    request = f"{key}/{job.submitted_at}/{command.command_id}"
    if state.remembers(request):
        return Rejected("REPEATED", f"{key} was rerun before by the command {command.command_id}")
    if not may(e.JobRerun, job.state):
        return wrong_state(command, job, "ended")
    spec = state.spec(key)
    deadline_at = now + spec.deadline_ms if spec.deadline_ms else spec.deadline_at
    return [
        e.JobRerun(
            **{**about(key, job), "run": job.run + 1},
            # The user reruns the job although its absolute deadline has passed, so the new run has none.
            deadline_at=deadline_at if deadline_at > now else 0,
            command_id=request,
            reason=command.reason,
        )
    ]


def prioritize(state: StateView, command: c.PrioritizeJob, now: int, policy: Policy) -> Events | Rejected:
    """Change the priority of a job that has not ended."""
    found = _job_that_may(state, command, e.JobPrioritized, "not ended yet")
    return found if isinstance(found, Rejected) else [e.JobPrioritized(**about(*found), priority=command.priority)]


def purge(state: StateView, key: str) -> Events | Rejected:
    """Remove an ended job before its retention is over."""
    job = state.job(key)
    assert job is not None
    if not may(e.JobForgotten, job.state):
        return Rejected("WRONG_STATE", f"expected {key} to have ended, but it is {job.state.name}")
    return [e.JobForgotten(**about(key, job))]
