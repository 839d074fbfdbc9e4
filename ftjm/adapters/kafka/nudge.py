"""A nudge: a record that makes the brokers answer the fetches of one consumer.

A broker holds a fetch back until there is a record for it, or until the fetch's wait has passed; and librdkafka has one
fetch under way to each broker. So a partition that is assigned meanwhile waits for that answer. So does a takeover,
because only an answer tells where the log ends:

    fetch of 0 and 1 ─────────────── no record for 500 ms ───────────────► answer, fetch of 0, 1 and 2
            assign 2, nudge ─► answer, fetch of 0, 1 and 2

With a short wait, an idle cluster would ask its brokers ten times a second for each reader. Instead the consumer also
reads some partitions, the lanes, of a topic that every process may write to: one lane of each broker. A record in these
lanes is a nudge. A broker that leads no lane of the topic is not nudged, and a nudge may be lost; then the fetch's wait
is what it costs. The lanes carry the topic's own records, too, which the consumer drops.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from ftjm.adapters.kafka.errors import LogError

CHOOSE_SECONDS = 30.0
"""Pause between two looks at which broker leads which lane."""
CHOOSE_AGAIN_SECONDS = 2.0
"""The same after a look that Kafka did not answer, and after an error of a lane."""
ANSWER_SECONDS = 1.0
"""How long such a look may take."""

Write = Callable[[int, Callable[[], None]], None]
"""Writes a record without a meaning into a lane, and has the function called when the record is delivered, or when it
never will be. Raises LogError, BufferError."""


class Nudge:
    """The lanes by which one consumer is nudged. All but `send` is called on the thread that uses the consumer."""

    def __init__(self, topic: str, write: Write) -> None:
        """Make a nudge without lanes.

        Args:
            topic: the topic that has the lanes.
            write: writes a record into a lane, from any thread.
        """
        self._topic = topic
        self._write = write
        self._lanes: frozenset[int] = frozenset()
        self._choose_at = 0.0
        self._lock = threading.Lock()
        self._under_way: dict[int, bool] = {}
        """The lanes that have a record under way, and whether another nudge was asked for since."""

    def send(self) -> None:
        """Make the brokers answer. May be called often, from any thread: a lane has at most one record under way."""
        for lane in self._lanes:
            with self._lock:
                if lane in self._under_way:
                    self._under_way[lane] = True
                    continue
                self._under_way[lane] = False
            self._send(lane)

    def _send(self, lane: int) -> None:
        try:
            self._write(lane, lambda: self._delivered(lane))
        except (LogError, BufferError):
            with self._lock:
                self._under_way.pop(lane, None)

    def _delivered(self, lane: int) -> None:
        with self._lock:
            again = self._under_way.get(lane, False) and lane in self._lanes
            if again:
                self._under_way[lane] = False
            else:
                self._under_way.pop(lane, None)
        if again:
            self._send(lane)

    def reconnect(self) -> None:
        """Note that the consumer is a new one, which reads no lane."""
        self._lanes, self._choose_at = frozenset(), 0.0

    def choose_lanes(self, consumer: Consumer) -> None:
        """Read one lane of each broker. The lanes are chosen anew from time to time, since their leaders change."""
        if time.monotonic() < self._choose_at:
            return
        self._choose_at = time.monotonic() + CHOOSE_AGAIN_SECONDS
        # A broker answers one request of a connection after the other. So this one would wait behind a fetch.
        self.send()
        with suppress(KafkaException):
            lanes = consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic].partitions
            leaders = {lanes[lane].leader: lane for lane in sorted(lanes, reverse=True) if lanes[lane].leader >= 0}
            chosen = frozenset(leaders.values())
            if chosen:
                for lane in self._lanes - chosen:
                    self._drop(consumer, lane)
                for lane in chosen - self._lanes:
                    consumer.incremental_assign([TopicPartition(self._topic, lane, OFFSET_END)])
                    self._lanes |= {lane}
                self._choose_at = time.monotonic() + CHOOSE_SECONDS

    def _drop(self, consumer: Consumer, lane: int) -> None:
        consumer.incremental_unassign([TopicPartition(self._topic, lane)])
        self._lanes -= {lane}

    def note_error(self, consumer: Consumer, topic: str, lane: int) -> None:
        """Note an error of a partition. If it is one of the lanes, it is read no more until lanes are chosen again."""
        if topic == self._topic and lane in self._lanes:
            self._choose_at = time.monotonic() + CHOOSE_AGAIN_SECONDS
            with suppress(KafkaException):
                self._drop(consumer, lane)
