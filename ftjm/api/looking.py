"""Operations that look at jobs."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from ftjm.api import models as m
from ftjm.api import requests, views
from ftjm.api.explaining import ahead_of, explained
from ftjm.api.operations import Asked, Operation, reply
from ftjm.api.problems import ProblemError
from ftjm.api.queries import START, Filter, Place
from ftjm.core import events as e
from ftjm.core.model import TERMINAL
from ftjm.jobhistory import Recorded


def wanted(query: requests.JobsQuery) -> Filter:
    """The filter that a query asks for."""
    return Filter(
        queue=query.queue or "",
        states=tuple(query.state),
        labels=tuple(query.label),
        submitted_from=query.submitted_from or 0,
        submitted_before=query.submitted_before or 0,
    )


async def list_jobs(asked: Asked) -> web.StreamResponse:
    """Jobs that match."""
    query: requests.JobsQuery = asked.query
    try:
        behind = Place.decode(query.cursor) if query.cursor else START
    except ValueError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
    page = await asked.service.read(lambda reader: reader.jobs(wanted(query), query.limit, behind))
    return reply(
        m.JobPage(
            jobs=[m.JobSummary.model_construct(**views.summary(listed)) for listed in page.jobs],
            next=page.next.encode() if page.next else None,
            freshness=views.freshness(asked.service.freshness),
        )
    )


async def get_job(asked: Asked) -> web.StreamResponse:
    """One job."""
    known = asked.service.freshness
    found = await asked.service.job(**asked.request.match_info)
    return reply(views.job(found, known))


async def history(asked: Asked) -> web.StreamResponse:
    """A job's events."""
    query: requests.HistoryQuery = asked.query
    found = await asked.service.job(**asked.request.match_info)
    behind = -1 if query.cursor is None else query.cursor
    offsets = await asked.service.read(lambda reader: reader.events(found.listed.id, behind, query.limit + 1))
    recorded = await asked.service.records(found, offsets[: query.limit])
    return reply(
        m.HistoryPage(
            events=[views.happened(one) for one in recorded],
            next=offsets[query.limit - 1] if len(offsets) > query.limit else None,
            freshness=views.freshness(asked.service.freshness),
        )
    )


async def logs(asked: Asked) -> web.StreamResponse:
    """What an attempt wrote."""
    query: requests.LogsQuery = asked.query
    found = await asked.service.job(**asked.request.match_info)
    offsets = await asked.service.read(lambda reader: reader.outputs(found.listed.id))
    # Attempts are numbered as they end: the one that is wanted is found by halving.
    low, high = 0, len(offsets)
    while low < high:
        middle = (low + high) // 2 if query.attempt else high - 1
        records: list[Recorded] = await asked.service.records(found, [offsets[middle]])
        event = records[0].event if records else None
        if not isinstance(event, e.AttemptSucceeded | e.AttemptFailed):
            low = middle + 1  # the log no longer has it, nor what was before it
        elif query.attempt in (None, event.attempt):
            return reply(views.logs(event, asked.service.freshness))
        elif event.attempt < (query.attempt or 0):
            low = middle + 1
        else:
            high = middle
    which = f"attempt {query.attempt}" if query.attempt else "an attempt"
    row = found.listed.job
    text = f"expected output of {which}, but the job is {row.state.name}, attempt {row.attempt}"
    todo = "output comes into the log when an attempt has ended"
    raise ProblemError(HTTPStatus.NOT_FOUND, f"{text}; {todo}", code="NO_OUTPUT", job=found.listed.key)


async def explain_job(asked: Asked) -> web.StreamResponse:
    """Why a job is not running."""
    service = asked.service
    found = await service.job(**asked.request.match_info)
    ahead = await service.read(lambda reader: ahead_of(reader, found))
    if found.listed.job.state not in TERMINAL:
        await service.heard_everyone()
    why = explained(found, ahead, service.listener.presence)
    return reply(m.Explained(**views.explained(found, why), freshness=views.freshness(service.freshness)))


_JOB = "/jobs/{queue}/{job_id}"
OPERATIONS = (
    Operation(
        "GET",
        "/jobs",
        "list",
        "Jobs that match, newest first.",
        list_jobs,
        {200: m.JobPage},
        (400, 414, 503),
        requests.JobsQuery,
    ),
    Operation("GET", _JOB, "get", "One job.", get_job, {200: m.Job}, (400, 404, 414, 503), requests.Read),
    Operation(
        "GET",
        f"{_JOB}/history",
        "history",
        "Its events; those that are not among the newest are read from the log, 503 without it.",
        history,
        {200: m.HistoryPage},
        (400, 404, 414, 503),
        requests.HistoryQuery,
    ),
    Operation(
        "GET",
        f"{_JOB}/logs",
        "logs",
        "What an attempt wrote; read as its history is.",
        logs,
        {200: m.Logs},
        (400, 404, 414, 503),
        requests.LogsQuery,
    ),
    Operation(
        "GET",
        f"{_JOB}/explain",
        "explain",
        "Why it is not running.",
        explain_job,
        {200: m.Explained},
        (400, 404, 414, 503),
        requests.Read,
    ),
)
