"""Reading single records by their offsets: the projection knows the offsets of each job's events."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import TopicPartition

from ftjm.adapters.kafka.connection import error_callback, make_consumer
from ftjm.adapters.kafka.errors import LogUnanswered, error_of, log_errors
from ftjm.adapters.kafka.messages import offset_of

GAP_MAX = 200
"""Up to this many offsets between two wanted records are read and dropped: that is faster than a new assignment."""
PATIENCE_SECONDS = 5.0


class PointReader:
    """Records of one topic by offset; used by one thread at a time."""

    def __init__(self, settings: Mapping[str, object], topic: str) -> None:
        self._topic = topic
        special = {
            "enable.partition.eof": False,
            # An offset that was trimmed is skipped; its record is then missing from the answer.
            "auto.offset.reset": "earliest",
            # Few of the records that follow a wanted one are wanted, too.
            "fetch.wait.max.ms": 10,
            "fetch.message.max.bytes": 64 * 1024,
            "queued.max.messages.kbytes": 2 * 1024,
        }
        self._consumer = make_consumer(settings, error_callback("points"), special=special)

    @log_errors()
    def read(self, partition: int, offsets: Sequence[int]) -> dict[int, bytes]:
        """The values of records by their offsets, for those that the log still has.

        Args:
            partition: the partition to read.
            offsets: ascending.

        Raises:
            LogError: Kafka does not answer within `PATIENCE_SECONDS`.
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
                    raise LogUnanswered(f"no record within {PATIENCE_SECONDS:g} s")
                error = message.error()
                if error is None:
                    at = offset_of(message) + 1
                    if at - 1 == offset:
                        found[offset] = message.value() or b""
                elif not isinstance(problem := error_of(error), LogUnanswered):
                    raise problem
        self._consumer.unassign()
        return found

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()
