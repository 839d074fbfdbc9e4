"""The API's answers, beside the documents of `readmodel/documents/`.

The OpenAPI document is generated from these structs and those. As everywhere, a field without a value is left out.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ftjm.readmodel.documents.backfill import BackfillDocument
from ftjm.readmodel.documents.bulk import BulkDocument
from ftjm.readmodel.documents.cluster import PartitionDocument, SchedulerDocument, WorkerDocument
from ftjm.readmodel.documents.event import AttemptOutput, EventDocument
from ftjm.readmodel.documents.explanation import ExplanationDocument
from ftjm.readmodel.documents.fields import Document, Moment
from ftjm.readmodel.documents.job import JobDocument, JobSummary, OutcomeDocument
from ftjm.readmodel.documents.queue import QueueDocument
from ftjm.readmodel.documents.resource import CalendarDocument, WindowDocument
from ftjm.readmodel.documents.schedule import ScheduleDocument
from ftjm.readmodel.follower import ProjectionStatus
from ftjm.runtime.clock import wall_ms
from ftjm.runtime.durations import format_time

STALE_MS = 5_000
"""An answer that is older than this is marked as stale. While all is well, answers are less than two seconds old."""


class Freshness(Document, frozen=True, kw_only=True):
    """How old an answer is: everything that the log held at `as_of` is in it."""

    as_of: Annotated[Moment | None, Meta(description="Left out before the log was read to its end once.")] = None
    age_seconds: Annotated[float | None, Meta(description="Seconds since `as_of`.")] = None
    stale: Annotated[
        bool, Meta(description="Whether the answer is older than usual: Kafka does not answer, or reading is behind.")
    ]


class JobAnswer(JobDocument, frozen=True, kw_only=True):
    """A job with what it was asked to do, how far it has come, and how it ended."""

    freshness: Freshness


class JobPage(Document, frozen=True, kw_only=True):
    """Jobs, the newest submission first. A page may be shorter than its limit: continue while there is a `next`."""

    jobs: list[JobSummary]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class Accepted(Document, frozen=True, kw_only=True):
    """A command that the replicated log has."""

    job: str
    queue: str
    job_id: str
    decided: Annotated[
        bool, Meta(description="Whether a scheduler has decided on the command yet. Everything in the log is decided.")
    ]
    state: Annotated[str | None, Meta(description="The job's state after the decision.")] = None
    run: int | None = None
    token: Annotated[str, Meta(description="Give it as `after` to a read that must see what the command changed.")]
    outcome: Annotated[OutcomeDocument | None, Meta(description="With `wait`: how the run ended.")] = None


class QueueAccepted(Document, frozen=True, kw_only=True):
    """A command about a queue that the replicated log has."""

    queue: str
    decided: Annotated[
        bool, Meta(description="Whether a scheduler has decided on the command yet. Everything in the log is decided.")
    ]
    token: Annotated[str, Meta(description="Give it as `after` to a read that must see what the command changed.")]


class BulkAccepted(Document, frozen=True, kw_only=True):
    """A bulk request, or a request to stop one, that the replicated log has."""

    request: Annotated[str, Meta(description="Name of the bulk request: queue/id.")]
    queue: str
    id: str
    decided: Annotated[
        bool, Meta(description="Whether a scheduler has decided on the command yet. Everything in the log is decided.")
    ]
    token: Annotated[str, Meta(description="Give it as `after` to a read that must see what the command changed.")]


class HistoryPage(Document, frozen=True, kw_only=True):
    """A job's events, oldest first."""

    events: list[EventDocument]
    next: Annotated[int | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class LogsAnswer(AttemptOutput, frozen=True, kw_only=True):
    """The output of one attempt: the tails that the log holds. Bytes that are no UTF-8 are replaced by U+FFFD."""

    freshness: Freshness


class ExplanationAnswer(ExplanationDocument, frozen=True, kw_only=True):
    """The reason why a job is not running."""

    freshness: Freshness


class QueueAnswer(QueueDocument, frozen=True, kw_only=True):
    """A queue: the jobs that it holds, the workers that serve it, and what it is declared to."""

    freshness: Freshness


class QueuePage(Document, frozen=True, kw_only=True):
    """Queues, by name."""

    queues: list[QueueDocument]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class BulkAnswer(BulkDocument, frozen=True, kw_only=True):
    """A bulk request, and how far it has come."""

    freshness: Freshness


class BulkPage(Document, frozen=True, kw_only=True):
    """Bulk requests, by queue and id."""

    requests: list[BulkDocument]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class BackfillAccepted(Document, frozen=True, kw_only=True):
    """A backfill, or a request to stop one, that the replicated log has."""

    request: Annotated[str, Meta(description="Name of the backfill: queue/schedule/id.")]
    schedule: Annotated[str, Meta(description="Name of the schedule: queue/name.")]
    id: str
    decided: Annotated[
        bool, Meta(description="Whether a scheduler has decided on the command yet. Everything in the log is decided.")
    ]
    token: Annotated[str, Meta(description="Give it as `after` to a read that must see what the command changed.")]


class BackfillAnswer(BackfillDocument, frozen=True, kw_only=True):
    """A backfill, and how far it has come."""

    freshness: Freshness


class BackfillPage(Document, frozen=True, kw_only=True):
    """Backfills, by schedule and id."""

    backfills: list[BackfillDocument]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class ScheduleAccepted(Document, frozen=True, kw_only=True):
    """A command about a schedule that the replicated log has."""

    schedule: Annotated[str, Meta(description="Name of the schedule: queue/name.")]
    queue: str
    name: str
    job: Annotated[str | None, Meta(description="The job that the request makes: queue/job_id.")] = None
    decided: Annotated[
        bool, Meta(description="Whether a scheduler has decided on the command yet. Everything in the log is decided.")
    ]
    token: Annotated[str, Meta(description="Give it as `after` to a read that must see what the command changed.")]


class ScheduleAnswer(ScheduleDocument, frozen=True, kw_only=True):
    """A schedule: what it is declared to, and which instants come next and were last."""

    freshness: Freshness


class SchedulePage(Document, frozen=True, kw_only=True):
    """Schedules, by queue and name."""

    schedules: list[ScheduleDocument]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class ResourceAccepted(Document, frozen=True, kw_only=True):
    """A command about a calendar, a window or a worker that the replicated log has."""

    kind: Annotated[str, Meta(description="Calendar, Window, or Cordon of a worker.")]
    name: str
    decided: Annotated[
        bool, Meta(description="Whether a scheduler has decided on the command yet. Everything in the log is decided.")
    ]
    token: Annotated[str, Meta(description="Give it as `after` to a read that must see what the command changed.")]


class CalendarAnswer(CalendarDocument, frozen=True, kw_only=True):
    """A calendar."""

    freshness: Freshness


class CalendarPage(Document, frozen=True, kw_only=True):
    """Calendars, by name."""

    calendars: list[CalendarDocument]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class WindowAnswer(WindowDocument, frozen=True, kw_only=True):
    """A window: what it is declared to, and whether it is open."""

    freshness: Freshness


class WindowPage(Document, frozen=True, kw_only=True):
    """Windows, by name."""

    windows: list[WindowDocument]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None
    freshness: Freshness


class WorkerPage(Document, frozen=True, kw_only=True):
    """The newest session of each worker process of the last minute that has not left, by session."""

    workers: list[WorkerDocument]
    next: Annotated[str | None, Meta(description="The cursor of the next page; left out on the last one.")] = None


class Partitions(Document, frozen=True, kw_only=True):
    """All partitions."""

    partitions: list[PartitionDocument]
    freshness: Freshness


class BrokerDocument(Document, frozen=True, kw_only=True):
    """A Kafka broker."""

    id: int
    host: str
    port: int
    controller: bool


class Topology(Document, frozen=True, kw_only=True):
    """All processes of the cluster."""

    cluster: str
    version: str
    schedulers: list[SchedulerDocument]
    workers: list[WorkerDocument]
    next_worker: Annotated[
        str | None, Meta(description="The cursor for `/workers` behind these workers; left out if these are all.")
    ] = None
    brokers: Annotated[list[BrokerDocument] | None, Meta(description="Left out if Kafka does not answer.")] = None
    freshness: Freshness


class HealthAnswer(Document, frozen=True, kw_only=True):
    """Whether this instance takes requests."""

    ready: bool
    why: Annotated[str | None, Meta(description="Why the instance is not ready.")] = None


class Fault(Document, frozen=True, kw_only=True):
    """An error in one field of a request."""

    path: Annotated[list[str | int], Meta(description="Where the field is in the request.")]
    text: str


class ProblemDocument(Document, frozen=True, kw_only=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Meta(description="What was expected, what was found, and what to do.")]
    code: Annotated[str | None, Meta(description="The kind of problem, for programs.")] = None
    errors: Annotated[list[Fault] | None, Meta(description="The fields that are wrong.")] = None
    job: Annotated[str | None, Meta(description="The job that the request was about.")] = None


def freshness_document(status: ProjectionStatus) -> Freshness:
    """Render how old the projection is now."""
    if not status.as_of:
        return Freshness(stale=True)
    age_ms = max(0, wall_ms() - status.as_of)
    return Freshness(as_of=format_time(status.as_of), age_seconds=age_ms / 1000, stale=age_ms > STALE_MS)
