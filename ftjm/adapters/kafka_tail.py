"""Where a log goes on that has perhaps lost its tail: brokers acknowledge from memory, and a power loss takes that.

What is written afterwards comes to lie where the lost records lay, and is told from them by the leader's epoch, which
Kafka raises with every election, and by which replicas of Kafka's own find out where they part (KIP-101).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ftjm.adapters.kafka import ADMIN_TIMEOUT_SECONDS, AWAY, CONSUMER, bounds, epoch_of, offset_of, say_errors
from ftjm.adapters.kafka_channel import LostPosition
from ftjm.core.model import Place

POLL_SECONDS = 0.2


def goes_on_at(settings: Mapping[str, Any], topic: str, partition: int, read: Place) -> Place:
    """The first offset that was not read by who has come to `read`, and the epoch of the record before it.

    That is `read` itself, unless the log has lost records before it: then it is where the first record lies that came
    in their place, or the end of the log. By bisection: epochs never fall from one offset to the next.

    Raises:
        LostPosition: the log begins behind `read`; or ends before it, though nobody was elected since who could have
            lost something: its leader was replaced, and does not know it, or the topic was made anew.
        KafkaException: where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    if read.epoch < 0:
        return read
    consumer = Consumer(
        {
            **CONSUMER,
            "group.id": "unused",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "error_cb": say_errors("tail"),
            **settings,
        }
    )
    try:
        begin, end = bounds(consumer, topic, partition)
        if begin > read.offset:
            raise LostPosition(f"expected offset {read.offset} to be in the log, but it begins at {begin}")
        low, high, epoch = begin, min(read.offset, end), -1
        middle = high - 1  # where nothing was lost, one look is enough
        while low < high:
            found = _first(consumer, topic, partition, max(low, middle))
            if found is not None and found.offset < high and found.epoch <= read.epoch:
                low, epoch = found.offset + 1, found.epoch
            else:
                high = max(low, middle)
            middle = (low + high) // 2
        if low == end < read.offset and _leader_epoch(settings, topic, partition) <= read.epoch:
            why = "by a leader that was replaced, or of a topic that was made anew"
            raise LostPosition(f"expected offset {read.offset} to be in the log, but it ends at {end}: {why}")
        return Place(low, epoch)
    finally:
        consumer.close()


def _leader_epoch(settings: Mapping[str, Any], topic: str, partition: int) -> int:
    place, latest = TopicPartition(topic, partition), OffsetSpec.latest()  # type: ignore[no-untyped-call]
    admin = AdminClient({**settings})
    asked = admin.list_offsets({place: latest}, request_timeout=ADMIN_TIMEOUT_SECONDS)
    epoch = asked[place].result().leader_epoch
    return -1 if epoch is None else int(epoch)


def _first(consumer: Consumer, topic: str, partition: int, offset: int) -> Place | None:
    """The offset and the epoch of the first record at `offset` or behind it; None if there is none."""
    consumer.assign([TopicPartition(topic, partition, offset)])
    deadline = time.monotonic() + ADMIN_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return Place(offset_of(message), epoch_of(message))
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        if error.code() not in AWAY:
            raise KafkaException(error)
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
