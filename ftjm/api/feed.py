"""The events as they happen, for whoever listens: server-sent events, resumed by where each partition was left.

Every listener reads the log for itself, so a slow one holds up nobody, and any instance can go on where another was.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from aiohttp import web

from ftjm.adapters import codec
from ftjm.adapters.kafka import offset_of
from ftjm.adapters.kafka_channel import Channel, LostPosition
from ftjm.adapters.kafka_feed import Feed
from ftjm.api import problems, requests, views
from ftjm.api.operations import Asked, Operation
from ftjm.api.problems import ProblemError
from ftjm.api.service import Service
from ftjm.core.events import BatchClosed
from ftjm.core.identity import partition_for
from ftjm.jobhistory import Recorded
from ftjm.patience import QUIET

LISTENERS_MAX = 64
ALIVE_SECONDS = 15.0
"""Without an event, a comment is sent this often."""
WRITE_SECONDS = 30.0
"""A listener that takes nothing for so long is left."""
RETRY_MS = 1_000
TAKE_MAX = 100
HELD_BYTES_MAX = 256 * 1024
OFFSET_MAX = 1 << 62
LAST_EVENT_ID = "Last-Event-ID"
LISTENERS = web.AppKey("listeners", set[asyncio.Task[None] | None])


def encode_position(offsets: Sequence[int]) -> str:
    """The id of an event: where each partition is read on behind it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(list(offsets))).decode().rstrip("=")


def decode_position(text: str, partitions: int) -> list[int]:
    """Raises ValueError for what `encode_position` did not make for a log of so many partitions."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = msgspec.msgpack.decode(raw, type=list[int])
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"expected {LAST_EVENT_ID} as an event gave it") from error
    if len(found) != partitions or not all(0 <= offset <= OFFSET_MAX for offset in found):
        raise ValueError(f"expected {LAST_EVENT_ID} of this cluster, with {partitions} partitions")
    return found


class _Stream(NamedTuple):
    """What one listener reads."""

    channels: dict[int, Channel]
    queues: frozenset[bytes]
    """Prefixes of the keys that are told of; empty for all."""
    position: list[int]


async def events(asked: Asked) -> web.StreamResponse:
    """Stream events until the listener leaves, or this process does."""
    service, query = asked.service, asked.query
    listeners = asked.request.app[LISTENERS]
    if len(listeners) >= LISTENERS_MAX:
        raise problems.away(f"{LISTENERS_MAX} listeners are served already", code="TOO_MANY_LISTENERS")
    position = await _begin(service, asked.request, query)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    task = asyncio.current_task()
    listeners.add(task)
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    kafka = QUIET | service.settings.kafka_settings("feed") | {"queued.max.messages.kbytes": 1024}
    feed = Feed(kafka, service.settings.cluster, held_bytes_max=HELD_BYTES_MAX)

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(news.set)

    try:
        wanted = {partition_for(queue, len(position)) for queue in query.queue} or set(range(len(position)))
        stream = _Stream(
            {p: feed.follow("events", p, position[p], wake) for p in wanted},
            frozenset(f"{queue}/".encode() for queue in query.queue),
            position,
        )
        await response.prepare(asked.request)
        await _send(response, f"retry: {RETRY_MS}\n\n")
        await _pump(service, response, stream, news)
    except (ConnectionError, TimeoutError):
        pass  # the listener has gone; it comes again with the id of the last event that it saw
    finally:
        listeners.discard(task)
        await asyncio.shield(loop.run_in_executor(None, feed.close))
    return response


async def _begin(service: Service, request: web.Request, query: requests.EventsQuery) -> list[int]:
    """Where each partition is read from. Raises ProblemError."""
    count = service.following.partitions
    if not count:
        raise problems.away("no Kafka has answered yet")
    topic, observer = service.settings.topic("events"), service.following.observer
    if LAST_EVENT_ID in request.headers:
        try:
            position = decode_position(request.headers[LAST_EVENT_ID], count)
        except ValueError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
        begins = await service.aside(lambda: observer.begins(topic, count))
        wanted = {partition_for(queue, count) for queue in query.queue} or set(begins)
        if trimmed := [p for p in sorted(wanted) if position[p] < begins[p]]:
            text = f"events behind this id were trimmed from partitions {trimmed}: begin anew, with start=beginning"
            raise ProblemError(HTTPStatus.GONE, text, code="TRIMMED")
        return position
    if query.start == "beginning":
        found = await service.aside(lambda: observer.begins(topic, count))
    else:
        found = await service.aside(lambda: observer.ends(topic, count, committed=True))
    return [found[p] for p in range(count)]


async def _pump(service: Service, response: web.StreamResponse, stream: _Stream, news: asyncio.Event) -> None:
    while not service.draining.is_set():
        news.clear()
        try:
            text = "".join(_told(stream))
        except LostPosition:
            await _send(response, "event: error\ndata: this position is not in the log any more\n\n")
            return
        if text:
            await _send(response, text)
        elif not any(stream.channels.values()):
            try:
                await asyncio.wait_for(_either(news, service.draining), ALIVE_SECONDS)
            except TimeoutError:
                # An id without data is remembered, and nobody is bothered.
                await _send(response, f": alive\nid: {encode_position(stream.position)}\n\n")


async def _either(*happenings: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(one.wait()) for one in happenings]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _told(stream: _Stream) -> list[str]:
    """What has arrived, as text; moves the position."""
    told = []
    for partition, channel in stream.channels.items():
        for message in channel.take(TAKE_MAX):
            offset, key, value = offset_of(message), message.key() or b"", message.value() or b""
            stream.position[partition] = offset + 1
            if codec.type_of(value) is BatchClosed:
                continue
            if stream.queues and key[: key.find(b"/") + 1] not in stream.queues:
                continue
            shown = views.happened(Recorded(partition, offset, codec.decode(value)))
            told.append(
                f"id: {encode_position(stream.position)}\nevent: {shown.event}\ndata: {shown.model_dump_json()}\n\n"
            )
    return told


async def _send(response: web.StreamResponse, text: str) -> None:
    await asyncio.wait_for(response.write(text.encode()), WRITE_SECONDS)


OPERATIONS = (
    Operation(
        "GET",
        "/events",
        "events",
        "Events as they happen: server-sent events, each a `Happened` document.",
        events,
        {200: None},
        (400, 410, 414, 503),
        requests.EventsQuery,
        headers=((LAST_EVENT_ID, "The id of the last event that was seen: goes on behind it, on any instance."),),
        group="cluster",
    ),
)
