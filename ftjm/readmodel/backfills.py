"""Queries about backfills: those that are under way, and those that have ended in the last day."""

from __future__ import annotations

from ftjm.core.decide.backfills import REPROCESSED
from ftjm.core.state.backfills import Backfill, Reprocess
from ftjm.core.state.rows import first_key_after
from ftjm.core.state.tables import BACKFILLS
from ftjm.readmodel.queries import Reader


def find(reader: Reader, name: str) -> Backfill | None:
    """Read a backfill by its name, `queue/schedule/id`; None if it is not known, or no longer."""
    key = BACKFILLS.prefix + name.encode()
    return next((row for _, row in reader.rows(BACKFILLS, key, key + b"\0", 1)), None)


def find_all(reader: Reader, schedule: str, behind: str, limit: int) -> list[tuple[str, Backfill]]:
    """Read backfills by their names.

    Args:
        schedule: only those of this schedule, `queue/name`; empty for all.
        behind: only those behind this name.
        limit: backfills, at most.

    Returns:
        Each backfill with its name.
    """
    first = BACKFILLS.prefix + (f"{schedule}/".encode() if schedule else b"")
    start = max(first, BACKFILLS.prefix + behind.encode() + b"\0") if behind else first
    rows = reader.rows(BACKFILLS, start, first_key_after(first), limit)
    return [(key[1:].decode(), row) for key, row in rows]


def states_of(reprocess: Reprocess) -> frozenset[str]:
    """Names of the states of the jobs that run again."""
    return frozenset(state.name for state in REPROCESSED[reprocess])
