"""Reading lanes of Kafka: what is addressed to a living process and never replayed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from ftjm.adapters.kafka import CONSUMER, Sight, arrived, bounds, offset_of, offsets_at


class LaneReader:
    """Reads some partitions of a topic from their ends as they were when it was made, or from a while before.

    For what is addressed to a living process and never replayed: dispatches, replies, heartbeats.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        topic: str,
        partitions: Sequence[int],
        *,
        back_ms: int = 0,
        proving: bool = False,
        whole: bool = False,
    ) -> None:
        """With `proving`, `answered_at` is kept, which costs an event more for each that arrives. With `whole`, a lane
        that has lost what was to be read next (its retention) is read from its beginning, and not from its end."""
        self.answered_at: float | None = None
        """When a broker last answered a fetch, be it that there is nothing new (monotonic clock)."""
        self._settings = settings
        self._proving = proving
        self._whole = whole
        self._connect()
        self.topic = topic
        self._next = {p: bounds(self._consumer, topic, p)[1] for p in partitions}
        if back_ms:
            since = time.time_ns() // 1_000_000 - back_ms
            for partition, offset in offsets_at(self._consumer, topic, dict.fromkeys(partitions, since)).items():
                if 0 <= offset < self._next[partition]:
                    self._next[partition] = offset
        self.ask()

    def _connect(self) -> None:
        sight = Sight("reader")
        self._consumer = Consumer(
            {
                **CONSUMER,
                "enable.partition.eof": self._proving,
                "group.id": "unused",
                # What was missed while cut off longer than the lane's retention is mostly nobody's business any more.
                "auto.offset.reset": "earliest" if self._whole else "latest",
                **sight.settings,
                **self._settings,
            }
        )
        self._sight = sight

    def ask(self) -> None:
        """Begin to read anew behind what was handed out: the brokers then answer even if there is nothing new."""
        self._consumer.assign([TopicPartition(self.topic, p, offset) for p, offset in self._next.items()])

    def read(self, timeout_seconds: float) -> list[Message]:
        """Records that have arrived, waiting for the first one for at most `timeout_seconds`."""
        if self._sight.lost:
            self._consumer.close()
            self._connect()
            self.ask()
        every = arrived(self._consumer, timeout_seconds, 1_000)
        found = [m for m in every if m.error() is None]
        if found or any(_at_end(m) for m in every):
            self.answered_at = time.monotonic()
        for message in found:
            self._next[message.partition() or 0] = offset_of(message) + 1
        return found

    def reached(self, ends: Mapping[int, int]) -> bool:
        """Whether everything before `ends` has been handed out (lanes hold no transactions, so no gaps)."""
        return all(self._next[p] >= end for p, end in ends.items())

    def close(self) -> None:
        self._consumer.close()


def _at_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF
