"""Decisions when a timer is due: a job's start time, backoff, deadline or retention has passed, an instant of a
schedule has come, a window turns, partitions lag, a job has waited for long, or the partition forgets a command id or a
lost session."""

from ftjm.core.decide import resources, windows
from ftjm.core.decide.decision import Events, Policy, about
from ftjm.core.decide.firings import decide_instant
from ftjm.core.decide.waiting import decide_waiting
from ftjm.core.records import events as e
from ftjm.core.state.model import LIVE, TERMINAL, StopReason
from ftjm.core.state.timers import Timer, TimerKind
from ftjm.core.state.view import StateView


def decide_timer(state: StateView, timer: Timer, now: int, policy: Policy) -> Events:
    """The events that follow from a timer that is due.

    The timer must be in the state: `evolve` clears a timer as soon as it no longer applies.
    """
    if timer.kind is TimerKind.COMMAND_ID:
        return [e.CommandIdForgotten(command_id=timer.key)]
    if timer.kind is TimerKind.SESSION:
        return [e.WorkerForgotten(session=timer.key)]
    if timer.kind is TimerKind.SCHEDULE:
        return decide_instant(state, timer.key, now, policy)
    if timer.kind is TimerKind.WINDOW:
        return windows.turn(state, timer.key, now, policy)
    if timer.kind is TimerKind.ADOPTION:
        return resources.tell_again(state, timer.key) if timer.key else resources.ask_again(policy)
    if timer.kind is TimerKind.WAITING:
        return decide_waiting(state, timer, now, policy)
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
