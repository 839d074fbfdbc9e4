"""A backfill as a document: what is asked for, and how far it has come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta, field

from ftjm.core.state.backfills import Backfill, Reprocess
from ftjm.readmodel.documents.fields import Document, Moment
from ftjm.runtime.durations import format_time


class BackfillStatus(StrEnum):
    """How far a backfill has come."""

    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"
    """It has looked at all instants, and all runs that it has begun have ended."""
    STOPPED = "STOPPED"
    """It was stopped before that. Runs that it has begun go on."""


class BackfillDocument(Document, frozen=True, kw_only=True):
    """A request to make the jobs of instants of a schedule that have passed."""

    request: Annotated[str, Meta(description="Its name: queue/schedule/id.")]
    schedule: Annotated[str, Meta(description="Name of the schedule: queue/name.")]
    queue: str
    name: Annotated[str, Meta(description="The schedule's name in its queue.")]
    id: Annotated[str, Meta(description="The id, which its sender has chosen or was given.")]
    from_: Annotated[Moment, Meta(description="It is about the instants from this time on.")] = field(name="from")
    to: Annotated[Moment, Meta(description="The last time of an instant that it is about.")]
    reprocess: Annotated[Reprocess, Meta(description="Which jobs that are there already run again.")]
    max_active: Annotated[int, Meta(description="At most so many runs that it has begun have not ended.")]
    status: BackfillStatus
    instants: Annotated[int, Meta(description="Instants that it is about, as far as they are counted.")]
    submitted: Annotated[int, Meta(description="Jobs that it has made.")]
    rerun: Annotated[int, Meta(description="Jobs that it has run again.")]
    kept: Annotated[int, Meta(description="Instants whose job was left alone.")]
    succeeded: Annotated[int, Meta(description="Runs that it has begun and that have succeeded.")]
    failed: Annotated[int, Meta(description="Runs that it has begun and that have ended otherwise.")]
    active: Annotated[int, Meta(description="Runs that it has begun and that have not ended.")]
    begun_at: Annotated[Moment, Meta(description="When it was accepted.")]
    ended_at: Annotated[Moment | None, Meta(description="When it was done or stopped.")] = None
    reason: Annotated[str | None, Meta(description="Why it was stopped, unless somebody asked for that.")] = None
    actor: Annotated[str | None, Meta(description="Who sent it.")] = None

    @property
    def has_ended(self) -> bool:
        """Whether it is done or stopped."""
        return self.status is not BackfillStatus.UNDER_WAY


def backfill_fields(name: str, row: Backfill) -> dict[str, Any]:
    """The fields of a `BackfillDocument`, from the backfill's row. `name` is `queue/schedule/id`."""
    status = BackfillStatus.UNDER_WAY
    if row.ended_at:
        status = BackfillStatus.STOPPED if row.stopped else BackfillStatus.DONE
    return {
        "request": name,
        "schedule": f"{row.queue}/{row.name}",
        "queue": row.queue,
        "name": row.name,
        "id": name.rpartition("/")[2],
        "from_": format_time(row.from_at),
        "to": format_time(row.to_at),
        "reprocess": row.reprocess,
        "max_active": row.max_active,
        "status": status,
        "instants": row.instants,
        "submitted": row.submitted,
        "rerun": row.rerun,
        "kept": row.kept,
        "succeeded": row.succeeded,
        "failed": row.failed,
        "active": row.submitted + row.rerun - row.succeeded - row.failed,
        "begun_at": format_time(row.begun_at) or format_time(1),
        "ended_at": format_time(row.ended_at) or None,
        "reason": row.reason or None,
        "actor": row.actor or None,
    }


def backfill_document(name: str, row: Backfill) -> BackfillDocument:
    """Render a backfill. `name` is `queue/schedule/id`."""
    return BackfillDocument(**backfill_fields(name, row))
