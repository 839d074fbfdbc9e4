"""Events of a queue as a whole: paused, resumed."""

from ftjm.core.records import events as e
from ftjm.core.state.queues import QueueStatus
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
