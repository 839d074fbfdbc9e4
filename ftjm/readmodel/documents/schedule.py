"""A schedule as a document: what it is declared to, its next and last instant, and its pause."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from ftjm.core.state.schedules import Schedule
from ftjm.readmodel.documents.fields import Document, Moment
from ftjm.runtime.durations import format_time
from ftjm.specs.schedule import written


class ScheduleSpecDocument(Document, frozen=True, kw_only=True):
    """What a schedule is declared to, as in a file of resources."""

    cron: Annotated[str | None, Meta(description="When it fires, in the local time of `time_zone`.")] = None
    interval: Annotated[str | None, Meta(description="The time between two instants, such as 15m.")] = None
    time_zone: Annotated[str | None, Meta(description="A name of the IANA database.")] = None
    dst: Annotated[str | None, Meta(description="Local times that the clock skips or repeats: once, skip or both.")] = (
        None
    )
    calendar: Annotated[str | None, Meta(description="It fires only on days of this calendar.")] = None
    start: Annotated[Moment | None, Meta(description="It does not fire before this time.")] = None
    end: Annotated[Moment | None, Meta(description="It does not fire after this time.")] = None
    starting_deadline: Annotated[str, Meta(description="An instant that is later than this is missed, such as 5m.")]
    catch_up: Annotated[str, Meta(description="Which missed instants fire: none, latest or all.")]
    overlap: Annotated[
        str, Meta(description="What happens while its last job has not ended: allow, forbid, queue or replace.")
    ]
    jitter: Annotated[str, Meta(description="Its jobs start up to so much later.")]
    job: Annotated[dict[str, Any], Meta(description="The fields of its jobs, as in a file of jobs.")]


class ScheduleDeclarationDocument(Document, frozen=True, kw_only=True):
    """The declaration of a schedule."""

    revision: Annotated[int, Meta(description="Grows with each change.")]
    labels: Annotated[dict[str, str], Meta(description="Its labels.")] = field(default_factory=dict)
    spec: ScheduleSpecDocument
    applied_at: Annotated[Moment, Meta(description="When it was changed last.")]
    actor: Annotated[str | None, Meta(description="Who changed it last.")] = None


class ScheduleDocument(Document, frozen=True, kw_only=True):
    """A schedule: what it is declared to, and which instants come next and were last."""

    schedule: Annotated[str, Meta(description="Name of the schedule: queue/name.")]
    queue: str
    name: str
    next_at: Annotated[
        Moment | None, Meta(description="The next instant; left out if none comes, and while it is paused.")
    ] = None
    waiting_at: Annotated[
        Moment | None, Meta(description="An instant that waits for the end of the job `last_job`.")
    ] = None
    last_at: Annotated[Moment | None, Meta(description="The last instant that fired.")] = None
    last_job: Annotated[str | None, Meta(description="The job of the last firing: queue/job_id.")] = None
    paused: Annotated[bool, Meta(description="Whether it does not fire until it is resumed.")] = False
    paused_at: Annotated[Moment | None, Meta(description="Since when it is paused.")] = None
    paused_by: Annotated[str | None, Meta(description="Who paused it.")] = None
    pause_reason: Annotated[str | None, Meta(description="Why it is paused.")] = None
    tzdata: Annotated[str | None, Meta(description="The version of the time zones by which `next_at` was found.")] = (
        None
    )
    calendar_revision: Annotated[
        int | None, Meta(description="The revision of its calendar by which `next_at` was found.")
    ] = None
    declaration: Annotated[ScheduleDeclarationDocument, Meta(description="What it is declared to.")]


def schedule_fields(key: str, row: Schedule) -> dict[str, Any]:
    """The fields of a `ScheduleDocument`, from the schedule's row. `key` is `queue/name`."""
    queue, _, name = key.partition("/")
    return {
        "schedule": key,
        "queue": queue,
        "name": name,
        "next_at": format_time(row.next_at) or None,
        "waiting_at": format_time(row.waiting_instant) or None,
        "last_at": format_time(row.last_instant) or None,
        "last_job": f"{queue}/{row.last_job}" if row.last_job else None,
        "paused": bool(row.paused_at),
        "paused_at": format_time(row.paused_at) or None,
        "paused_by": row.pause_actor or None,
        "pause_reason": row.pause_reason or None,
        "tzdata": row.tzdata or None,
        "calendar_revision": row.calendar_revision or None,
        "declaration": ScheduleDeclarationDocument(
            revision=row.revision,
            labels=row.labels,
            spec=msgspec.convert(written(row.spec), ScheduleSpecDocument),
            applied_at=format_time(row.applied_at) or format_time(1),
            actor=row.actor or None,
        ),
    }


def schedule_document(key: str, row: Schedule) -> ScheduleDocument:
    """Render a schedule. `key` is `queue/name`."""
    return ScheduleDocument(**schedule_fields(key, row))
