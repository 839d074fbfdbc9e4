"""The row of a backfill behind each of its events: for the state, and for those who follow a backfill in the log."""

import msgspec

from ftjm.core.records import events as e
from ftjm.core.state.backfills import Backfill

PROGRESS = ("counted_to", "looked_to", "instants", "submitted", "rerun", "kept", "succeeded", "failed")
"""Fields that say how far a backfill has come. The row and `BackfillAdvanced` have them alike."""


def first(event: e.BackfillBegun) -> Backfill:
    """The row of a backfill that begins."""
    before = event.from_at - 1
    return Backfill(
        event.queue,
        event.name,
        event.from_at,
        event.to_at,
        event.reprocess,
        event.max_active,
        event.actor,
        event.at,
        counted_to=before,
        looked_to=before,
    )


def following(backfill: Backfill, event: e.BackfillAdvanced | e.BackfillStopped) -> Backfill:
    """The row of a backfill behind another event of it.

    Args:
        backfill: the row before. Its `active` has no job whose run has ended.
    """
    if isinstance(event, e.BackfillStopped):
        return msgspec.structs.replace(backfill, stopped=True, reason=event.reason, ended_at=event.at)
    progress = {field: getattr(event, field) for field in PROGRESS}
    after = msgspec.structs.replace(backfill, active=[*backfill.active, *event.jobs], **progress)
    return msgspec.structs.replace(after, ended_at=event.at) if after.is_done else after


def without(backfill: Backfill, job_id: str, *, succeeded: bool) -> Backfill:
    """The row of a backfill behind the end of one of its runs."""
    active = [other for other in backfill.active if other != job_id]
    succeeded_, failed = backfill.succeeded + succeeded, backfill.failed + (not succeeded)
    return msgspec.structs.replace(backfill, active=active, succeeded=succeeded_, failed=failed)
