"""A partition's log folded into its store as it comes: a standby does so all the time, an owner before it leads."""

from __future__ import annotations

import time
from collections.abc import Callable

from ftjm.adapters.kafka import offset_of
from ftjm.adapters.kafka_channel import Channel, LostPosition
from ftjm.adapters.kafka_log import event_record
from ftjm.engine.partition import Partition
from ftjm.scheduler.context import Context

TAKE_MAX = 1_000
"""Records that are folded at a time: 10 ms."""
ASIDE_MAX = 200
"""The same while nobody waits for it."""


class Follower:
    """Used by the partition's thread alone. It reads from the beginning, and while it is told to."""

    def __init__(self, context: Context, number: int, partition: Partition, wake: Callable[[], None]) -> None:
        """`wake` is called, by another thread, when something has come. Raises KafkaException."""
        self._context = context
        self._number = number
        self._partition = partition
        self._wake = wake
        self._end = context.log.end(number)
        """Of the log when it was opened."""
        self._events: Channel | None = None
        self.follow()

    def follow(self) -> None:
        """Read on from where the partition is."""
        start = self._partition.position.applied_offset + 1
        self._events = self._context.feed.follow("events", self._number, start, self._wake)

    def rest(self) -> None:
        """Read no more: the partition is led here, or given up."""
        self._context.feed.drop("events", self._number)
        self._events = None

    @property
    def resting(self) -> bool:
        return self._events is None

    @property
    def caught_up(self) -> bool:
        """Whether no more is left to fold than what has come since the partition was opened.

        Kafka tells of an end only when a fetch finds nothing new: of a log that grows all the time, hardly ever.
        """
        events = self._reading()
        return len(events) < TAKE_MAX and (events.ended or events.reached >= self._end)

    def fold_some(self) -> bool:
        """Fold what has arrived; whether there was anything.

        Raises LostPosition, Diverged, and what else a log or a store is faulty by.
        """
        return self._fold(TAKE_MAX)

    def fold_aside(self) -> bool:
        """The same for nobody who waits: half of the time, one partition of the process after the other.

        Instances that start together on a busy host would else keep those that decide from the processors.
        """
        with self._context.aside:
            began = time.monotonic()
            folded = self._fold(ASIDE_MAX)
            time.sleep(time.monotonic() - began)
        return folded

    def reaches(self, end: int) -> bool:
        """Whether everything before this offset has been folded."""
        events = self._reading()
        return events.reached >= end and not len(events)

    def require(self, end: int) -> None:
        """Raises LostPosition where the log ends before what was folded: it has lost its tail since."""
        applied = self._partition.position.applied_offset
        if end <= applied:
            raise LostPosition(f"expected the log to hold offset {applied}, which was folded, but it ends at {end}")

    def newer(self) -> bool:
        """Whether somebody has written behind what is applied here."""
        applied = self._partition.position.applied_offset
        return any(offset_of(message) > applied for message in self._reading().take(TAKE_MAX))

    def _reading(self) -> Channel:
        assert self._events is not None
        return self._events

    def _fold(self, most: int) -> bool:
        messages = self._reading().take(most)
        for message in messages:
            record = event_record(message)
            if record.offset > self._partition.position.applied_offset:
                self._partition.fold(record)
        return bool(messages)
