"""Decisions about a queue as a whole: pause, resume, declare, delete the declaration.

The state of the queue refuses neither a pause nor its end: who repeats a request, because its answer was lost, has what
was asked for. For the same reason, a declaration that is so already is accepted, whatever revision its sender expects.
"""

from ftjm.core.decide.decision import Events, Policy, Rejected, conflict
from ftjm.core.job_defaults import defaults_fault
from ftjm.core.names import is_name
from ftjm.core.queue_gates import rate_fault
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.view import StateView
from ftjm.core.waiting_limits import reason_fault


def pause(state: StateView, command: c.PauseQueue, now: int, policy: Policy) -> Events:
    """`QueuePaused`."""
    return [e.QueuePaused(queue=command.queue, reason=command.reason)]


def resume(state: StateView, command: c.ResumeQueue, now: int, policy: Policy) -> Events:
    """`QueueResumed`."""
    return [e.QueueResumed(queue=command.queue)]


def apply(state: StateView, command: c.ApplyQueue, now: int, policy: Policy) -> Events | Rejected:
    """`QueueApplied`, or `QueueUnchanged` where the queue is declared so already."""
    if not all(map(is_name, command.labels)):
        return Rejected("INVALID", "labels: expected names as keys")
    if fault := rate_fault(command.spec):
        return Rejected("INVALID", f"rate_burst: {fault}")
    if fault := defaults_fault(command.spec.defaults):
        return Rejected("INVALID", fault)
    if fault := reason_fault(command.spec.waiting_limits):
        return Rejected("INVALID", f"waiting_limits.reason: {fault}")
    declared = state.declaration(command.queue)
    if declared is not None and (declared.spec, declared.labels) == (command.spec, command.labels):
        return [e.QueueUnchanged(queue=command.queue, revision=declared.revision)]
    if (refusal := _conflict(state, command)) is not None:
        return refusal
    # `order` counts what the partition has given a place to. So a revision is never given out twice, also if a queue's
    # declaration is deleted and made anew.
    return [
        e.QueueApplied(queue=command.queue, revision=state.counters.order + 1, spec=command.spec, labels=command.labels)
    ]


def delete(state: StateView, command: c.DeleteQueue, now: int, policy: Policy) -> Events | Rejected:
    """`QueueDeleted`, or `QueueUnchanged` where the queue is not declared."""
    if state.declaration(command.queue) is None:
        return [e.QueueUnchanged(queue=command.queue)]
    return _conflict(state, command) or [e.QueueDeleted(queue=command.queue)]


def _conflict(state: StateView, command: c.ApplyQueue | c.DeleteQueue) -> Rejected | None:
    declared = state.declaration(command.queue)
    found, actor = (declared.revision, declared.actor) if declared else (0, "")
    return conflict("queue", command.expected_revision, found, actor)
