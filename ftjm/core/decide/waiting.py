"""Decisions at the timer of a job that waits in a queue with limits of waiting: see `ftjm.core.waiting_limits`.

| the limit that acts | follows |
|---|---|
| fail | `JobFailed`, with the reason `WAITING_LIMIT` |
| hold | `JobHeld`, with a reason that begins with `WAITING_LIMIT` |
| notify | `JobStuck`, which changes nothing |
| none: the job waits for another reason | `JobReviewed`, which changes nothing |
"""

from typing import assert_never

from ftjm.core.decide.decision import Events, Policy, about
from ftjm.core.queue_gates import closed_gate, queue_rows
from ftjm.core.records import events as e
from ftjm.core.state.model import Job, JobState
from ftjm.core.state.queues import WaitingAction
from ftjm.core.state.timers import Timer
from ftjm.core.state.view import StateView
from ftjm.core.waiting_limits import (
    CONCURRENCY_LIMIT,
    NO_WORKER,
    PRIORITY,
    RESOURCES,
    acting_limit,
    limits_of,
    next_look,
    waits_since,
)

WAITING_LIMIT = "WAITING_LIMIT"
"""The reason of a job that failed or is held because of such a limit."""


def decide_waiting(state: StateView, timer: Timer, now: int, policy: Policy) -> Events:
    """The events of a job whose look is due."""
    key, job = timer.key, state.job(timer.key)
    assert job is not None, f"a timer of {key}, which does not exist"
    queue, _, job_id = key.partition("/")
    limits, since = limits_of(state.declaration(queue)), waits_since(job)
    reason = _reason(state, queue, job_id, job, now, policy)
    limit = acting_limit(limits, since, timer.due_at, now, reason)
    waited_ms, next_at = now - since, next_look(limits, since, now)
    if limit is None:
        return [e.JobReviewed(**about(key, job), reason=reason, waited_ms=waited_ms, next_at=next_at)]
    text = f"it has waited {waited_ms} ms, now for {reason}, and its queue allows {limit.after_ms} ms"
    match limit.action:
        case WaitingAction.FAIL:
            return [e.JobFailed(**about(key, job), reason=WAITING_LIMIT, error=text)]
        case WaitingAction.HOLD:
            return [e.JobHeld(**about(key, job), reason=f"{WAITING_LIMIT}: {text}")]
        case WaitingAction.NOTIFY:
            return [
                e.JobStuck(
                    **about(key, job),
                    reason=reason,
                    waited_ms=waited_ms,
                    after_ms=limit.after_ms,
                    next_at=next_at,
                )
            ]
        case _:
            assert_never(limit.action)


def _reason(state: StateView, queue: str, job_id: str, job: Job, now: int, policy: Policy) -> str:
    """What the job waits for, in the order in which `explain` names it."""
    if job.state is JobState.PENDING:
        return CONCURRENCY_LIMIT
    if (closed := closed_gate(queue_rows(state, queue), now)) is not None:
        return closed[0]
    if policy.served is not None and queue not in policy.served:
        return NO_WORKER
    first = next(state.ready(queue, job.share), None)
    return RESOURCES if first is None or first[2] == job_id else PRIORITY
