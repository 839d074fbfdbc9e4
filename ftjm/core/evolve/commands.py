"""Events of a command as such: refused, forwarded to another partition, received from one, its id forgotten."""

from ftjm.core.records import events as e
from ftjm.core.state.outbox import ForwardMessage
from ftjm.core.state.state import State
from ftjm.core.state.timers import Timer, TimerKind


def rejected(state: State, event: e.CommandRejected, key: str) -> None:
    """A refusal changes nothing in the state. `evolve` answers the sender."""


def forwarded(state: State, event: e.CommandForwarded, _key: str) -> None:
    """A command for another partition goes into the outbox, under that partition's next number."""
    peer = state.peer(event.partition)
    peer.sent += 1
    state.save_peer(event.partition, peer)
    state.push(ForwardMessage(event.partition, peer.sent, event.body, event.reply_to))


def forward_received(state: State, event: e.ForwardReceived, _key: str) -> None:
    """A forwarded command has arrived: its number is taken, so that a repetition is recognised."""
    peer = state.peer(event.source)
    # It is the next number, unless the log has lost the commands between.
    assert event.number > peer.received
    peer.received = event.number
    state.save_peer(event.source, peer)


def id_forgotten(state: State, event: e.CommandIdForgotten, _key: str) -> None:
    """The id of a command is no longer remembered."""
    state.forget(event.command_id)
    state.drop_bulk_result(event.command_id)
    state.drop_backfill(event.command_id)
    state.clear_timer(Timer(int(event.cause_ref), TimerKind.COMMAND_ID, event.command_id))
