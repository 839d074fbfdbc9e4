"""The document that explains why a job is not running."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from ftjm.readmodel.documents.fields import Document


class Reason(StrEnum):
    """What a job waits for. NONE: the job runs or has ended."""

    NONE = ""
    HELD = "Held"
    START_TIME = "StartTime"
    BACKOFF = "Backoff"
    DEPENDENCY = "Dependency"
    CONCURRENCY_LIMIT = "ConcurrencyLimit"
    QUEUE_PAUSED = "QueuePaused"
    WINDOW = "Window"
    QUEUE_LIMIT = "QueueLimit"
    RATE_LIMIT = "RateLimit"
    NO_SCHEDULER = "NoScheduler"
    NO_WORKER = "NoWorker"
    PRIORITY = "Priority"
    RESOURCES = "Resources"


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
            description="Jobs of the queue that are served before this one, if it is READY. If it waits for its "
            "concurrency key, jobs that get the key before it."
        ),
    ] = None
