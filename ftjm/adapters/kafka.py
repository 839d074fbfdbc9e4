"""Kafka for everyone: settings, errors, and questions to the brokers.

The partition's own log (transactions, fencing, reading by position) is in `kafka_log`, membership of the
group in `kafka_group`, a producer that confirms in `kafka_outlet`, the reading of lanes in `kafka_lanes`.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import msgspec
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from ftjm import logs

log = logs.get(__name__)

T = TypeVar("T")
Headers = Sequence[tuple[str, bytes]]

SILENT: dict[str, object] = {
    # What a network lost is asked for again within seconds: the library's own 60 s (and 30 s to connect) would keep a
    # worker away that long after a cut that made a firewall forget its connections.
    "socket.timeout.ms": 6_000,
    "socket.connection.setup.timeout.ms": 3_000,
    "socket.keepalive.enable": True,
    # A leader that was, and is cut off from its successor, answers as if nothing had been written since, for as long as
    # no other is known; and who asked a broker that had just come back may wait for so long until it knows of a topic.
    "topic.metadata.refresh.interval.ms": 10_000,
}
PRODUCER: dict[str, object] = {
    **SILENT,
    "request.timeout.ms": 5_000,
    "acks": "all",
    "enable.idempotence": True,
    # A broker takes any first sequence number of a producer that it does not know. With several requests under way,
    # one that failed (a new topic, a new leader) and is sent again behind its follower passes for a repetition: it
    # was seen to be acknowledged, and never written.
    "max.in.flight.requests.per.connection": 1,
    # Never give up on a record that was accepted here: the caller waits, or dies with it.
    "message.timeout.ms": 0,
    "message.max.bytes": 4 * 1024 * 1024,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 256 * 1024,
    "compression.type": "lz4",
    # The library's default of 100 ms makes every transaction wait that long for its markers.
    "retry.backoff.ms": 1,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "partitioner": "murmur2_random",
    "socket.nagle.disable": True,
    "sticky.partitioning.linger.ms": 0,
}
CONSUMER: dict[str, object] = {
    **SILENT,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A position that fell off its log must fail loudly, never jump.
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": 100,
    "fetch.error.backoff.ms": 10,
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 16 * 1024,
    "fetch.message.max.bytes": 4 * 1024 * 1024,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "socket.nagle.disable": True,
}
ADMIN_TIMEOUT_SECONDS = 10.0
STATISTICS_MS = 2_000
LOOKS_MAX = 2
"""So often in turn a client is seen to know of no broker."""
ASK_SECONDS = 0.5
ASK_SECONDS_MAX = 4.0
ASK_AGAIN_SECONDS = 0.1
"""A leader is waited for so long at first, and for twice as long each time that it is asked again, up to the most."""
_FREELY = contextlib.nullcontext()
AWAY = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
"""Errors that pass. (`KafkaError.retriable()` says so of transactions only.)"""
LOST = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE})
"""The log has no such offset: it was trimmed, or is shorter than thought."""
MISSED = frozenset(
    {
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._DESTROY,  # of the partition's queue
    }
)
"""A broker that was just started may not know a topic yet: librdkafka then fails all that waits for it, at once."""


def say_errors(role: str) -> Callable[[KafkaError], None]:
    """An `error_cb` that tells of an unreachable Kafka, at most every 5 s; the client goes on by itself."""
    seldom = logs.Seldom(5.0)

    def tell(error: KafkaError) -> None:
        if seldom.due():
            log.warning("kafka_unreachable", role=role, error=error.str(), todo="waiting, and trying again")

    return tell


FORGOTTEN = KafkaError._ALL_BROKERS_DOWN
"""The code of the fault of who has: see `Sight`."""


class _Broker(msgspec.Struct):
    source: str


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Broker]


class Sight:
    """Whether a client that is polled all the time still knows of a broker.

    librdkafka forgets all of them, and for good, where one answers that it knows none, as the last that stops in good
    order may (its issue 5301): 10 of 90 clients did when a broker stopped under them. Its statistics show that.
    """

    def __init__(self, role: str) -> None:
        self.lost = False
        """Whether it knows of none any more: whoever needs it has to connect anew."""
        self._role = role
        self._without = 0
        self.settings = {
            "error_cb": say_errors(role),
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._look,
        }
        """For the client."""

    def _look(self, statistics: str) -> None:
        brokers = msgspec.json.decode(statistics, type=_Statistics).brokers.values()
        known = any(broker.source in {"configured", "learned"} for broker in brokers)
        self._without = 0 if known else self._without + 1
        if self._without >= LOOKS_MAX and not self.lost:
            self.lost = True
            log.error("brokers_forgotten", role=self._role, todo="connecting anew, or ending where that is not enough")


def partition_count(client: Producer | Consumer, topic: str, timeout_seconds: float = ADMIN_TIMEOUT_SECONDS) -> int:
    """How many partitions `topic` has. Raises KafkaException if it cannot be told in time."""
    found = client.list_topics(topic, timeout=timeout_seconds).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return len(found.partitions)


def topic_id(settings: Mapping[str, Any], topic: str) -> str:
    """The id that Kafka gave the topic at its birth: a topic made anew under its name has another.

    Raises: KafkaException if it cannot be told in time, or there is no such topic.
    """
    admin = AdminClient({**settings})
    asked = admin.describe_topics(TopicCollection([topic]), request_timeout=ADMIN_TIMEOUT_SECONDS)
    return str(asked[topic].result().topic_id)


def arrived(consumer: Consumer, seconds: float, most: int) -> list[Message]:
    """What has come, and errors and ends with it, waiting for the first one for at most so long.

    `consume` with a time would wait for as many as it may return. A message is false where its value is empty, so
    nobody may ask for its truth.
    """
    first = consumer.poll(seconds)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


def offset_of(message: Message) -> int:
    """The offset of a record that was read or delivered; only records still to be sent have none."""
    offset = message.offset()
    assert offset is not None
    return offset


def epoch_of(message: Message) -> int:
    """Of the leader that took the record; -1 where it is not known."""
    epoch = message.leader_epoch()
    return -1 if epoch is None else epoch


def asked(client: Consumer, topic: str, question: Callable[[float], T]) -> T:
    """What the leaders of the topic's partitions answer to a question, which is given the seconds that it may take.

    The client sends it to the leaders that it knows of, for up to `topic.metadata.refresh.interval.ms` (10 s) after
    these are gone; so it learns of the new ones before it asks again. There are many codes for what one lacks
    that was elected a moment ago, or has just come back, and will soon have.

    Raises KafkaException where there is no answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    deadline = time.monotonic() + ADMIN_TIMEOUT_SECONDS
    patience = ASK_SECONDS
    while True:
        try:
            return question(patience)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(ASK_AGAIN_SECONDS)
            patience = min(2 * patience, ASK_SECONDS_MAX)
            with contextlib.suppress(KafkaException):
                client.list_topics(topic, timeout=patience)


def bounds(
    client: Consumer, topic: str, partition: int, one_by_one: AbstractContextManager[object] = _FREELY
) -> tuple[int, int]:
    """The first offset that the partition still has, and its end (for those who read committed: the last stable one).

    Args:
        one_by_one: held for as long as a question takes, and not between two, where threads share the client.

    Raises KafkaException where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    place = TopicPartition(topic, partition)

    def question(seconds: float) -> tuple[int, int]:
        with one_by_one:
            low, high = client.get_watermark_offsets(place, timeout=seconds, cached=False)
        return int(low), int(high)

    return asked(client, topic, question)


def offsets_at(client: Consumer, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
    """Of each partition, the first offset whose record the log took at or after a time, or -1.

    Raises KafkaException where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    wanted = [TopicPartition(topic, partition, time_ms) for partition, time_ms in times_ms.items()]

    def question(seconds: float) -> dict[int, int]:
        found = client.offsets_for_times(wanted, timeout=seconds)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.partition: int(place.offset) for place in found}

    return asked(client, topic, question)
