"""The feed: events as they are written, as server-sent events.

Each listener has its own reader of the log, so a slow listener delays no other. The id of an event is the vector of
the offsets from which each partition is read after it. A listener that reconnects with the id of the last event that it
received continues behind that event, on any instance of the API: instances keep nothing about listeners.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from aiohttp import web

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LostPosition
from ftjm.adapters.kafka.partition_buffer import EventBuffer
from ftjm.adapters.kafka.partition_reader import PartitionReader
from ftjm.adapters.kafka.patience import QUIET
from ftjm.api.http.problems import ProblemError, unavailable
from ftjm.api.http.query_models import EventsQuery
from ftjm.api.http.routing import CheckedRequest, Operation
from ftjm.api.http.service import Service
from ftjm.core.identity import partition_for
from ftjm.core.records.backfill_events import BACKFILL_EVENTS
from ftjm.core.records.events import (
    BatchClosed,
    BulkAdvanced,
    BulkBegun,
    BulkStopped,
    KeysSettled,
    QueueApplied,
    QueueDeleted,
    QueuePaused,
    QueueReordered,
    QueueResumed,
    QueueUnchanged,
)
from ftjm.core.records.schedule_events import SCHEDULE_EVENTS
from ftjm.readmodel.documents.event import event_document

LISTENERS_MAX = 64
COMMENT_SECONDS = 15.0
"""After this long without an event for the listener, a comment and an id are sent: both sides see that the connection
lives, and the id stays new, although only events of other queues arrive."""
WRITE_SECONDS_MAX = 30.0
"""A listener that takes nothing for this long is disconnected."""
RETRY_MS = 1_000
TAKE_MAX = 100
HELD_BYTES_MAX = 256 * 1024
OFFSET_MAX = 1 << 62
QUEUE_EVENTS = (
    *(QueuePaused, QueueResumed, QueueApplied, QueueUnchanged, QueueDeleted, QueueReordered, KeysSettled),
    *(BulkBegun, BulkAdvanced, BulkStopped),
    *SCHEDULE_EVENTS,
    *BACKFILL_EVENTS,
)
"""Events of a queue as a whole, and of its schedules. Their records have no key, but for those that are of a job."""
LAST_EVENT_ID = "Last-Event-ID"
LISTENERS = web.AppKey("listeners", set[asyncio.Task[None] | None])


def encode_position(offsets: Sequence[int]) -> str:
    """Make the id of an event: the offset at which each partition is read on behind it."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(list(offsets))).decode().rstrip("=")


def decode_position(text: str, partitions: int) -> list[int]:
    """Read an event's id.

    Args:
        partitions: number of partitions of this cluster.

    Raises:
        ValueError: the text is no event's id, or of a cluster with another number of partitions.
    """
    wrong = f"expected {LAST_EVENT_ID} to be an event's id of this cluster, but found {text!r}; copy it from the stream"
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = msgspec.msgpack.decode(raw, type=list[int])
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(wrong) from error
    if len(found) != partitions or not all(0 <= offset <= OFFSET_MAX for offset in found):
        raise ValueError(wrong)
    return found


class _Stream(NamedTuple):
    """The state of one listener: its filter, its buffers and its position."""

    buffers: dict[int, EventBuffer]
    """The buffer of each partition."""
    queues: frozenset[bytes]
    """Prefixes of the keys of events that are sent; empty for all events."""
    position: list[int]
    """The next offset of each partition; moves as events are sent."""


async def events(request: CheckedRequest) -> web.StreamResponse:
    """Stream events until the listener disconnects or this process stops.

    Raises:
        ProblemError: too many listeners are connected (503), the start is invalid, or its events were trimmed (410).
    """
    service, query = request.service, request.query
    listeners = request.http.app[LISTENERS]
    if len(listeners) >= LISTENERS_MAX:
        detail = f"expected fewer than {LISTENERS_MAX} listeners, but so many are connected; try again, or another API"
        raise unavailable(detail, code="TOO_MANY_LISTENERS")
    position = await _start_position(service, request.http, query)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    task = asyncio.current_task()
    listeners.add(task)
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    kafka = QUIET | service.settings.kafka_settings("feed") | {"queued.max.messages.kbytes": 1024}
    reader = PartitionReader(kafka, service.settings.cluster, held_bytes_max=HELD_BYTES_MAX)

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(arrived.set)

    try:
        wanted = {partition_for(queue, len(position)) for queue in query.queue} or set(range(len(position)))
        stream = _Stream(
            {p: reader.follow("events", p, position[p], wake) for p in wanted},
            frozenset(f"{queue}/".encode() for queue in query.queue),
            position,
        )
        await response.prepare(request.http)
        await _send(response, f"retry: {RETRY_MS}\n\n")
        await _send_events(service, response, stream, arrived)
    except (ConnectionError, TimeoutError):
        pass  # the listener has gone; it may come back with the id of the last event that it saw
    finally:
        listeners.discard(task)
        await asyncio.shield(loop.run_in_executor(None, reader.close))
    return response


