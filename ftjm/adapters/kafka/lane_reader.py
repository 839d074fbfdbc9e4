"""Reading lanes: partitions of the topics whose records are for a running process and are never replayed.

These topics are `dispatch`, `replies` and `heartbeats`. A process reads its lane from the end on: what was sent before
it started was for another process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, TopicPartition

from ftjm.adapters.kafka.connection import CONSUMER, make_watched_consumer, next_messages
from ftjm.adapters.kafka.errors import log_errors
from ftjm.adapters.kafka.messages import record_of
from ftjm.adapters.kafka.offsets import bounds, offsets_at
from ftjm.adapters.records import Record

WAIT_MS = 500
"""How long a broker waits for the first record before it answers that there is none. While a lane is read, it stays
assigned, so no new assignment waits for that answer (as it does in `partition_reader`)."""
COLLECT_MS = 500
"""How long a broker collects records for an unhurried reader."""


class LaneReader:
    """Reads lanes from their ends as they were when the reader was made, or from a while before."""

    def __init__(
        self,
        settings: Mapping[str, object],
        topic: str,
        partitions: Sequence[int],
        *,
        back_ms: int = 0,
        proof_ms: int | None = None,
        whole: bool = False,
        unhurried: bool = False,
    ) -> None:
        """Connect, and find the ends of the lanes.

        Args:
            settings: how to reach Kafka.
            topic: the topic that has the lanes.
            partitions: the lanes to read.
            back_ms: how far before now to begin, by the brokers' clocks.
            proof_ms: how long a broker waits for the first record before it answers. With it, `answered_at` is kept,
                which costs one message more for each batch. None: it waits for `WAIT_MS`, and `answered_at` is not
                kept. A proof waits for two answers: the one that is under way, and its own.
            whole: whether a lane whose next record was deleted (its retention has passed) is read from its beginning,
                instead of its end.
            unhurried: whether records may arrive up to `COLLECT_MS` late, so that brokers answer once for many of them.

        Raises:
            LogError: Kafka does not answer in time.
        """
        self.answered_at: float | None = None
        """Time of a broker's last answer to a fetch, with or without new records (monotonic clock); None before."""
        self._settings = settings
        self._proof_ms = proof_ms
        self._whole = whole
        self._unhurried = unhurried
        self._connect()
        self.topic = topic
        self._next = {p: bounds(self._consumer, topic, p)[1] for p in partitions}
        if back_ms:
            since = time.time_ns() // 1_000_000 - back_ms
            for partition, offset in offsets_at(self._consumer, topic, dict.fromkeys(partitions, since)).items():
                if 0 <= offset < self._next[partition]:
                    self._next[partition] = offset
        self.reassign()

    def _connect(self) -> None:
        special: dict[str, object] = {
            "fetch.wait.max.ms": COLLECT_MS if self._unhurried else self._proof_ms or WAIT_MS,
            "fetch.min.bytes": CONSUMER["fetch.message.max.bytes"] if self._unhurried else 1,
            "enable.partition.eof": self._proof_ms is not None,
            # A process that was cut off for longer than the lane's retention has missed only outdated records.
            "auto.offset.reset": "earliest" if self._whole else "latest",
        }
        self._consumer, self._watch = make_watched_consumer(self._settings, "reader", special=special)

    def reassign(self) -> None:
        """Assign the lanes again, behind the last record that was returned: brokers then answer even if there is no
        new record."""
        self._consumer.assign([TopicPartition(self.topic, p, offset) for p, offset in self._next.items()])

    @log_errors()
    def read(self, timeout_seconds: float) -> list[Record]:
        """The records that have arrived, waiting for the first one for at most `timeout_seconds`. Raises LogError."""
        if self._watch.lost:
            self._consumer.close()
            self._connect()
            self.reassign()
        found, answered = [], False
        for message in next_messages(self._consumer, timeout_seconds, 1_000):
            error = message.error()
            if error is None:
                record = record_of(message)
                self._next[record.partition] = record.offset + 1
                found.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                answered = True
        if found or answered:
            self.answered_at = time.monotonic()
        return found

    def reached(self, ends: Mapping[int, int]) -> bool:
        """Whether all records before these offsets (lane to offset) were handed out. Lanes hold no transactions, and
        therefore no gaps."""
        return all(self._next[p] >= end for p, end in ends.items())

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()
