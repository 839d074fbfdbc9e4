"""Decisions about a worker's session that fell silent or closed: which of its attempts are lost, and when.

A session is lost when no heartbeat has come for its lease. Its attempts are lost with it, with one exception: a job
with `continue_for_ms` lets its attempt run on while the worker is cut off, so that attempt is lost that much later.

    last heartbeat        lease over: WorkerLost             lease + continue_for_ms
    |---------------------|----------------------------------|
                          attempts without continue_for_ms   the attempt with it is lost, unless its
                          are lost                           worker has reported its end meanwhile
"""

from ftjm.core.decide import attempts
from ftjm.core.decide.decision import Events
from ftjm.core.losses import CLOSED, LAPSED
from ftjm.core.records import events as e
from ftjm.core.state.view import StateView


def decide_lapse(state: StateView, name: str, silent_ms: int, now: int, closed: bool = False) -> Events:
    """The events that follow when a session has been silent, or has closed in good order.

    Args:
        name: the session's name.
        silent_ms: time since the newest heartbeat of the session.
        closed: whether the worker has reported that it stops. Then all its attempts are lost at once.

    Returns:
        `WorkerLost` (once) and the events of its attempts; nothing while the session is within its lease.
    """
    session = state.session(name)
    if session is None or (silent_ms < session.lease_ms and not closed):
        return []
    events: Events = []
    if not session.lost:
        events.append(e.WorkerLost(session=name, closed=closed))
    past_lease_ms = None if closed else silent_ms - session.lease_ms
    return events + lost_attempts(state, name, CLOSED if closed else LAPSED, now, past_lease_ms)


def lost_attempts(state: StateView, session: str, reason: str, now: int, past_lease_ms: int | None = None) -> Events:
    """The loss of a session's attempts.

    Args:
        past_lease_ms: time since the session's lease ended. Attempts that may continue for longer are not lost yet.
            None if all are lost.
    """
    events: Events = []
    for key in state.attempts(session):
        job = state.job(key)
        assert job is not None
        assert job.session == session
        if past_lease_ms is None or past_lease_ms >= job.continue_for_ms:
            events += attempts.lost(state, key, job, reason, now)
    return events
