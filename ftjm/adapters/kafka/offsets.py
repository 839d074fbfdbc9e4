"""Questions to the brokers that read no record: where logs begin and end, which topics and brokers there are.

The functions ask through a consumer or producer that is there already. `Observer` has a connection of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ftjm.adapters.kafka.connection import ADMIN_TIMEOUT_SECONDS, error_callback
from ftjm.adapters.kafka.errors import error_of, log_errors

T = TypeVar("T")

PATIENCE_SECONDS = 3.0
ASK_SECONDS = 0.5
"""How long the first request waits for its answer; each further one waits twice as long, up to the most."""
ASK_SECONDS_MAX = 4.0
ASK_AGAIN_SECONDS = 0.1
_NO_LOCK = contextlib.nullcontext()


@log_errors()
def partition_count(client: Producer | Consumer, topic: str, timeout_seconds: float = ADMIN_TIMEOUT_SECONDS) -> int:
    """How many partitions `topic` has. Raises LogError if Kafka does not answer in time, or has no such topic."""
    found = client.list_topics(topic, timeout=timeout_seconds).topics[topic]
    if found.error is not None:
        raise error_of(found.error)
    return len(found.partitions)


@log_errors()
def topic_id(settings: Mapping[str, Any], topic: str) -> str:
    """The id that Kafka gave the topic when it was created. A topic that is created again under the same name has
    another id.

    Raises:
        LogError: Kafka does not answer in time, or has no such topic.
    """
    admin = AdminClient({**settings})
    asked = admin.describe_topics(TopicCollection([topic]), request_timeout=ADMIN_TIMEOUT_SECONDS)
    return str(asked[topic].result().topic_id)


def ask_leaders(client: Consumer, topic: str, request: Callable[[float], T]) -> T:
    """Ask the leaders of a topic's partitions, again and again until they answer.

    The client asks the leaders that it knows, for up to `topic.metadata.refresh.interval.ms` (10 s) after they were
    replaced; so it fetches the topic's metadata before it asks again. Any error is a reason to ask again: brokers have
    many codes for what a leader that was just elected, or a broker that has just started, does not know yet.

    Args:
        request: sends one request; its argument is the time that it may take, in seconds.

    Raises:
        LogError: there is no answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + ADMIN_TIMEOUT_SECONDS
    patience = ASK_SECONDS
    while True:
        try:
            return request(patience)
        except KafkaException as raised:
            if time.monotonic() > deadline:
                raise error_of(raised.args[0]) from raised
            time.sleep(ASK_AGAIN_SECONDS)
            patience = min(2 * patience, ASK_SECONDS_MAX)
            with contextlib.suppress(KafkaException):
                client.list_topics(topic, timeout=patience)


def bounds(
    client: Consumer, topic: str, partition: int, lock: AbstractContextManager[object] = _NO_LOCK
) -> tuple[int, int]:
    """The first offset that the partition still has, and its end.

    For a client that reads only committed records, the end is the last stable offset: everything before it is
    committed or aborted for good.

    Args:
        lock: held during each request, and not between two, where threads share the client.

    Raises:
        LogError: Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    place = TopicPartition(topic, partition)

    def request(seconds: float) -> tuple[int, int]:
        with lock:
            low, high = client.get_watermark_offsets(place, timeout=seconds, cached=False)
        return int(low), int(high)

    return ask_leaders(client, topic, request)


def offsets_at(client: Consumer, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
    """The first offset of each partition whose record the log took at or after a time; -1 if there is none.

    Args:
        times_ms: the time for each partition.

    Raises:
        LogError: Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    wanted = [TopicPartition(topic, partition, time_ms) for partition, time_ms in times_ms.items()]

    def request(seconds: float) -> dict[int, int]:
        found = client.offsets_for_times(wanted, timeout=seconds)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.partition: int(place.offset) for place in found}

    return ask_leaders(client, topic, request)


class Broker(NamedTuple):
    """A broker as the cluster knows it."""

    id: int
    host: str
    port: int
    controller: bool


class Observer:
    """One connection for requests. Every method raises LogError where Kafka does not answer in time."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings: dict[str, Any] = {**settings, **error_callback("observer")}
        self._admin = AdminClient(self._settings)
        """A request keeps the client that it began with: another thread may put a new one here meanwhile."""

    @contextmanager
    def _request(self) -> Iterator[AdminClient]:
        """The connection for one request.

        A failure is followed by a new connection: the client may have failed for what it has cached (a leader's old
        epoch, a topic without leaders), or may have forgotten all brokers.
        """
        try:
            yield self._admin
        except KafkaException as raised:
            self._admin = AdminClient(self._settings)
            raise error_of(raised.args[0]) from raised

    def topic(self, name: str) -> tuple[str, int]:
        """The id that Kafka gave the topic when it was made, and how many partitions the topic has."""
        with self._request() as admin:
            asked = admin.describe_topics(TopicCollection([name]), request_timeout=PATIENCE_SECONDS)
            found = asked[name].result()
        return str(found.topic_id), len(found.partitions)

    def ends(self, topic: str, partitions: int, *, committed: bool) -> dict[int, int]:
        """The end offset of each partition; with `committed`, the last stable offset."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(topic, partitions, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]

    def begins(self, topic: str, partitions: int) -> dict[int, int]:
        """The first offset that each partition still has."""
        spec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        return self._offsets(topic, partitions, spec, IsolationLevel.READ_UNCOMMITTED)

    def _offsets(self, topic: str, partitions: int, spec: OffsetSpec, level: IsolationLevel) -> dict[int, int]:
        with self._request() as admin:
            asked = admin.list_offsets(
                {TopicPartition(topic, p): spec for p in range(partitions)},
                isolation_level=level,
                request_timeout=PATIENCE_SECONDS,
            )
            return {place.partition: int(answer.result().offset) for place, answer in asked.items()}

    def brokers(self) -> list[Broker]:
        """The brokers that are members of the cluster now."""
        with self._request() as admin:
            found = admin.describe_cluster(request_timeout=PATIENCE_SECONDS).result()
        controller = found.controller.id if found.controller else -1
        return sorted(Broker(node.id, node.host, node.port, node.id == controller) for node in found.nodes)
