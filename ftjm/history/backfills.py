"""Follows backfills by the log: see `requests.py`."""

from __future__ import annotations

import msgspec

from ftjm.core import backfill_rows
from ftjm.core.records import events as e
from ftjm.core.state.backfills import Backfill, backfill_name
from ftjm.history.requests import RequestFollower
from ftjm.readmodel.documents.backfill import BackfillDocument, backfill_document


class BackfillFollower(RequestFollower[Backfill, BackfillDocument]):
    """Follows the backfills that are sent while it is open."""

    events = (e.BackfillBegun, e.BackfillAdvanced, e.BackfillStopped)

    def name_of(self, event: e.BackfillEvent) -> str:
        """The name of the backfill that an event is of."""
        return backfill_name(event.queue, event.name, event.backfill)

    def first(self, event: e.BackfillBegun) -> Backfill:
        """The row of a backfill that begins."""
        return backfill_rows.first(event)

    def following(self, row: Backfill, event: e.BackfillAdvanced | e.BackfillStopped) -> Backfill:
        """The row of a backfill behind another event of it. Ends of runs are counted, but not known by their jobs."""
        begun = event.submitted + event.rerun if isinstance(event, e.BackfillAdvanced) else 0
        ended = event.succeeded + event.failed if isinstance(event, e.BackfillAdvanced) else 0
        if begun == ended:
            row = msgspec.structs.replace(row, active=[])
        return backfill_rows.following(row, event)

    def document(self, name: str, row: Backfill) -> BackfillDocument:
        """Render a backfill."""
        return backfill_document(name, row)
