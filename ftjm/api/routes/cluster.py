"""Paths that read the cluster: workers, partitions, topology; and the health of this instance."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

import msgspec
from aiohttp import web

from ftjm.adapters.kafka.offsets import Broker
from ftjm.api.http.models import (
    BrokerDocument,
    HealthAnswer,
    Partitions,
    Topology,
    WorkerPage,
    freshness_document,
)
from ftjm.api.http.problems import ProblemError
from ftjm.api.http.query_models import PAGE_DEFAULT, WorkersQuery
from ftjm.api.http.routing import CheckedRequest, Operation, reply
from ftjm.readmodel.cluster import scheduler_documents, worker_documents
from ftjm.readmodel.documents.cluster import WorkerDocument, partition_document
from ftjm.readmodel.documents.fields import Document
from ftjm.readmodel.presence import Presence
from ftjm.readmodel.row_queries import PAGE_BYTES_MAX
from ftjm.runtime.version import __version__

AnyDocument = TypeVar("AnyDocument", bound=Document)


def first_bytes(documents: Iterable[AnyDocument]) -> list[AnyDocument]:
    """The first documents, and at least one, as far as a page has bytes for them."""
    found: list[AnyDocument] = []
    size = 0
    for document in documents:
        found.append(document)
        size += len(msgspec.json.encode(document))
        if size >= PAGE_BYTES_MAX:
            break
    return found


async def workers(request: CheckedRequest) -> web.StreamResponse:
    """A page of workers, by session."""
    query = request.query
    found, following = _worker_page(request.service.listener.presence, query.cursor or "", query.limit)
    return reply(WorkerPage(workers=found, next=following))


def _worker_page(presence: Presence, behind: str, limit: int) -> tuple[list[WorkerDocument], str | None]:
    """Some workers whose sessions have names behind the given one, bounded in number and bytes; and the cursor of those
    that follow, None if none do."""
    sessions = sorted(
        (one for one in presence.workers() if one.heartbeat.session > behind), key=lambda one: one.heartbeat.session
    )
    documents = first_bytes(worker_documents(sessions[:limit], presence.cordoned()))
    return documents, documents[-1].session if len(sessions) > len(documents) else None


async def partitions(request: CheckedRequest) -> web.StreamResponse:
    """All partitions."""
    service = request.service
    positions = await service.read(lambda reader: reader.positions())
    schedulers = [one.heartbeat for one in service.listener.presence.live_schedulers()]
    freshness = freshness_document(service.status)
    known = not freshness.stale
    documents = [
        partition_document(
            partition,
            owner=position.owner,
            epoch=position.owner_epoch,
            batch=position.batch_no,
            decided_at=position.now,
            next_command=position.next_command,
            applied_offset=position.applied_offset,
            commands_end=service.follower.command_ends.get(partition) if known else None,
            events_end=service.follower.event_ends.get(partition) if known else None,
            schedulers=schedulers,
        )
        for partition, position in sorted(positions.items())
    ]
    return reply(Partitions(partitions=documents, freshness=freshness))


async def topology(request: CheckedRequest) -> web.StreamResponse:
    """All schedulers and brokers, and the first workers."""
    service = request.service
    presence = service.listener.presence
    first_workers, next_worker = _worker_page(presence, "", PAGE_DEFAULT)
    brokers: list[Broker] | None = None
    if service.status.connected:
        with suppress(ProblemError):
            brokers = await service.ask_kafka(service.follower.observer.brokers)
    return reply(
        Topology(
            cluster=service.settings.cluster,
            version=__version__,
            schedulers=scheduler_documents(presence),
            workers=first_workers,
            next_worker=next_worker,
            brokers=None if brokers is None else [BrokerDocument(**broker._asdict()) for broker in brokers],
            freshness=freshness_document(service.status),
        )
    )


async def livez(_: CheckedRequest) -> web.StreamResponse:
    """Whether the process answers."""
    return reply(HealthAnswer(ready=True))


async def readyz(request: CheckedRequest) -> web.StreamResponse:
    """Whether requests should come to this instance; see `Service.why_not_ready`."""
    why = request.service.why_not_ready
    return reply(HealthAnswer(ready=not why, why=why or None), 503 if why else 200)


OPERATIONS = (
    Operation(
        "GET",
        "/workers",
        "workers",
        "List workers.",
        workers,
        {200: WorkerPage},
        (400, 414),
        WorkersQuery,
        group="cluster",
        description="Each worker process that sent a heartbeat in the last minute and has not left, by its newest "
        "session.",
    ),
    Operation(
        "GET",
        "/partitions",
        "partitions",
        "List partitions: their owners and standbys, and how far they have come.",
        partitions,
        {200: Partitions},
        (400, 414),
        group="cluster",
    ),
    Operation(
        "GET",
        "/topology",
        "topology",
        "List schedulers, Kafka brokers, and the first workers.",
        topology,
        {200: Topology},
        (400, 414),
        group="cluster",
    ),
)
HEALTH = (
    Operation(
        "GET",
        "/livez",
        "livez",
        "Whether the process answers.",
        livez,
        {200: HealthAnswer},
        (400, 414),
        group="health",
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether this instance takes requests.",
        readyz,
        {200: HealthAnswer, 503: HealthAnswer},
        (400, 414),
        group="health",
        description="It is ready once it has read the log to its end and can send commands, until it is about to stop.",
    ),
)
