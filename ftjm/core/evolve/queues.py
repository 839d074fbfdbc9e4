"""Events of a queue as a whole: paused, resumed, declared, no longer declared."""

from ftjm.core.ageing import ageing_of
from ftjm.core.evolve import keys
from ftjm.core.queue_gates import under_new_rate
from ftjm.core.records import events as e
from ftjm.core.state.model import JobState
from ftjm.core.state.processes import ProcessKind, Reorder
from ftjm.core.state.queues import QueueDeclaration, QueueStatus
from ftjm.core.state.state import State
from ftjm.core.waiting_limits import limits_of


def paused(state: State, event: e.QueuePaused, _key: str) -> None:
    """None of its jobs starts. Where it was paused before, it has been since then."""
    before = state.queue_status(event.queue)
    since = before.paused_at if before else event.at
    state.save_queue_status(event.queue, QueueStatus(since, event.reason, event.actor))


def resumed(state: State, event: e.QueueResumed, _key: str) -> None:
    """Its jobs start again."""
    if state.queue_status(event.queue) is not None:
        state.drop_queue_status(event.queue)


def applied(state: State, event: e.QueueApplied, _key: str) -> None:
    """The queue is declared so."""
    state.counters.order += 1
    state.save_counters()
    assert event.revision == state.counters.order
    before = state.declaration(event.queue)
    declaration = QueueDeclaration(event.revision, event.spec, event.labels, event.at, event.actor)
    state.save_declaration(event.queue, declaration)
    _reorder(state, event.queue, before)
    keys.declared(state, event.queue, before, declaration)
    rate = state.queue_rate(event.queue)
    if rate is not None and before is not None and event.spec.rate_limit:
        state.save_queue_rate(event.queue, under_new_rate(before.spec, event.spec, rate, event.at))
    else:
        _forget_rate(state, event.queue)


def unchanged(_state: State, _event: e.QueueUnchanged, _key: str) -> None:
    """Nothing changes. The event answers a command."""


def deleted(state: State, event: e.QueueDeleted, _key: str) -> None:
    """The queue has the defaults again."""
    declared = state.declaration(event.queue)
    assert declared is not None
    state.drop_declaration(event.queue)
    _reorder(state, event.queue, declared)
    keys.declared(state, event.queue, declared, None)
    _forget_rate(state, event.queue)


def _forget_rate(state: State, queue: str) -> None:
    if state.queue_rate(queue) is not None:
        state.drop_queue_rate(queue)


def _reorder(state: State, queue: str, before: QueueDeclaration | None) -> None:
    """If the queue's ageing or its limits of waiting have changed, begin to give those that wait their new places, and
    the times at which they are looked at."""
    row = state.queue(queue)
    waits = row is not None and (row.counts[JobState.READY] > 0 or row.counts[JobState.PENDING] > 0)
    running = state.process(ProcessKind.REORDER, queue) is not None
    now = state.declaration(queue)
    changed = ageing_of(now) != ageing_of(before) or list(limits_of(now)) != list(limits_of(before))
    if changed and (waits or running):
        state.save_process(ProcessKind.REORDER, queue, Reorder(b""))
