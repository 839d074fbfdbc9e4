"""Lineage: whether a store was made from this very log, and which commands its position says are decided.

A store may be ahead of its log (brokers lost acknowledged records in a power loss), or belong to another log (the topic
was deleted and created again). It must not be extended then. So each store keeps the `Position` of its newest batch.
Before the store is used, the record at that offset is read from the log and compared with the position as a whole. If
they differ, the store is discarded, and restored from a snapshot that passes the same check.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from ftjm.core.records import events as e
from ftjm.core.state.migrations import MIGRATING, can_migrate, unreadable
from ftjm.core.state.model import LogPosition, Position
from ftjm.core.state.rows import Rows
from ftjm.core.state.tables import load_position
from ftjm.engine.ports import Codec, EventRecord


def position_of(closed: e.BatchClosed, offset: int, log_id: str) -> Position:
    """The position of a store that has applied the batch which ends at `offset`."""
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


def decided(position: Position, command: LogPosition) -> bool:
    """Whether the command at this position is decided.

    If `commands` has lost its tail, new commands lie at offsets of decided ones. They differ by the epoch of the leader
    that took them, which is later (-1 if it is not known).
    """
    newer = command.epoch > position.command_epoch >= 0
    return command.offset < position.next_command and not newer


def lineage(store: Rows, log_id: str, read: Iterator[EventRecord], codec: Codec) -> str | None:
    """Why `store` is not a child of the log, or None if it is.

    Args:
        read: the records of the log from the store's applied offset; empty if there are none.
    """
    position = load_position(store)
    if position.applied_offset < 0:
        return None
    if position.state_version != MIGRATING and not can_migrate(position.state_version):
        return unreadable(position.state_version)
    if position.log_id != log_id:
        return f"it was made from another log ({position.log_id})"
    record = next(read, None)
    if record is None or record.offset != position.applied_offset:
        return f"it is ahead of the log: there is no record at its offset {position.applied_offset}"
    closed = codec.decode(record.value)
    if not isinstance(closed, e.BatchClosed) or not _agree(position_of(closed, record.offset, log_id), position):
        # All of it: two batches may lead to the same rows by other owners, at other times.
        return f"the log has another record at its offset {position.applied_offset}"
    return None


def _agree(expected: Position, found: Position) -> bool:
    """Whether a position is the expected one. Rows of an earlier version are migrated later, so theirs may differ."""
    return expected == replace(found, state_version=expected.state_version)
