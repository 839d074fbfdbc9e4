"""Finds the offset at which a reader continues in a log that has perhaps lost its tail.

Brokers acknowledge a record when their replicas hold it in memory. If all of them lose power at once, the log may lose
its last records; records that are written afterwards get the same offsets. The leader epoch, which Kafka raises with
every election, distinguishes them from the lost ones. Kafka's own replicas find in the same way where their logs differ
(KIP-101)::

    read before the power loss    offset 10  11  12  13        epoch 4
    the log now                   offset 10  11 | 12  13  14   epoch 4 | epoch 5
                                                  ^ continue here: 12 and 13 are other records

Epochs never fall from one offset to the next, so the place is found by bisection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ftjm.adapters.kafka.connection import ADMIN_TIMEOUT_SECONDS, error_callback, make_consumer
from ftjm.adapters.kafka.errors import LogUnanswered, LostPosition, error_of, log_errors
from ftjm.adapters.kafka.messages import epoch_of, offset_of
from ftjm.adapters.kafka.offsets import bounds
from ftjm.core.state.model import LogPosition

POLL_SECONDS = 0.2


@log_errors()
def resume_position(settings: Mapping[str, Any], topic: str, partition: int, read: LogPosition) -> LogPosition:
    """Find where to read on behind the records that were read.

    That is `read` itself, unless the log has lost records before it. Then it is the offset of the first record that was
    written in their place, or the end of the log.

    Args:
        settings: how to reach Kafka.
        topic: the topic of the log.
        partition: its partition.
        read: offset behind the last record that was read, and the leader epoch of that record.

    Returns:
        The offset to read next, and the leader epoch of the record before it.

    Raises:
        LostPosition: the log begins behind `read`; or it ends before `read` though no leader was elected since that
            could have lost records: then this leader was replaced and does not know it, or the topic was created again.
        LogError: Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """
    if read.epoch < 0:
        return read
    consumer = make_consumer(settings, error_callback("tail"), special={"fetch.wait.max.ms": 10})
    try:
        begin, end = bounds(consumer, topic, partition)
        if begin > read.offset:
            raise LostPosition(f"expected offset {read.offset} to be in the log, but it begins at {begin}")
        low, high, epoch = begin, min(read.offset, end), -1
        middle = high - 1  # where nothing was lost, one read is enough
        while low < high:
            found = _first(consumer, topic, partition, max(low, middle))
            if found is not None and found.offset < high and found.epoch <= read.epoch:
                low, epoch = found.offset + 1, found.epoch
            else:
                high = max(low, middle)
            middle = (low + high) // 2
        if low == end < read.offset and _leader_epoch(settings, topic, partition) <= read.epoch:
            cause = "by a leader that was replaced, or of a topic that was created again"
            raise LostPosition(f"expected offset {read.offset} to be in the log, but it ends at {end}: {cause}")
        return LogPosition(low, epoch)
    finally:
        consumer.close()


def _leader_epoch(settings: Mapping[str, Any], topic: str, partition: int) -> int:
    place, latest = TopicPartition(topic, partition), OffsetSpec.latest()  # type: ignore[no-untyped-call]
    admin = AdminClient({**settings})
    asked = admin.list_offsets({place: latest}, request_timeout=ADMIN_TIMEOUT_SECONDS)
    epoch = asked[place].result().leader_epoch
    return -1 if epoch is None else int(epoch)


def _first(consumer: Consumer, topic: str, partition: int, offset: int) -> LogPosition | None:
    """Offset and leader epoch of the first record at `offset` or behind it; None if there is none."""
    consumer.assign([TopicPartition(topic, partition, offset)])
    deadline = time.monotonic() + ADMIN_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(POLL_SECONDS)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return LogPosition(offset_of(message), epoch_of(message))
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        if not isinstance(problem := error_of(error), LogUnanswered):
            raise problem
    raise LogUnanswered(f"no record of {topic} within {ADMIN_TIMEOUT_SECONDS:g} s")
