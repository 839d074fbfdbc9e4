"""The document that explains why a job is not running."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from ftjm.readmodel.documents.fields import Document, Moment


class Reason(StrEnum):
    """What a job waits for. NONE: the job runs or has ended."""

    NONE = ""
    HELD = "Held"
    START_TIME = "StartTime"
    BACKOFF = "Backoff"
    CONCURRENCY_LIMIT = "ConcurrencyLimit"
    QUEUE_PAUSED = "QueuePaused"
    WINDOW = "Window"
    QUEUE_LIMIT = "QueueLimit"
    RATE_LIMIT = "RateLimit"
    NO_SCHEDULER = "NoScheduler"
    NO_WORKER = "NoWorker"
    SHARE = "Share"
    COMPUTE_RESERVATION = "ComputeReservation"
    PRIORITY = "Priority"
    RESOURCES = "Resources"


class ShareDocument(Document, frozen=True, kw_only=True):
    """A share of a queue, and what it has used."""

    identifier: Annotated[str, Meta(description="Its share_identifier; empty for jobs that name none.")]
    weight: Annotated[int, Meta(description="Its weight among the shares of the queue.")]
    usage: Annotated[float, Meta(description="Slot time that counts, in seconds: it is halved in each half-life.")]
    running: Annotated[int, Meta(description="Its jobs that have a worker.")]


class ExplanationDocument(Document, frozen=True, kw_only=True):
    """The reason why a job is not running."""

    job: str
    state: str
    reason: Annotated[Reason, Meta(description="What the job waits for; left out if it runs or has ended.")] = (
        Reason.NONE
    )
    text: Annotated[str, Meta(description="The situation, in words.")]
    todo: Annotated[str | None, Meta(description="What to do about it, in words.")] = None
    ahead: Annotated[
        int | None,
        Meta(
            description="Jobs of the queue that are served before this one, if it is READY; in a queue with shares, "
            "those of its share. If it waits for its concurrency key, jobs that get the key before it."
        ),
    ] = None
    share: Annotated[
        ShareDocument | None, Meta(description="What its share has used, if it is READY in a queue with shares.")
    ] = None
    may_start_at: Annotated[
        Moment | None,
        Meta(
            description="An estimate of when it may start, if it is READY and attempts of its queue were dispatched in "
            "the last minute: by its place, and by their rate."
        ),
    ] = None
    starts_per_minute: Annotated[
        int | None,
        Meta(description="Attempts of its queue that were dispatched in the last minute, as its owner says."),
    ] = None
