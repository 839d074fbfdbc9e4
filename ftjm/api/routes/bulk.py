"""Paths of bulk requests: the same for many jobs of a queue. Send one, see how far it has come, stop it.

The partition that owns the queue decides whether a request is accepted, and then goes through the jobs by itself. So an
answer comes before the jobs are changed.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from aiohttp import web

from ftjm.api.http.models import BulkAccepted, BulkAnswer, BulkPage, freshness_document
from ftjm.api.http.problems import unknown_bulk
from ftjm.api.http.query_models import BulkQuery, ReadQuery
from ftjm.api.http.routing import CheckedRequest, Operation, reply
from ftjm.api.routes.cluster import first_bytes
from ftjm.api.routes.commands import IDEMPOTENCY, REFUSED, decide, named_request
from ftjm.api.routes.queues import queue_name
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.state.processes import bulk_name
from ftjm.readmodel import bulk_requests
from ftjm.readmodel.documents.bulk import bulk_document
from ftjm.specs.bulk import BulkFields


async def begin(request: CheckedRequest) -> web.StreamResponse:
    """Send a bulk request, and answer with the decision. Raises ProblemError if it is refused."""
    queue = queue_name(request)
    body: BulkFields = request.body
    command_id = named_request(request.http, "b")
    command = c.BulkJobs(
        queue=queue,
        action=body.action,
        filter=body.filter.job_filter(),
        command_id=command_id,
        reason=body.reason,
        priority=body.priority or 0,
    )
    return await _send(request, command, command_id)


async def stop(request: CheckedRequest) -> web.StreamResponse:
    """Stop a bulk request. Raises ProblemError if it is not under way (404)."""
    queue, bulk = _names(request)
    return await _send(request, c.StopBulk(queue=queue, bulk=bulk), bulk)


async def _send(request: CheckedRequest, command: c.QueueCommand, bulk: str) -> web.StreamResponse:
    pending = await decide(request, command)
    name = bulk_name(command.queue, bulk)
    decided = pending.ticket.reply is not None
    document = BulkAccepted(request=name, queue=command.queue, id=bulk, decided=decided, token=pending.token)
    location = f"/api/v1/queues/{quote(command.queue)}/bulk/{quote(bulk)}"
    return reply(document, 202, {"Location": location, "Ftjm-Token": pending.token})


def _names(request: CheckedRequest) -> tuple[str, str]:
    """Queue and id of the path's request. Raises ProblemError for texts that are no names (404)."""
    queue, bulk = request.http.match_info["queue"], request.http.match_info["id"]
    if not (is_name(queue) and is_name(bulk)):
        raise unknown_bulk(f"{queue}/{bulk}"[:300])
    return queue, bulk


async def one(request: CheckedRequest) -> web.StreamResponse:
    """One bulk request. Raises ProblemError if it is not known (404)."""
    queue, bulk = _names(request)
    name = bulk_name(queue, bulk)
    found = await request.service.read(lambda reader: bulk_requests.find(reader, queue, bulk))
    if found is None:
        raise unknown_bulk(name)
    fields = msgspec.structs.asdict(bulk_document(name, found))
    return reply(BulkAnswer(**fields, freshness=freshness_document(request.service.status)))


async def of_queue(request: CheckedRequest) -> web.StreamResponse:
    """A page of the bulk requests about one queue."""
    return await _page(request, queue_name(request))


async def of_all(request: CheckedRequest) -> web.StreamResponse:
    """A page of the bulk requests about all queues."""
    return await _page(request, "")


async def _page(request: CheckedRequest, queue: str) -> web.StreamResponse:
    query, service = request.query, request.service
    found = await service.read(
        lambda reader: bulk_requests.find_all(reader, queue, query.cursor or "", query.limit + 1)
    )
    documents = first_bytes(bulk_document(*each) for each in found[: query.limit])
    following = documents[-1].request if len(found) > len(documents) else None
    return reply(BulkPage(requests=documents, next=following, freshness=freshness_document(service.status)))


_OF_QUEUE = "/queues/{queue}/bulk"
_ONE = "/queues/{queue}/bulk/{id}"
_BEGIN_TEXT = (
    "202 means that the replicated log has the request. The queue's jobs are changed little by little, whatever fails "
    "meanwhile: those that were there when it was accepted. Each is changed as by a request about this job alone, with "
    "an event of its own. Without a `filter` it is about all jobs of the queue in the states in which the action makes "
    "sense. The request is kept for a day after it was accepted, with its counts."
)

OPERATIONS = (
    Operation(
        "POST",
        _OF_QUEUE,
        "begin_bulk",
        "Do the same with many jobs of a queue: cancel, hold, release, rerun, purge or prioritize them.",
        begin,
        {202: BulkAccepted},
        (*REFUSED, 414),
        body=BulkFields,
        body_required=True,
        headers=IDEMPOTENCY,
        group="bulk",
        description=_BEGIN_TEXT,
    ),
    Operation(
        "GET",
        _OF_QUEUE,
        "bulk_of_queue",
        "List the bulk requests about a queue: those under way, and those of the last day.",
        of_queue,
        {200: BulkPage},
        (400, 414, 422, 503),
        BulkQuery,
        group="bulk",
    ),
    Operation(
        "GET",
        "/bulk",
        "bulk",
        "List the bulk requests about all queues: those under way, and those of the last day.",
        of_all,
        {200: BulkPage},
        (400, 414, 503),
        BulkQuery,
        group="bulk",
    ),
    Operation(
        "GET",
        _ONE,
        "bulk_request",
        "Get a bulk request, and how far it has come.",
        one,
        {200: BulkAnswer},
        (400, 404, 414, 503),
        ReadQuery,
        group="bulk",
    ),
    Operation(
        "POST",
        f"{_ONE}/stop",
        "stop_bulk",
        "Stop a bulk request that is under way. What it has changed stays so.",
        stop,
        {202: BulkAccepted},
        (*REFUSED, 414),
        group="bulk",
    ),
)
