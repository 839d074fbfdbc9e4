"""Whether a store is a child of its log: what a batch says of where it stands, and what proves that it does."""

from __future__ import annotations

from collections.abc import Iterator

from ftjm.core import events as e
from ftjm.core.keys import Rows
from ftjm.core.model import STATE_VERSION, Position
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
        state_hash=closed.state_hash,
    )


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
