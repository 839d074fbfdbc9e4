"""Paths of queues: list and get them, pause and resume them, change and delete their declarations.

A declaration is the same document as in a file of `ftjm apply -f`, and is checked by the same rules. Whether it is
changed is decided by the partition that owns the queue.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from aiohttp import web

from ftjm.api.http.models import QueueAccepted, QueueAnswer, QueuePage, freshness_document
from ftjm.api.http.problems import ProblemError, unknown_queue
from ftjm.api.http.query_models import DeclarationQuery, PauseBody, QueuesQuery, ReadQuery
from ftjm.api.http.routing import CheckedRequest, Operation, reply
from ftjm.api.routes.cluster import first_bytes
from ftjm.api.routes.commands import REFUSED, decide, expected_revision
from ftjm.api.routes.declarations import APPLY_TEXT, declared
from ftjm.core.names import NAME_TEXT, is_name
from ftjm.core.queue_gates import QueueRows
from ftjm.core.records import commands as c
from ftjm.core.state.queues import QueueSpec
from ftjm.readmodel.cluster import queue_renderer
from ftjm.readmodel.queries import Reader
from ftjm.specs.envelopes import QueueResource
from ftjm.specs.resources import QUEUE


async def queues(request: CheckedRequest) -> web.StreamResponse:
    """A page of queues, by name."""
    service, query = request.service, request.query

    def ask(reader: Reader) -> list[tuple[str, QueueRows, int]]:
        found = reader.queues(query.cursor or "", query.limit + 1, declared=query.declared)
        return [(*one, reader.oldest_ready(one[0])) for one in found]

    found = await service.read(ask)
    render = queue_renderer(service.listener.presence, service.follower.partitions)
    documents = first_bytes(render(*one) for one in found[: query.limit])
    following = documents[-1].queue if len(found) > len(documents) else None
    return reply(QueuePage(queues=documents, next=following, freshness=freshness_document(service.status)))


async def queue(request: CheckedRequest) -> web.StreamResponse:
    """One queue. Raises ProblemError if nothing is known of it (404)."""
    service, name = request.service, request.http.match_info["queue"]
    if not is_name(name):
        raise unknown_queue(name[:200])
    rows, oldest = await service.read(lambda reader: (reader.queue_rows(name), reader.oldest_ready(name)))
    if not any(rows):
        await service.presence_is_settled()
    document = queue_renderer(service.listener.presence, service.follower.partitions)(name, rows, oldest)
    if not (any(rows) or document.workers):
        raise unknown_queue(name)
    return reply(QueueAnswer(**msgspec.structs.asdict(document), freshness=freshness_document(service.status)))


async def _send(request: CheckedRequest, command: c.QueueCommand) -> web.StreamResponse:
    """Send a command, and answer with the decision. Raises ProblemError if it is refused."""
    pending = await decide(request, command)
    decided = pending.ticket.reply is not None
    document = QueueAccepted(queue=command.queue, decided=decided, token=pending.token)
    return reply(document, 202, {"Ftjm-Token": pending.token})


def queue_name(request: CheckedRequest) -> str:
    """The name of the path's queue. Raises ProblemError for a text that is no name."""
    name: str = request.http.match_info["queue"]
    if not is_name(name):
        detail = f"expected the name of a queue: {NAME_TEXT}, but found {name[:200]!r}"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return name


async def pause(request: CheckedRequest) -> web.StreamResponse:
    """Pause a queue."""
    return await _send(request, c.PauseQueue(queue=queue_name(request), reason=request.body.reason))


async def resume(request: CheckedRequest) -> web.StreamResponse:
    """Resume a queue."""
    return await _send(request, c.ResumeQueue(queue=queue_name(request)))


async def apply(request: CheckedRequest) -> web.StreamResponse:
    """Declare a queue, or change its declaration. Raises ProblemError if the body is no such resource (422)."""
    name = queue_name(request)
    spec, labels = await declared(request, QUEUE, QueueSpec, {("metadata", "name"): name})
    revision = expected_revision(request)
    return await _send(request, c.ApplyQueue(queue=name, spec=spec, labels=labels, expected_revision=revision))


async def delete(request: CheckedRequest) -> web.StreamResponse:
    """Delete a queue's declaration."""
    command = c.DeleteQueue(queue=queue_name(request), expected_revision=expected_revision(request))
    return await _send(request, command)


_QUEUE = "/queues/{queue}"
_PAUSE_TEXT = (
    "Attempts that run go on, and so do those that were sent to a worker just before. The queue may be empty. What is "
    "sent again counts again: behind a resumption, it pauses the queue once more."
)
_DELETE_TEXT = (
    "The queue has the defaults again; its jobs stay, and so does a pause. A queue that is not declared is accepted, "
    "too."
)

OPERATIONS = (
    Operation(
        "GET",
        "/queues",
        "queues",
        "List queues: how many jobs they hold, and what they are declared to.",
        queues,
        {200: QueuePage},
        (400, 414, 503),
        QueuesQuery,
        group="queues",
        description="Queues that hold a job, are paused, or are declared.",
    ),
    Operation(
        "GET",
        _QUEUE,
        "queue",
        "Get a queue.",
        queue,
        {200: QueueAnswer},
        (400, 404, 414, 503),
        ReadQuery,
        group="queues",
    ),
    Operation(
        "PUT",
        _QUEUE,
        "apply_queue",
        "Declare a queue, or change its declaration.",
        apply,
        {202: QueueAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        body=QueueResource,
        body_required=True,
        written=True,
        group="queues",
        description=APPLY_TEXT,
    ),
    Operation(
        "DELETE",
        _QUEUE,
        "delete_queue",
        "Delete a queue's declaration.",
        delete,
        {202: QueueAccepted},
        (*REFUSED, 414),
        DeclarationQuery,
        group="queues",
        description=_DELETE_TEXT,
    ),
    Operation(
        "POST",
        f"{_QUEUE}/pause",
        "pause_queue",
        "Pause a queue: none of its jobs starts until it is resumed.",
        pause,
        {202: QueueAccepted},
        (*REFUSED, 414),
        body=PauseBody,
        group="queues",
        description=_PAUSE_TEXT,
    ),
    Operation(
        "POST",
        f"{_QUEUE}/resume",
        "resume_queue",
        "Resume a queue that was paused.",
        resume,
        {202: QueueAccepted},
        (*REFUSED, 414),
        group="queues",
        description="A queue that is not paused may be resumed.",
    ),
)
