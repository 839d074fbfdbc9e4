"""Operations on what is around jobs: queues, workers, partitions, topology, health."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import web

from ftjm import __version__
from ftjm.adapters.kafka_ends import Broker
from ftjm.api import models as m
from ftjm.api import requests, views
from ftjm.api.operations import Asked, Operation, reply
from ftjm.api.problems import ProblemError
from ftjm.api.queries import Reader
from ftjm.core.identity import partition_for
from ftjm.durations import format_time


async def queues(asked: Asked) -> web.StreamResponse:
    """Queues by name."""
    service, query = asked.service, asked.query

    def ask(reader: Reader) -> list[tuple[str, dict[str, int], int]]:
        found = reader.queues(query.cursor or "", query.limit + 1)
        return [(name, counts, reader.oldest_ready(name)) for name, counts in found]

    found = await service.read(ask)
    heard = [one.heartbeat.queues for one in service.listener.presence.workers() if one.alive]
    partitions = max(1, service.following.partitions)
    shown = [
        m.QueueSummary(
            queue=name,
            partition=partition_for(name, partitions),
            jobs=counts,
            oldest_ready=format_time(oldest) or None,
            workers=sum(name in served for served in heard),
        )
        for name, counts, oldest in found[: query.limit]
    ]
    following = shown[-1].queue if len(found) > query.limit else None
    return reply(m.QueuePage(queues=shown, next=following, freshness=views.freshness(service.freshness)))


async def workers(asked: Asked) -> web.StreamResponse:
    """Worker sessions."""
    return reply(m.Workers(workers=[views.worker(one) for one in asked.service.listener.presence.workers()]))


async def partitions(asked: Asked) -> web.StreamResponse:
    """Owners, standbys, and what waits."""
    service = asked.service
    positions = await service.read(lambda reader: reader.positions())
    heard = service.listener.presence.schedulers()
    fresh = views.freshness(service.freshness)
    ends = {} if fresh.stale else service.following.command_ends
    shown = [views.partition(p, at, ends.get(p), heard) for p, at in sorted(positions.items())]
    return reply(m.Partitions(partitions=shown, freshness=fresh))


async def topology(asked: Asked) -> web.StreamResponse:
    """Schedulers, workers, brokers."""
    service = asked.service
    presence = service.listener.presence
    brokers: list[Broker] | None = None
    if service.freshness.connected:
        with suppress(ProblemError):
            brokers = await service.aside(service.following.observer.brokers)
    return reply(
        m.Topology(
            cluster=service.settings.cluster,
            version=__version__,
            schedulers=[views.scheduler(one) for one in presence.schedulers()],
            workers=[views.worker(one) for one in presence.workers()],
            brokers=None if brokers is None else [m.BrokerSummary(**broker._asdict()) for broker in brokers],
            freshness=views.freshness(service.freshness),
        )
    )


async def livez(_: Asked) -> web.StreamResponse:
    """It answers, so it lives."""
    return reply(m.Health(ready=True))


async def readyz(asked: Asked) -> web.StreamResponse:
    """Whether requests should come here. Kafka's being away is no reason: no other instance could do better."""
    why = asked.service.why_not_ready
    return reply(m.Health(ready=not why, why=why or None), 503 if why else 200)


OPERATIONS = (
    Operation(
        "GET",
        "/queues",
        "queues",
        "Queues, and how many jobs they hold.",
        queues,
        {200: m.QueuePage},
        (400, 414, 503),
        requests.QueuesQuery,
        group="cluster",
    ),
    Operation(
        "GET",
        "/workers",
        "workers",
        "Worker sessions that were heard lately.",
        workers,
        {200: m.Workers},
        (400, 414),
        group="cluster",
    ),
    Operation(
        "GET",
        "/partitions",
        "partitions",
        "Who decides about which partition.",
        partitions,
        {200: m.Partitions},
        (400, 414),
        group="cluster",
    ),
    Operation(
        "GET",
        "/topology",
        "topology",
        "Schedulers, workers and brokers.",
        topology,
        {200: m.Topology},
        (400, 414),
        group="cluster",
    ),
)
HEALTH = (
    Operation(
        "GET", "/livez", "livez", "Whether the process answers.", livez, {200: m.Health}, (400, 414), group="health"
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether it has read the log to its end, can send commands, and is not about to stop.",
        readyz,
        {200: m.Health, 503: m.Health},
        (400, 414),
        group="health",
    ),
)
