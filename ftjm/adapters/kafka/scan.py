"""Reading a topic from any offset, to its end or on and on: for inspection, archives and exports, not for owners."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TypeVar

from confluent_kafka import KafkaError, TopicPartition

from ftjm.adapters.kafka.connection import make_watched_consumer, next_messages
from ftjm.adapters.kafka.errors import LogError, LogUnanswered, OffsetOutOfRange, error_of, log_errors
from ftjm.adapters.kafka.messages import offset_of, record_of
from ftjm.adapters.kafka.offsets import bounds, offsets_at, partition_count
from ftjm.adapters.records import Record
from ftjm.runtime.errors import FtjmError

T = TypeVar("T")
BATCH = 1_000
WAIT_SECONDS = 0.2


class Incomplete(FtjmError):
    """The log does not have all of the records that were to be read."""

    def __init__(self, topic: str, partition: int, offset: int, found: str) -> None:
        todo = "run the same again: the partition's owner may have trimmed it just now, or its leader have changed"
        super().__init__(f"{topic} of partition {partition} from offset {offset}", found, todo)


class Scan:
    """Reads one topic by position. A context manager.

    Methods raise LogError where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`. They may be called again then:
    the scan has connected again.
    """

    def __init__(self, settings: Mapping[str, object], topic: str, *, committed: bool = True) -> None:
        """Connect, and count the topic's partitions.

        Args:
            settings: how to reach Kafka.
            topic: the topic to read.
            committed: whether to leave out the records of open and aborted transactions.

        Raises:
            LogError: Kafka does not answer in time, or has no such topic.
        """
        self.topic = topic
        self._settings = settings
        self._committed = committed
        self._connect()
        try:
            self.partitions = partition_count(self._consumer, topic)
        except BaseException:
            self._consumer.close()
            raise

    def _connect(self) -> None:
        self._consumer, self._watch = make_watched_consumer(self._settings, "reader", committed=self._committed)

    def _reconnect(self) -> None:
        self._consumer.close()
        self._connect()

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that the partition still has, and its end: the last stable offset, if the scan reads only
        committed records."""
        return self._ask(lambda: bounds(self._consumer, self.topic, partition))

    def offset_at(self, partition: int, time_ms: int) -> int:
        """The first offset whose record the log took at or after `time_ms`; the end if there is none."""
        offset = self._ask(lambda: offsets_at(self._consumer, self.topic, {partition: time_ms}))[partition]
        return offset if offset >= 0 else self.bounds(partition)[1]

    def _ask(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except LogError:  # the client may have forgotten all brokers, which only polling would show
            self._reconnect()
            raise

    def read(
        self,
        starts: Mapping[int, int],
        *,
        follow: bool = False,
        ends: Mapping[int, int] | None = None,
        whole: bool = False,
    ) -> Generator[Record, None, None]:
        """Read records of several partitions. Those of one partition come in order.

        Args:
            starts: partition to the offset to begin at. One before the log's beginning is moved there.
            follow: whether to wait for new records forever, instead of returning at the end.
            ends: partition to the offset to end before; by default, where the logs end now. (A log that grows all the
                time has no last record.)
            whole: whether all records between start and end must be there.

        Raises:
            Incomplete: the log lacks some of the records, though `whole` is set.
            LogError: Kafka does not answer.
        """
        bounds = {partition: self.bounds(partition) for partition in starts}
        for p, start in starts.items():
            if whole and bounds[p][0] > start:
                raise Incomplete(self.topic, p, start, f"a log that begins at {bounds[p][0]}")
        # A consumer that starts behind the end never sees the end; one that starts before the beginning gets an error.
        places = {p: min(max(start, bounds[p][0]), bounds[p][1]) for p, start in starts.items()}
        stops = {p: high for p, (_, high) in bounds.items()} if ends is None else ends
        open_partitions = {p for p, start in places.items() if follow or start < stops[p]}
        with log_errors():
            yield from self._read(starts, places, stops, open_partitions, follow=follow, whole=whole)

    def _read(
        self,
        starts: Mapping[int, int],
        places: dict[int, int],
        stops: Mapping[int, int],
        open_partitions: set[int],
        *,
        follow: bool,
        whole: bool,
    ) -> Generator[Record, None, None]:
        self._assign(places, open_partitions)
        while open_partitions:
            if self._watch.lost:
                self._reconnect()
                self._assign(places, open_partitions)
            for message in next_messages(self._consumer, WAIT_SECONDS, BATCH):
                error, partition = message.error(), message.partition() or 0
                if error is None:
                    record = record_of(message)
                    places[partition] = record.offset + 1
                    if follow or record.offset < stops[partition]:
                        yield record
                    if not follow and record.offset + 1 >= stops[partition]:
                        open_partitions.discard(partition)
                elif error.code() == KafkaError._PARTITION_EOF:
                    if whole and offset_of(message) < stops[partition]:  # a new leader may not know yet how far it goes
                        raise Incomplete(self.topic, partition, stops[partition] - 1, f"an end at {message.offset()}")
                    if not follow:  # a transaction's marker may be behind the last record, and is never delivered
                        open_partitions.discard(partition)
                elif whole and isinstance(error_of(error), OffsetOutOfRange):
                    raise Incomplete(self.topic, partition, starts[partition], error.str())
                elif not isinstance(problem := error_of(error), LogUnanswered):
                    raise problem
        self._assign(places, ())  # else the client fetches on, and the broker answers no other request meanwhile

    def _assign(self, places: Mapping[int, int], partitions: Iterable[int]) -> None:
        self._consumer.assign([TopicPartition(self.topic, p, places[p]) for p in partitions])
