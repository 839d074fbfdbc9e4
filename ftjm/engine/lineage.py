"""What a store's position says of the logs: whether it is this one's child, and which commands are decided."""

from __future__ import annotations

from collections.abc import Iterator

from ftjm.core import events as e
from ftjm.core.keys import Rows
from ftjm.core.model import STATE_VERSION, Place, Position
from ftjm.core.state import load_position
from ftjm.engine.ports import Codec, EventRecord


def position_of(closed: e.BatchClosed, offset: int, log_id: str) -> Position:
    """Where a store stands once it has applied the batch."""
    return Position(
        log_id=log_id,
        applied_offset=offset,
        next_command=closed.next_command,
        batch_no=closed.batch_no,
        now=closed.now,
        owner_epoch=closed.owner_epoch,
        owner=closed.owner,
        outbox_sent=closed.outbox_sent,
        command_epoch=closed.command_epoch,
        state_hash=closed.state_hash,
    )


def decided(position: Position, command: Place) -> bool:
    """Whether a command that lies there is decided: where `commands` has lost its tail, new ones come to lie in the
    place of decided ones, but by a leader of a later epoch (where any is known)."""
    newer = command.epoch > position.command_epoch >= 0
    return command.offset < position.next_command and not newer


def lineage(store: Rows, log_id: str, read: Iterator[EventRecord], codec: Codec) -> str | None:
    """Why `store` is not a child of the log, or None if it is.

    Args:
        read: the records of the log from the store's applied offset on; empty if there are none.
    """
    position = load_position(store)
    if position.applied_offset < 0:
        return None
    if position.state_version != STATE_VERSION:
        return f"its rows are of version {position.state_version}, and this program's of {STATE_VERSION}"
    if position.log_id != log_id:
        return f"it was made from another log ({position.log_id})"
    record = next(read, None)
    if record is None or record.offset != position.applied_offset:
        return f"it is ahead of the log: there is no record at its offset {position.applied_offset}"
    closed = codec.decode(record.value)
    if not isinstance(closed, e.BatchClosed) or position_of(closed, record.offset, log_id) != position:
        # All of it: two batches may lead to the same rows by other owners, at other times.
        return f"the log has another record at its offset {position.applied_offset}"
    return None
