"""Reading a topic from where one likes to its end, or on and on: for people who look, not for owners."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ftjm.adapters.kafka import (
    AWAY,
    CONSUMER,
    LOST,
    Sight,
    arrived,
    bounds,
    offset_of,
    offsets_at,
    partition_count,
)
from ftjm.errors import FtjmError

T = TypeVar("T")
BATCH = 1_000
WAIT_SECONDS = 0.2


class Record(NamedTuple):
    """A record as the log has it."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    time_ms: int
    """When the log took it."""
    headers: list[tuple[str, bytes]]


class Incomplete(FtjmError):
    """The log has not, or not any more, all of what was to be read."""

    def __init__(self, topic: str, partition: int, offset: int, found: str) -> None:
        todo = "run the same again: its owner may just have trimmed it, or a broker taken it over"
        super().__init__(f"{topic} of partition {partition} from offset {offset}", found, todo)


class Scan:
    """A look at one topic. A context manager.

    Raises KafkaException where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`, or has no such topic. It may be
    asked again then: it has connected anew.
    """

    def __init__(self, settings: Mapping[str, object], topic: str, *, committed: bool = True) -> None:
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
        self._sight = Sight("reader")
        self._consumer = Consumer(
            {
                **CONSUMER,
                "group.id": "unused",
                "isolation.level": "read_committed" if self._committed else "read_uncommitted",
                "enable.partition.eof": True,
                **self._sight.settings,
                **self._settings,
            }
        )

    def _connect_anew(self) -> None:
        self._consumer.close()
        self._connect()

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that the partition still has, and its end (of committed records, if only those are read)."""
        return self._asked(lambda: bounds(self._consumer, self.topic, partition))

    def offset_at(self, partition: int, time_ms: int) -> int:
        """The first offset whose record the log took at or after `time_ms`; the end if there is none."""
        offset = self._asked(lambda: offsets_at(self._consumer, self.topic, {partition: time_ms}))[partition]
        return offset if offset >= 0 else self.bounds(partition)[1]

    def _asked(self, question: Callable[[], T]) -> T:
        try:
            return question()
        except KafkaException:  # it may have forgotten all brokers, and nobody polls it, who would see that
            self._connect_anew()
            raise

    def read(
        self,
        starts: Mapping[int, int],
        *,
        follow: bool = False,
        ends: Mapping[int, int] | None = None,
        whole: bool = False,
    ) -> Generator[Record, None, None]:
        """Records from `starts` (partition to offset) to before `ends`, or for ever; by default to the ends that there
        are when it begins: where records come all the time, nobody would reach the last of them.

        Records of one partition come in order, those of several as they arrive. A start before the log's beginning is
        moved there, unless the `whole` is wanted: that raises Incomplete where any of it is not there.
        """
        bounds = {partition: self.bounds(partition) for partition in starts}
        for p, start in starts.items():
            if whole and bounds[p][0] > start:
                raise Incomplete(self.topic, p, start, f"a log that begins at {bounds[p][0]}")
        # A start behind the end would never see it, and one before the log's beginning would be an error.
        places = {p: min(max(start, bounds[p][0]), bounds[p][1]) for p, start in starts.items()}
        stops = {p: high for p, (_, high) in bounds.items()} if ends is None else ends
        open_partitions = {p for p, start in places.items() if follow or start < stops[p]}
        self._assign(places, open_partitions)
        while open_partitions:
            if self._sight.lost:
                self._connect_anew()
                self._assign(places, open_partitions)
            for message in arrived(self._consumer, WAIT_SECONDS, BATCH):
                error, partition = message.error(), message.partition() or 0
                if error is None:
                    offset = offset_of(message)
                    places[partition] = offset + 1
                    if follow or offset < stops[partition]:
                        yield _record(message)
                    if not follow and offset + 1 >= stops[partition]:
                        open_partitions.discard(partition)
                elif error.code() == KafkaError._PARTITION_EOF:
                    if whole and offset_of(message) < stops[partition]:  # a new leader may not know yet how far it goes
                        raise Incomplete(self.topic, partition, stops[partition] - 1, f"an end at {message.offset()}")
                    if not follow:  # behind the last record may be a transaction's marker, which nobody is given
                        open_partitions.discard(partition)
                elif whole and error.code() in LOST:
                    raise Incomplete(self.topic, partition, starts[partition], error.str())
                elif error.code() not in AWAY:
                    raise KafkaException(error)

    def _assign(self, places: Mapping[int, int], partitions: Iterable[int]) -> None:
        self._consumer.assign([TopicPartition(self.topic, p, places[p]) for p in partitions])


def _record(message: Message) -> Record:
    headers: Any = message.headers() or ()  # the library's own annotation fits producers only
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.key() or b"",
        message.value() or b"",
        message.timestamp()[1],
        [(name, value or b"") for name, value in headers],
    )
