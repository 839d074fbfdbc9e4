"""Paths that read jobs: the list, one job, its history, its output, and the reason why it is not running."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import web

from ftjm.api.http.models import (
    ExplanationAnswer,
    HistoryPage,
    JobAnswer,
    JobPage,
    LogsAnswer,
    freshness_document,
)
from ftjm.api.http.problems import ProblemError
from ftjm.api.http.query_models import HistoryQuery, JobsQuery, LogsQuery, ReadQuery
from ftjm.api.http.routing import CheckedRequest, Operation, reply
from ftjm.core.records import events as e
from ftjm.core.state.model import TERMINAL
from ftjm.readmodel.documents.event import EventDocument, attempt_fields, event_document
from ftjm.readmodel.documents.job import JobSummary
from ftjm.readmodel.explain import explanation_document, standing_of
from ftjm.readmodel.queries import START, Cursor, Reader, StoredJob
from ftjm.readmodel.row_queries import PAGE_BYTES_MAX

EVENTS_AT_ONCE = 32
"""Events of a history that are read before it is known whether they fit on the page."""


async def list_jobs(request: CheckedRequest) -> web.StreamResponse:
    """A page of the jobs that match. Raises ProblemError for an invalid cursor (400)."""
    query: JobsQuery = request.query
    try:
        after = Cursor.decode(query.cursor) if query.cursor else START
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None

    def ask(reader: Reader) -> tuple[list[JobSummary], Cursor | None]:
        page = reader.jobs(query.job_filter(), query.limit, after)
        return [listed.summary() for listed in page.jobs], page.next

    jobs, following = await request.service.read(ask)
    return reply(
        JobPage(
            jobs=jobs,
            next=following.encode() if following else None,
            freshness=freshness_document(request.service.status),
        )
    )


async def get_job(request: CheckedRequest) -> web.StreamResponse:
    """One job."""
    status = request.service.status
    found = await request.service.job(**request.http.match_info)
    return reply(JobAnswer(**found.fields(), freshness=freshness_document(status)))


async def history(request: CheckedRequest) -> web.StreamResponse:
    """A page of a job's events."""
    query: HistoryQuery = request.query
    service = request.service
    found = await service.job(**request.http.match_info)
    after = -1 if query.cursor is None else query.cursor
    offsets = await service.read(lambda reader: reader.events(found.listed.id, after, query.limit + 1))
    events: list[EventDocument] = []
    shown = size = 0
    while shown < min(len(offsets), query.limit) and size < PAGE_BYTES_MAX:
        some = offsets[shown : min(shown + EVENTS_AT_ONCE, query.limit)]
        recorded = {one.offset: one for one in await service.events(found, some)}
        for offset in some:
            shown += 1
            if (one := recorded.get(offset)) is not None:
                events.append(event_document(one.event, one.partition, one.offset))
                size += len(msgspec.json.encode(events[-1]))
            if size >= PAGE_BYTES_MAX:
                break
    following = offsets[shown - 1] if shown < len(offsets) else None
    return reply(HistoryPage(events=events, next=following, freshness=freshness_document(service.status)))


async def logs(request: CheckedRequest) -> web.StreamResponse:
    """The output of an attempt. Raises ProblemError if there is no such job or no output of the attempt (404)."""
    query: LogsQuery = request.query
    found = await request.service.job(**request.http.match_info)
    event = await _ended_attempt(request, found, query.attempt)
    if event is None:
        job, which = found.listed.job, f"attempt {query.attempt}" if query.attempt else "an attempt"
        detail = (
            f"expected output of {which}, but the job is {job.state.name}, attempt {job.attempt}; output comes into "
            f"the log when its attempt has ended"
        )
        raise ProblemError(HTTPStatus.NOT_FOUND, detail, code="NO_OUTPUT", job=found.listed.key)
    return reply(LogsAnswer(**attempt_fields(event), freshness=freshness_document(request.service.status)))


async def _ended_attempt(request: CheckedRequest, found: StoredJob, attempt: int | None) -> e.OutputEvent | None:
    """The event that ended an attempt of the job, or the newest ended attempt; None if the log does not have it.

    Attempts end in the order of their numbers, so the event is found by bisection.
    """
    offsets = await request.service.read(lambda reader: reader.outputs(found.listed.id))
    low, high = 0, len(offsets)
    while low < high:
        middle = (low + high) // 2 if attempt else high - 1
        recorded = await request.service.events(found, [offsets[middle]])
        event = recorded[0].event if recorded else None
        if not isinstance(event, e.OutputEvent):
            low = middle + 1  # trimmed from the log, and everything before it as well
        elif attempt in (None, event.attempt):
            return event
        elif event.attempt < (attempt or 0):
            low = middle + 1
        else:
            high = middle
    return None


async def explain_job(request: CheckedRequest) -> web.StreamResponse:
    """The reason why a job is not running."""
    service = request.service
    found = await service.job(**request.http.match_info)
    standing = await service.read(lambda reader: standing_of(reader, found))
    if found.listed.job.state not in TERMINAL:
        await service.presence_is_settled()
    explanation = explanation_document(found, standing, service.listener.presence)
    freshness = freshness_document(service.status)
    return reply(ExplanationAnswer(**msgspec.structs.asdict(explanation), freshness=freshness))


_JOB = "/jobs/{queue}/{job_id}"
_FROM_LOG = "Events that are not among the newest ones are read from Kafka; without it, the answer is 503."
OPERATIONS = (
    Operation(
        "GET",
        "/jobs",
        "list",
        "List jobs, newest submission first.",
        list_jobs,
        {200: JobPage},
        (400, 414, 503),
        JobsQuery,
        description="All filters that are given must match.",
    ),
    Operation("GET", _JOB, "get", "Get a job.", get_job, {200: JobAnswer}, (400, 404, 414, 503), ReadQuery),
    Operation(
        "GET",
        f"{_JOB}/history",
        "history",
        "List the events of a job, oldest first.",
        history,
        {200: HistoryPage},
        (400, 404, 414, 503),
        HistoryQuery,
        description=_FROM_LOG,
    ),
    Operation(
        "GET",
        f"{_JOB}/logs",
        "logs",
        "Get what an attempt of a job wrote to its standard output and standard error.",
        logs,
        {200: LogsAnswer},
        (400, 404, 414, 503),
        LogsQuery,
        description=f"The log holds the tail of each, from when the attempt has ended. {_FROM_LOG}",
    ),
    Operation(
        "GET",
        f"{_JOB}/explain",
        "explain",
        "Explain why a job is not running.",
        explain_job,
        {200: ExplanationAnswer},
        (400, 404, 414, 503),
        ReadQuery,
        description="The explanation is computed from the job's state and from the heartbeats of the last seconds.",
    ),
)
