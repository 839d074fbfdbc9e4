"""Events of a worker's session: lost, forgotten."""

from ftjm.core.evolve.transitions import next_number
from ftjm.core.records import events as e
from ftjm.core.state.outbox import CloseMessage
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind

SESSION_MEMORY_MS = 86_400_000
"""How long a lost session is remembered at least, so that it is never given work again. While it holds attempts, it is
remembered for longer: `StateView.due` leaves its timer out."""


def lost(state: State, event: e.WorkerLost, _key: str) -> None:
    """The session is given no more work. Its row is remembered, so that a late heartbeat does not revive it."""
    session = state.session(event.session)
    assert session is not None
    assert not session.lost
    session.lost = True
    state.save_session(event.session, session)
    if not event.closed:
        number, lane = next_number(state, event.session)
        state.push(CloseMessage(event.session, number, lane))
    state.set_timer(Timer(event.at + SESSION_MEMORY_MS, TimerKind.SESSION, event.session))


def forgotten(state: State, event: e.WorkerForgotten, _key: str) -> None:
    """The lost session's row is removed from the store. It holds nothing: attempts end by silence or by a report."""
    session = state.session(event.session)
    assert session is not None
    assert session.live == 0, f"session {event.session} still holds attempts"
    state.drop_session(event.session)
    state.clear_timer(Timer(int(event.cause_ref), TimerKind.SESSION, event.session))
