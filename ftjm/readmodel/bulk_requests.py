"""Queries about bulk requests: those that are under way, and those of the last day."""

from __future__ import annotations

from typing import Any

from ftjm.core.decide.bulk import STATES
from ftjm.core.state.processes import Bulk, BulkAction, JobFilter, ProcessKind, bulk_name
from ftjm.core.state.rows import first_key_after
from ftjm.core.state.tables import BULK_RESULTS, PROCESSES, Table, process_key
from ftjm.readmodel.queries import Reader

_TABLES: tuple[tuple[Table[Any], bytes], ...] = (
    (PROCESSES, process_key(ProcessKind.BULK, "")),
    (BULK_RESULTS, BULK_RESULTS.prefix),
)
"""The tables of requests, and the first part of their keys. A request moves from the first one to the second one: they
are read in this order, so that none is missed."""


def find(reader: Reader, queue: str, request: str) -> Bulk | None:
    """Read a request by its queue and its id; None if it is not known, or no longer."""
    name = bulk_name(queue, request)
    for table, prefix in _TABLES:
        key = prefix + name.encode()
        for _, row in reader.rows(table, key, key + b"\0", 1):
            assert isinstance(row, Bulk)
            return row
    return None


def find_all(reader: Reader, queue: str, behind: str, limit: int) -> list[tuple[str, Bulk]]:
    """Read requests by their names, `queue/id`.

    Args:
        queue: only those about this queue; empty for all queues.
        behind: only those behind this name.
        limit: requests, at most.

    Returns:
        Each request with its name.
    """
    found: dict[str, Bulk] = {}
    for table, prefix in _TABLES:
        first = prefix + (bulk_name(queue, "").encode() if queue else b"")
        start = max(first, prefix + behind.encode() + b"\0")
        for key, row in reader.rows(table, start, first_key_after(first), limit):
            assert isinstance(row, Bulk)
            found[key[len(prefix) :].decode()] = row
    return sorted(found.items())[:limit]


def states_of(action: BulkAction, wanted: JobFilter) -> list[str]:
    """Names of the states of the jobs that a request is about."""
    return wanted.states or sorted(state.name for state in STATES[action])
