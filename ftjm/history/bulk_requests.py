"""Follows bulk requests by the log: see `requests.py`."""

from __future__ import annotations

from ftjm.core import bulk_rows
from ftjm.core.records import events as e
from ftjm.core.state.processes import Bulk, bulk_name
from ftjm.history.requests import RequestFollower
from ftjm.readmodel.documents.bulk import BulkDocument, bulk_document


class BulkFollower(RequestFollower[Bulk, BulkDocument]):
    """Follows the bulk requests that are sent while it is open."""

    events = (e.BulkBegun, e.BulkAdvanced, e.BulkStopped)

    def name_of(self, event: e.BulkBegun | e.BulkAdvanced | e.BulkStopped) -> str:
        """The name of the request that an event is of."""
        return bulk_name(event.queue, event.bulk)

    def first(self, event: e.BulkBegun) -> Bulk:
        """The row of a request that begins."""
        return bulk_rows.first(event, 0)

    def following(self, row: Bulk, event: e.BulkAdvanced | e.BulkStopped) -> Bulk:
        """The row of a request behind another event of it."""
        return bulk_rows.following(row, event)

    def document(self, name: str, row: Bulk) -> BulkDocument:
        """Render a request."""
        return bulk_document(name, row)
