"""A bulk request as a document: what is asked for, and how far it has come."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, field

from ftjm.core.state.processes import Bulk, BulkAction, JobFilter
from ftjm.readmodel.documents.fields import Document, Moment
from ftjm.runtime.durations import format_time


class BulkStatus(StrEnum):
    """How far a bulk request has come."""

    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"
    """It has gone through all jobs that were there when it was accepted."""
    STOPPED = "STOPPED"
    """It was stopped before that. What it has changed stays so."""


class BulkFilterDocument(Document, frozen=True, kw_only=True):
    """The jobs that a bulk request is about: those that meet every field."""

    states: Annotated[
        list[str], Meta(description="Their states; left out: all states in which the action makes sense.")
    ] = field(default_factory=list)
    labels: Annotated[dict[str, str], Meta(description="Labels that they have, perhaps among others.")] = field(
        default_factory=dict
    )
    submitted_after: Annotated[Moment | None, Meta(description="They were submitted at this time or later.")] = None
    submitted_before: Annotated[Moment | None, Meta(description="They were submitted before this time.")] = None


class BulkDocument(Document, frozen=True, kw_only=True):
    """A request about many jobs of one queue."""

    request: Annotated[str, Meta(description="Its name: queue/id.")]
    queue: str
    id: Annotated[str, Meta(description="The id, which its sender has chosen or was given.")]
    action: Annotated[BulkAction, Meta(description="What is done with each job.")]
    filter: BulkFilterDocument
    reason: str | None = None
    priority: Annotated[int | None, Meta(description="The jobs' new priority, for `prioritize`.")] = None
    status: BulkStatus
    jobs: Annotated[int, Meta(description="Jobs that the queue held when the request was accepted.")]
    looked: Annotated[int, Meta(description="Jobs of the queue that were looked at so far.")]
    changed: Annotated[int, Meta(description="Jobs that were changed so far.")]
    refused: Annotated[int, Meta(description="Jobs that the filter names and whose state does not allow the action.")]
    begun_at: Annotated[Moment, Meta(description="When it was accepted.")]
    ended_at: Annotated[Moment | None, Meta(description="When it was done or stopped.")] = None
    actor: Annotated[str | None, Meta(description="Who sent it.")] = None

    @property
    def has_ended(self) -> bool:
        """Whether it is done or stopped."""
        return self.status is not BulkStatus.UNDER_WAY


def bulk_document(name: str, bulk: Bulk) -> BulkDocument:
    """Render a bulk request.

    Args:
        name: the name of its process, `queue/id`.
    """
    status = BulkStatus.UNDER_WAY
    if bulk.ended_at:
        status = BulkStatus.STOPPED if bulk.stopped else BulkStatus.DONE
    return BulkDocument(
        request=name,
        queue=bulk.queue,
        id=name.partition("/")[2],
        action=bulk.action,
        filter=filter_document(bulk.filter),
        reason=bulk.reason or None,
        priority=bulk.priority if bulk.action is BulkAction.PRIORITIZE else None,
        status=status,
        jobs=bulk.jobs,
        looked=bulk.looked,
        changed=bulk.changed,
        refused=bulk.refused,
        begun_at=format_time(bulk.begun_at) or format_time(1),
        ended_at=format_time(bulk.ended_at) or None,
        actor=bulk.actor or None,
    )


def filter_document(wanted: JobFilter) -> BulkFilterDocument:
    """Render the filter of a bulk request."""
    return BulkFilterDocument(
        states=wanted.states,
        labels=wanted.labels,
        submitted_after=format_time(wanted.submitted_after) or None,
        submitted_before=format_time(wanted.submitted_before) or None,
    )
