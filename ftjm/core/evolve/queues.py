"""Events of a queue as a whole: paused, resumed, declared, no longer declared."""

from ftjm.core.records import events as e
from ftjm.core.state.queues import QueueDeclaration, QueueStatus
from ftjm.core.state.state import State


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
    declaration = QueueDeclaration(event.revision, event.spec, event.labels, event.at, event.actor)
    state.save_declaration(event.queue, declaration)
    if not event.spec.rate_limit:
        _forget_rate(state, event.queue)


def unchanged(_state: State, _event: e.QueueUnchanged, _key: str) -> None:
    """Nothing changes. The event answers a command."""


def deleted(state: State, event: e.QueueDeleted, _key: str) -> None:
    """The queue has the defaults again."""
    assert state.declaration(event.queue) is not None
    state.drop_declaration(event.queue)
    _forget_rate(state, event.queue)


def _forget_rate(state: State, queue: str) -> None:
    if state.queue_rate(queue) is not None:
        state.drop_queue_rate(queue)
