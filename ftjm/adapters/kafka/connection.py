"""Clients of Kafka: their settings, and how each notices that it has lost all brokers.

Consumers here read by position: they join no group, and commit no offset. `membership` holds the one consumer that is a
member of a group. `producer` and `partition_log` make the producers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, libversion

from ftjm.adapters.kafka.errors import log_errors
from ftjm.runtime import logs

log = logs.get(__name__)

CONNECTION_SETTINGS: dict[str, object] = {
    # A request that the network has lost is repeated within seconds. librdkafka's own 60 s (and 30 s to connect) would
    # keep a worker away that long after a cut that made a firewall forget its connections.
    "socket.timeout.ms": 6_000,
    "socket.connection.setup.timeout.ms": 3_000,
    "socket.keepalive.enable": True,
    # How long a client may believe a leader that was replaced: while it is cut off from its successor, such a leader
    # answers as if nothing had been written since. A client also waits for this long when a broker that has just
    # started does not know a topic yet.
    "topic.metadata.refresh.interval.ms": 10_000,
}
PRODUCER: dict[str, object] = {
    **CONNECTION_SETTINGS,
    "request.timeout.ms": 5_000,
    "acks": "all",
    "enable.idempotence": True,
    # A broker accepts any first sequence number of a producer that it does not know. With several requests under way,
    # a request that failed (a new topic, a new leader) and is sent again behind its successor is taken for a
    # repetition: such a record was seen to be acknowledged and never written.
    "max.in.flight.requests.per.connection": 1,
    # A record that finds a request under way waits for its answer, and those behind it join it. No other one waits.
    "linger.ms": 0,
    # Never give up on a record that `send` has accepted: its sender waits for the report.
    "message.timeout.ms": 0,
    "message.max.bytes": 4 * 1024 * 1024,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 256 * 1024,
    "compression.type": "lz4",
    # librdkafka's default of 100 ms makes every transaction wait that long for its markers.
    "retry.backoff.ms": 1,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "partitioner": "murmur2_random",
    "socket.nagle.disable": True,
    "sticky.partitioning.linger.ms": 0,
}
CONSUMER: dict[str, object] = {
    **CONNECTION_SETTINGS,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A position that the log does not have must be an error: the consumer must not jump elsewhere.
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
"""A client has forgotten all brokers when its statistics show none this many times in a row."""
UNCONNECTED_MAX_US = 15_000_000
"""A broker to which a client has not even tried to connect for so long is forgotten, too. A client that needs no broker
may be without a connection, but only until it refreshes its metadata (`topic.metadata.refresh.interval.ms`)."""


def error_callback(role: str) -> Mapping[str, Callable[[KafkaError], None]]:
    """Settings by which a client logs that Kafka is unreachable, at most every 5 s. librdkafka itself reconnects."""
    throttle = logs.Throttle(5.0)

    def log_error(error: KafkaError) -> None:
        if throttle.due():
            log.warning("kafka_unreachable", role=role, error=error.str(), todo="waiting, and trying again")

    return {"error_cb": log_error}


class _Broker(msgspec.Struct):
    source: str
    state: str = ""
    stateage: int = 0
    """How long it is in this state, microseconds."""

    @property
    def is_known(self) -> bool:
        """Whether the client is connected to it, or tries to be."""
        given_up = self.state == "INIT" and self.stateage > UNCONNECTED_MAX_US
        return self.source in {"configured", "learned"} and not given_up


class _Statistics(msgspec.Struct):
    brokers: dict[str, _Broker]


class BrokerWatch:
    """Notices when a client, which has to be polled all the time, has forgotten all brokers.

    A broker may answer a metadata request with an empty list of brokers: the last one to stop does, and so does one
    that was frozen, until its controller has heard of it again. librdkafka then forgets all brokers, those of
    `bootstrap.servers` among them, and never connects again (its issue 5301): 10 of 90 clients did when a broker
    stopped under them. Or it lists a broker again, but never connects to it: 4 of 122 freezes of 6 s did this to a
    scheduler's reader. The client's statistics, which arrive every 2 s, list the brokers that it knows, and for how
    long each has been in its state.
    """

    def __init__(self, role: str) -> None:
        self.lost = False
        """Whether the client knows no broker any more. Its user then has to connect again with a new client."""
        self._role = role
        self._empty_in_a_row = 0
        self.settings: dict[str, object] = {
            **error_callback(role),
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._read_statistics,
        }
        """Settings that the client is made with."""

    def _read_statistics(self, statistics: str) -> None:
        brokers = msgspec.json.decode(statistics, type=_Statistics).brokers.values()
        known = any(broker.is_known for broker in brokers)
        self._empty_in_a_row = 0 if known else self._empty_in_a_row + 1
        if self._empty_in_a_row >= LOOKS_MAX and not self.lost:
            self.lost = True
            log.error("brokers_forgotten", role=self._role, todo="connecting again, or ending where that is not enough")


@log_errors()
def make_consumer(
    settings: Mapping[str, object],
    callbacks: Mapping[str, object],
    *,
    committed: bool = True,
    special: Mapping[str, object] | None = None,
) -> Consumer:
    """A consumer that reads by position, and to which librdkafka reports the end of each partition.

    Args:
        settings: how to reach Kafka; they win over all others.
        callbacks: `error_callback(role)`, or the settings of a `BrokerWatch` where the client is polled all the time.
        committed: whether records of open and aborted transactions are left out.
        special: settings of this one consumer.
    """
    return Consumer(
        {
            **CONSUMER,
            "group.id": "unused",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            **(special or {}),
            **callbacks,
            **settings,
        }
    )


def make_watched_consumer(
    settings: Mapping[str, object],
    role: str,
    *,
    committed: bool = True,
    special: Mapping[str, object] | None = None,
) -> tuple[Consumer, BrokerWatch]:
    """A consumer as by `make_consumer`, with a watch. It must be polled constantly: else its statistics pile up."""
    watch = BrokerWatch(role)
    return make_consumer(settings, watch.settings, committed=committed, special=special), watch


def next_messages(consumer: Consumer, seconds: float, most: int) -> list[Message]:
    """Messages that have arrived: records, errors, and ends of partitions.

    `Consumer.consume` with a time-out would wait for as many messages as it may return. A message is false where its
    value is empty, so its truth must not be asked for.

    Args:
        seconds: how long to wait for the first message.
        most: how many to return at most.
    """
    first = consumer.poll(seconds)
    return [] if first is None else [first, *consumer.consume(most - 1, 0)]


def librdkafka_version() -> str:
    """The version of librdkafka, by which figures of a benchmark differ."""
    version: str = libversion()[0]
    return version