async def _start_position(service: Service, http: web.Request, query: EventsQuery) -> list[int]:
    """The offset at which each partition is read first. Raises ProblemError."""
    count = service.follower.partitions
    if not count:
        raise unavailable("expected Kafka to answer, but it has not answered since the API was started; try again")
    topic, observer = service.settings.topic("events"), service.follower.observer
    if LAST_EVENT_ID in http.headers:
        try:
            position = decode_position(http.headers[LAST_EVENT_ID], count)
        except ValueError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, str(error)) from None
        begins = await service.ask_kafka(lambda: observer.begins(topic, count))
        wanted = {partition_for(queue, count) for queue in query.queue} or set(begins)
        if trimmed := [p for p in sorted(wanted) if position[p] < begins[p]]:
            detail = (
                f"expected the log to hold the events behind this id, but they were trimmed from partitions {trimmed}; "
                f"start again, with start=beginning"
            )
            raise ProblemError(HTTPStatus.GONE, detail, code="TRIMMED")
        return position
    if query.start == "beginning":
        found = await service.ask_kafka(lambda: observer.begins(topic, count))
    else:
        found = await service.ask_kafka(lambda: observer.ends(topic, count, committed=True))
    return [found[p] for p in range(count)]


async def _send_events(service: Service, response: web.StreamResponse, stream: _Stream, arrived: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    while not service.draining.is_set():
        arrived.clear()
        try:
            text = "".join(_take(stream))
        except LostPosition:
            await _send(response, "event: error\ndata: this position is not in the log any more\n\n")
            return
        silent = loop.time() - sent_at
        if text or silent >= COMMENT_SECONDS:
            # A listener remembers an id that comes without data, and raises no event for it.
            await _send(response, text or f": alive\nid: {encode_position(stream.position)}\n\n")
            sent_at = loop.time()
        elif any(stream.buffers.values()):
            await asyncio.sleep(0)  # there are more events of other queues: other requests have their turns in between
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(_any_of(arrived, service.draining), COMMENT_SECONDS - silent)


async def _any_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _take(stream: _Stream) -> list[str]:
    """The events that have arrived, as the stream's text. Moves the position behind them."""
    texts = []
    for partition, buffer in stream.buffers.items():
        for record in buffer.take(TAKE_MAX):
            offset, key, value = record.offset, record.key, record.value
            stream.position[partition] = offset + 1
            if codec.type_of(value) is BatchClosed:
                continue
            if stream.queues and _queue_prefix(key, value) not in stream.queues:
                continue
            document = event_document(codec.decode(value), partition, offset)
            data = msgspec.json.encode(document).decode()
            texts.append(f"id: {encode_position(stream.position)}\nevent: {document.event}\ndata: {data}\n\n")
    return texts


def _queue_prefix(key: bytes, value: bytes) -> bytes:
    """The name of an event's queue and a slash, as the keys of its jobs' events begin; empty if it is of no queue."""
    if not key and codec.type_of(value) in QUEUE_EVENTS:
        return f"{codec.decode(value).queue}/".encode()
    return key[: key.find(b"/") + 1]


async def _send(response: web.StreamResponse, text: str) -> None:
    await asyncio.wait_for(response.write(text.encode()), WRITE_SECONDS_MAX)


OPERATIONS = (
    Operation(
        "GET",
        "/events",
        "events",
        "Follow events as they are written, as server-sent events.",
        events,
        {200: None},
        (400, 410, 414, 503),
        EventsQuery,
        headers=((LAST_EVENT_ID, "The id of the last event that was seen: the stream continues behind it."),),
        group="cluster",
        description="Each event's data is an event document, as in a job's history. To resume, send the id of the last "
        "event as `Last-Event-ID`, to any instance of the API. 410 means that the log no longer holds what follows "
        "it.",
    ),
)
