"""Reading single records by their offsets, for those who know where what they want is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ftjm.adapters.kafka import AWAY, CONSUMER, offset_of, say_errors

GAP_MAX = 200
"""Offsets that are read and dropped rather than jumped over."""
PATIENCE_SECONDS = 5.0


class PointReader:
    """Records of one topic by offset; used by one thread at a time."""

    def __init__(self, settings: Mapping[str, object], topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer(
            {
                **CONSUMER,
                "group.id": "unused",
                "isolation.level": "read_committed",
                # What was trimmed is skipped, and seen to be missing.
                "auto.offset.reset": "earliest",
                # Little is wanted of what follows a record.
                "fetch.wait.max.ms": 10,
                "fetch.message.max.bytes": 64 * 1024,
                "queued.max.messages.kbytes": 2 * 1024,
                "error_cb": say_errors("points"),
                **settings,
            }
        )

    def read(self, partition: int, offsets: Sequence[int]) -> dict[int, bytes]:
        """The records at these offsets (ascending) that the log still has.

        Raises KafkaException if Kafka does not answer within `PATIENCE_SECONDS`.
        """
        found: dict[int, bytes] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        at = -1
        for offset in offsets:
            if not at <= offset <= at + GAP_MAX or at < 0:
                self._consumer.assign([TopicPartition(self._topic, partition, offset)])
                at = offset
            while at <= offset:
                message = self._consumer.poll(max(0.0, deadline - time.monotonic()))
                if message is None:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
                error = message.error()
                if error is None:
                    at = offset_of(message) + 1
                    if at - 1 == offset:
                        found[offset] = message.value() or b""
                elif error.code() not in AWAY:
                    raise KafkaException(error)
        self._consumer.unassign()
        return found

    def close(self) -> None:
        self._consumer.close()
