"""Folds a partition's log into its store as records arrive: a standby always does so, an owner before it leads."""

from __future__ import annotations

import time
from collections.abc import Callable

from ftjm.adapters.kafka.errors import LostPosition
from ftjm.adapters.kafka.partition_buffer import EventBuffer
from ftjm.engine.partition import Partition
from ftjm.scheduler.context import Context

TAKE_MAX = 1_000
"""Records that are folded at a time. They take about 10 ms."""
BACKGROUND_TAKE_MAX = 200
"""Records that are folded at a time in the background."""


class Follower:
    """Reads and folds one partition, from its construction until `stop`. Only the partition's thread uses it."""

    def __init__(self, context: Context, number: int, partition: Partition, wake: Callable[[], None]) -> None:
        """Start to read behind the partition's position.

        Args:
            context: what the partitions of the process share.
            number: the partition.
            partition: its state and store.
            wake: called, by another thread, when records have arrived.

        Raises:
            LogError: Kafka does not answer.
        """
        self._context = context
        self._number = number
        self._partition = partition
        self._wake = wake
        self._end = context.log.end(number)
        """End of the log when the partition was opened."""
        self._buffer: EventBuffer | None = None
        self.start()

    def start(self) -> None:
        """Read from the first record that is not folded."""
        start = self._partition.position.applied_offset + 1
        self._buffer = self._context.reader.follow("events", self._number, start, self._wake)

    def stop(self) -> None:
        """Stop reading."""
        self._context.reader.drop("events", self._number)
        self._buffer = None

    @property
    def stopped(self) -> bool:
        """Whether nothing is read."""
        return self._buffer is None

    @property
    def caught_up(self) -> bool:
        """Whether the log is folded up to the end that it had when the partition was opened.

        Kafka reports an end only when a fetch finds nothing new, which is rare in a log that grows all the time.
        """
        buffer = self._reading()
        return len(buffer) < TAKE_MAX and (buffer.ended or buffer.reached >= self._end)

    def fold_some(self) -> bool:
        """Fold records that have arrived.

        Returns:
            Whether there were any.

        Raises:
            LostPosition: the log does not hold the next record.
            UndecodableError: a record cannot be decoded.
            Diverged: the state differs from the log.
            StoreFailed: the store cannot be read or written.
        """
        return self._fold(TAKE_MAX)

    def fold_in_background(self) -> bool:
        """Fold records while another instance owns the partition: half of the time, one partition of the process at a
        time. Instances that start together on a busy host would otherwise slow down the owners on that host.

        Returns and raises what `fold_some` does.
        """
        with self._context.background_fold:
            began = time.monotonic()
            folded = self._fold(BACKGROUND_TAKE_MAX)
            time.sleep(time.monotonic() - began)
        return folded

    def folded_to(self, end: int) -> bool:
        """Whether every record before offset `end` has been folded."""
        buffer = self._reading()
        return buffer.reached >= end and not len(buffer)

    def require_end(self, end: int) -> None:
        """Check that the log still holds every folded record.

        Args:
            end: the present end of the log.

        Raises:
            LostPosition: the log has lost records that were folded.
        """
        applied = self._partition.position.applied_offset
        if end <= applied:
            raise LostPosition(f"expected the log to hold offset {applied}, which was folded, but it ends at {end}")

    def finds_newer_records(self) -> bool:
        """Whether another owner has written behind this partition's position. Drops the records that it reads."""
        applied = self._partition.position.applied_offset
        return any(record.offset > applied for record in self._reading().take(TAKE_MAX))

    def _reading(self) -> EventBuffer:
        assert self._buffer is not None
        return self._buffer

    def _fold(self, most: int) -> bool:
        records = self._reading().take(most)
        for record in records:
            if record.offset > self._partition.position.applied_offset:
                self._partition.fold(record)
        return bool(records)
