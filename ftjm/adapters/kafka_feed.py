"""One consumer for all that a process reads of its partitions: commands where it owns, events where it follows."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from ftjm.adapters.kafka import CONSUMER, offset_of, say_errors

log = structlog.get_logger(__name__)

Kind = Literal["commands", "events"]
POLL_SECONDS = 0.02
"""How long a change of what is read may wait."""
HELD_BYTES_MAX = 8 * 1024 * 1024
"""What waits in one channel; beyond it the partition is paused."""


class Channel:
    """What has arrived of one partition of one topic since it was opened, in order."""

    def __init__(self, start: int, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._records: deque[Message] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.reached = start
        """Everything before this offset has arrived (or will never: markers and gaps)."""
        self.ended = False
        """Whether the end of the log was reached at least once."""
        self.fault: KafkaError | None = None
        """Why nothing more will come: the position is not in the log."""

    def put(self, messages: Sequence[Message]) -> int:
        """Add records; returns how many bytes wait."""
        with self._lock:
            self._records.extend(messages)
            self._bytes += sum(map(len, messages))
            self.reached = offset_of(messages[-1]) + 1
            held = self._bytes
        self._wake()
        return held

    def at_end(self, offset: int) -> None:
        self.reached = max(self.reached, offset)
        self.ended = True
        self._wake()

    def fail(self, error: KafkaError) -> None:
        self.fault = error
        self._wake()

    def take(self, most: int) -> list[Message]:
        """Up to `most` records, oldest first."""
        with self._lock:
            taken = [self._records.popleft() for _ in range(min(most, len(self._records)))]
            self._bytes -= sum(map(len, taken))
        return taken

    def give_back(self, records: list[Message]) -> None:
        """Put records that were taken, and not used, back to the front."""
        with self._lock:
            self._records.extendleft(reversed(records))
            self._bytes += sum(map(len, records))

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._records)


class Feed:
    """Reads partitions by position, on one thread, into channels.

    What is read changes on that thread alone, so that no record of an earlier assignment can enter the channel
    of a later one.
    """

    def __init__(self, settings: Mapping[str, object], cluster: str, *, held_bytes_max: int = HELD_BYTES_MAX) -> None:
        self._cluster = cluster
        self._held_bytes_max = held_bytes_max
        self._consumer = Consumer(
            {
                **CONSUMER,
                "group.id": "unused",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "error_cb": say_errors("feed"),
                **settings,
            }
        )
        self._orders: deque[Callable[[], None]] = deque()
        self._channels: dict[tuple[str, int], Channel] = {}
        self._paused: set[tuple[str, int]] = set()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def follow(self, kind: Kind, partition: int, start: int, wake: Callable[[], None]) -> Channel:
        """Read from `start` on; replaces what was read of this partition before."""
        channel = Channel(start, wake)
        self._orders.append(lambda: self._follow((f"{self._cluster}.{kind}", partition), start, channel))
        return channel

    def drop(self, kind: Kind, partition: int) -> None:
        """Read this partition no more."""
        self._orders.append(lambda: self._drop((f"{self._cluster}.{kind}", partition)))

    def _follow(self, key: tuple[str, int], start: int, channel: Channel) -> None:
        self._drop(key)
        self._channels[key] = channel
        self._consumer.incremental_assign([TopicPartition(*key, start)])

    def _drop(self, key: tuple[str, int]) -> None:
        if self._channels.pop(key, None) is not None:
            self._paused.discard(key)
            self._consumer.incremental_unassign([TopicPartition(*key)])

    def _run(self) -> None:
        while self._open:
            while self._orders:
                self._orders.popleft()()
            self._resume()
            first = self._consumer.poll(POLL_SECONDS)
            if first is not None:
                self._sort([first, *self._consumer.consume(2_000, 0)])

    def _sort(self, messages: Sequence[Message]) -> None:
        """Hand out what came together: one lock and one wake-up a partition, not a record."""
        arrived: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            key = (message.topic() or "", message.partition() or 0)
            if message.error() is None:
                arrived.setdefault(key, []).append(message)
            else:
                self._put(key, arrived.pop(key, []))
                self._notice(key, message)
        for key, records in arrived.items():
            self._put(key, records)

    def _put(self, key: tuple[str, int], records: Sequence[Message]) -> None:
        channel = self._channels.get(key)
        if channel is None or not records:
            return
        if channel.put(records) > self._held_bytes_max and key not in self._paused:
            self._paused.add(key)
            self._consumer.pause([TopicPartition(*key)])

    def _notice(self, key: tuple[str, int], message: Message) -> None:
        """Something that is no record: the end of a partition, or an error."""
        channel, error = self._channels.get(key), message.error()
        if channel is None or error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            channel.at_end(message.offset() or 0)
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            channel.fail(error)
        else:
            log.warning("feed_error", topic=key[0], partition=key[1], error=error.str())

    def _resume(self) -> None:
        for key in list(self._paused):
            if self._channels[key].held_bytes < self._held_bytes_max / 2:
                self._paused.remove(key)
                self._consumer.resume([TopicPartition(*key)])

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self._consumer.close()
