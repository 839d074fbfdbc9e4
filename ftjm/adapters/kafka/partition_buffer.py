"""Records of one partition that have arrived, between the thread that reads them and the thread that uses them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from confluent_kafka import Message

from ftjm.adapters.kafka.errors import LogError, LostPosition, OffsetOutOfRange
from ftjm.adapters.kafka.messages import epoch_of, offset_of
from ftjm.engine.ports import CommandRecord, EventRecord

R = TypeVar("R")
MESSAGE_BYTES = 200
"""Memory that a message takes beside its value, in Python and librdkafka: 145 to 180 were measured."""


class PartitionBuffer(Generic[R]):
    """The records of one partition that were read and not taken yet, in order.

    `PartitionReader` writes it, on its own thread. The thread that uses the partition takes the records.
    """

    def __init__(
        self,
        start: int,
        wake: Callable[[], None],
        record: Callable[[Message], R],
        *,
        proves: bool = False,
        epoch: int = -1,
    ) -> None:
        """Make an empty buffer.

        Args:
            start: offset of the first record to read.
            wake: called, from the reader's thread, when something has arrived.
            record: makes a record of a message. It is called when the record is taken, on the thread that takes it.
            proves: see the attribute.
            epoch: epoch of the leader that took the record before `start`; -1 where it is not known.
        """
        self._wake = wake
        self._record = record
        self._records: deque[Message] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.reached = start
        """Every record before this offset has arrived. (Markers of transactions, and gaps, never arrive.)"""
        self.epoch = epoch
        """Epoch of the leader that took the last record before `reached`; -1 where it is not known."""
        self.proof = start - 1
        """Offset of that record."""
        self.proves = proves
        """Whether the reader proves that the log still has the last record that was read, before it reads on. Not for
        topics with transactions: there, the offset before `reached` may hold a marker, which no consumer is given."""
        self.end = start
        """End of the log, as a broker reported it a moment ago."""
        self.ended = False
        """Whether the end of the log was reached at least once."""
        self.first_checked = not proves
        """Whether the first message was checked: it is at the expected offset, or was requested a second time."""
        self.proving = False
        """Whether the last record before `reached` is being read again. A log that has lost its tail, and was filled
        again, has another record there, of a higher epoch."""
        self.doubted = False
        """Whether messages are dropped until the expected offset was requested once more."""
        self.fault: LogError | None = None
        """The error by which no further record will arrive: the position is not in the log."""
        self.trouble: LogError | None = None
        """The last error that Kafka has reported since a record arrived; while it lasts, perhaps none arrives."""
        self.asked_at = time.monotonic()
        """When the partition was last assigned (monotonic clock)."""

    def put(self, messages: Sequence[Message]) -> int:
        """Add messages, which must not be empty; returns how many bytes are held now."""
        with self._lock:
            self._records.extend(messages)
            self._bytes += _held(messages)
            self.reached = offset_of(messages[-1]) + 1
            held = self._bytes
        self.trouble = None
        self._wake()
        return held

    def proved(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Check that the first message is the last record that was read before; returns the messages behind it."""
        first = messages[0]
        self.proving = False
        if (offset_of(first), epoch_of(first)) != (self.proof, self.epoch):
            found = f"its record at offset {offset_of(first)} is of epoch {epoch_of(first)}, and not of {self.epoch}"
            self.fail(OffsetOutOfRange(found))
            return ()
        self.trouble = None
        return messages[1:]

    def at_end(self, offset: int) -> None:
        """Note that the log ends at this offset."""
        self.reached = max(self.reached, offset)
        self.ended = True
        self.trouble = None
        self._wake()

    def fail(self, error: LogError) -> None:
        """Note that no further record will arrive."""
        self.fault = error
        self._wake()

    def take(self, most: int) -> list[R]:
        """Remove up to `most` records, oldest first.

        Raises:
            LostPosition: the buffer is empty, and no further record will arrive.
        """
        if self.fault is not None and not self._records:
            raise LostPosition(f"expected offset {self.reached} to be in the log, but {self.fault}")
        with self._lock:
            taken = [self._records.popleft() for _ in range(min(most, len(self._records)))]
            self._bytes -= _held(taken)
        return [self._record(message) for message in taken]

    @property
    def held_bytes(self) -> int:
        """Memory that the buffered messages take, about."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._records)


def _held(messages: Sequence[Message]) -> int:
    """Memory that messages take, about; a message without a value takes some, too."""
    return sum(map(len, messages)) + MESSAGE_BYTES * len(messages)


CommandBuffer = PartitionBuffer[CommandRecord]
EventBuffer = PartitionBuffer[EventRecord]
