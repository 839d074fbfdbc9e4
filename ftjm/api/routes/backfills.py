"""Paths of backfills: request one of a schedule, see how far it has come, stop it.

The partition that owns the schedule decides whether a request is accepted, and then makes the jobs by itself. So an
answer comes before the jobs are made.
"""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from ftjm.api.http.models import BackfillAccepted, BackfillAnswer, BackfillPage, freshness_document
from ftjm.api.http.problems import unknown_backfill
from ftjm.api.http.query_models import BackfillsQuery, ReadQuery
from ftjm.api.http.routing import CheckedRequest, Operation, reply
from ftjm.api.routes.cluster import first_bytes
from ftjm.api.routes.commands import IDEMPOTENCY, REFUSED, decide, named_request
from ftjm.api.routes.schedules import schedule_names
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.state.backfills import backfill_name
from ftjm.core.state.schedules import schedule_key
from ftjm.readmodel import backfills
from ftjm.readmodel.documents.backfill import backfill_document, backfill_fields
from ftjm.specs.backfill import BackfillFields


async def begin(request: CheckedRequest) -> web.StreamResponse:
    """Send a backfill, and answer with the decision. Raises ProblemError if it is refused."""
    names = schedule_names(request)
    body: BackfillFields = request.body
    command_id = named_request(request.http, "b")
    command = c.BackfillSchedule(
        queue=names["queue"],
        name=names["name"],
        command_id=command_id,
        from_at=body.from_at,
        to_at=body.to,
        reprocess=body.reprocess,
        max_active=body.max_active,
    )
    return await _send(request, command, command_id)


async def stop(request: CheckedRequest) -> web.StreamResponse:
    """Stop a backfill. Raises ProblemError if it is not under way (404)."""
    queue, name, backfill = _names(request)
    return await _send(request, c.StopBackfill(queue=queue, name=name, backfill=backfill), backfill)


async def _send(request: CheckedRequest, command: c.ScheduleCommand, backfill: str) -> web.StreamResponse:
    pending = await decide(request, command)
    document = BackfillAccepted(
        request=backfill_name(command.queue, command.name, backfill),
        schedule=schedule_key(command.queue, command.name),
        id=backfill,
        decided=pending.ticket.reply is not None,
        token=pending.token,
    )
    location = f"/api/v1/schedules/{quote(command.queue)}/{quote(command.name)}/backfills/{quote(backfill)}"
    return reply(document, 202, {"Location": location, "Ftjm-Token": pending.token})


def _names(request: CheckedRequest) -> tuple[str, str, str]:
    """Queue, schedule and id of the path's backfill. Raises ProblemError for texts that are no names (404)."""
    queue, name, backfill = (request.http.match_info[part] for part in ("queue", "name", "id"))
    if not all(map(is_name, (queue, name, backfill))):
        raise unknown_backfill(f"{queue}/{name}/{backfill}"[:300])
    return queue, name, backfill


async def one(request: CheckedRequest) -> web.StreamResponse:
    """One backfill. Raises ProblemError if it is not known (404)."""
    name = backfill_name(*_names(request))
    found = await request.service.read(lambda reader: backfills.find(reader, name))
    if found is None:
        raise unknown_backfill(name)
    return reply(BackfillAnswer(**backfill_fields(name, found), freshness=freshness_document(request.service.status)))


async def page(request: CheckedRequest) -> web.StreamResponse:
    """A page of backfills."""
    query, service = request.query, request.service
    found = await service.read(
        lambda reader: backfills.find_all(reader, query.schedule or "", query.cursor or "", query.limit + 1)
    )
    documents = first_bytes(backfill_document(*each) for each in found[: query.limit])
    following = documents[-1].request if len(found) > len(documents) else None
    return reply(BackfillPage(backfills=documents, next=following, freshness=freshness_document(service.status)))


_OF_SCHEDULE = "/schedules/{queue}/{name}/backfills"
_ONE = "/schedules/{queue}/{name}/backfills/{id}"
_BEGIN_TEXT = (
    "202 means that the replicated log has the request. The jobs are made little by little, whatever fails meanwhile, "
    "and have the ids that the instants have anyway: an instant never has two. The request is kept until a day after "
    "its end, with its counts. 409 with the code UNDER_WAY means that another backfill of the schedule is."
)

OPERATIONS = (
    Operation(
        "POST",
        _OF_SCHEDULE,
        "begin_backfill",
        "Make the jobs of instants of a schedule that have passed.",
        begin,
        {202: BackfillAccepted},
        (*REFUSED, 414),
        body=BackfillFields,
        body_required=True,
        headers=IDEMPOTENCY,
        group="schedules",
        description=_BEGIN_TEXT,
    ),
    Operation(
        "GET",
        "/backfills",
        "backfills",
        "List the backfills that are under way, and those that have ended in the last day.",
        page,
        {200: BackfillPage},
        (400, 414, 503),
        BackfillsQuery,
        group="schedules",
    ),
    Operation(
        "GET",
        _ONE,
        "backfill",
        "Get a backfill, and how far it has come.",
        one,
        {200: BackfillAnswer},
        (400, 404, 414, 503),
        ReadQuery,
        group="schedules",
    ),
    Operation(
        "POST",
        f"{_ONE}/stop",
        "stop_backfill",
        "Stop a backfill that is under way: it begins no further run.",
        stop,
        {202: BackfillAccepted},
        (*REFUSED, 414),
        group="schedules",
    ),
)
