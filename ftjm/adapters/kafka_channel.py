"""What has arrived of one partition, between the thread that reads and the one that uses it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, Message

from ftjm.adapters.kafka import offset_of

MESSAGE_BYTES = 200
"""That a message takes beside its value, in Python and librdkafka: 145 to 180 were measured."""


class LostPosition(Exception):
    """The log does not hold what would have to be read next."""


class Channel:
    """What has arrived of one partition of one topic since it was opened, in order."""

    def __init__(self, start: int, wake: Callable[[], None], *, proves: bool = False, epoch: int = -1) -> None:
        self._wake = wake
        self._records: deque[Message] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.reached = start
        """Everything before this offset has arrived (or will never: markers and gaps)."""
        self.epoch = epoch
        """Of the leader that took the last record before `reached`; -1 where there is none, or it is not known."""
        self.proof = start - 1
        """The offset of that record."""
        self.proves = proves
        """Whether what is read is proved to go on where it was. (Where there are transactions, what is before `reached`
        may be a marker, which nobody is given.)"""
        self.end = start
        """The end of the log, as it was known a moment ago."""
        self.ended = False
        """Whether the end of the log was reached at least once."""
        self.begun = not proves
        """Whether what comes first was looked at: it begins where it should, or was asked for again."""
        self.proving = False
        """Whether the last record before `reached` is read again, to see that it is still the one that was read: where
        the log has lost its tail, and was filled again, what comes next would lie in the middle of that."""
        self.doubted = False
        """Whether nothing that comes counts before it was asked for again."""
        self.fault: KafkaError | None = None
        """Why nothing more will come: the position is not in the log."""
        self.trouble: KafkaError | None = None
        """What Kafka has said since something came: perhaps nothing will come for as long as that is so."""
        self.asked_at = time.monotonic()
        """When it was begun to be read, the last time."""

    def put(self, messages: Sequence[Message]) -> int:
        """Add records; returns how many bytes wait."""
        with self._lock:
            self._records.extend(messages)
            self._bytes += _held(messages)
            self.reached = offset_of(messages[-1]) + 1
            held = self._bytes
        self.trouble = None
        self._wake()
        return held

    def at_end(self, offset: int) -> None:
        self.reached = max(self.reached, offset)
        self.ended = True
        self.trouble = None
        self._wake()

    def fail(self, error: KafkaError) -> None:
        self.fault = error
        self._wake()

    def take(self, most: int) -> list[Message]:
        """Up to `most` records, oldest first. Raises LostPosition where nothing more will come."""
        if self.fault is not None and not self._records:
            raise LostPosition(f"expected offset {self.reached} to be in the log, but {self.fault.str()}")
        with self._lock:
            taken = [self._records.popleft() for _ in range(min(most, len(self._records)))]
            self._bytes -= _held(taken)
        return taken

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._records)


def _held(messages: Sequence[Message]) -> int:
    """Bytes that they take in memory: a message of no bytes is one as well."""
    return sum(map(len, messages)) + MESSAGE_BYTES * len(messages)
