"""The partition reader of a scheduler skips no record, whatever changes; and a scan ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from ftjm.adapters.kafka import partition_reader
from ftjm.adapters.kafka.connection import LOOKS_MAX, BrokerWatch
from ftjm.adapters.kafka.delete_records import LogTrim
from ftjm.adapters.kafka.errors import LogError, LostPosition
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.nudge import Nudge
from ftjm.adapters.kafka.partition_buffer import PartitionBuffer
from ftjm.adapters.kafka.partition_reader import Kind, PartitionReader
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.kafka.scan import Incomplete, Scan
from ftjm.adapters.records import Receipt
from ftjm.runtime.config import Settings
from integration.waiting import until

PARTITIONS = range(4)
RECORDS = 20


@pytest.fixture
def feed(cluster: Settings) -> Iterator[PartitionReader]:
    """A reader with small buffers, so that a partition whose records are not taken is soon paused."""
    at_hand: list[tuple[Kind, int]] = [("commands", 0), ("commands", 1)]
    made = PartitionReader(cluster.kafka_settings("test"), cluster.cluster, held_bytes_max=1_000, at_hand=at_hand)
    yield made
    made.close()


@pytest.fixture
def filled(cluster: Settings) -> None:
    """Fill each partition of `commands` with more records than the reader holds."""
    producer = ConfirmingProducer(cluster.kafka_settings("test"))
    for partition in PARTITIONS:
        for number in range(RECORDS):
            producer.send(cluster.topic("commands"), b"%d" % number + b"x" * 1_000, partition=partition)
    assert producer.close(30) == 0


def follow(feed: PartitionReader, partition: int) -> PartitionBuffer:
    return feed.follow("commands", partition, 0, lambda: None)


def drained(channel: PartitionBuffer) -> list[int]:
    """Take records as they arrive until all were taken. Return their numbers."""
    numbers: list[int] = []

    def all_there() -> bool:
        numbers.extend(int(record.value.partition(b"x")[0]) for record in channel.take(100))
        return len(numbers) >= RECORDS

    until(all_there, "all records")
    return numbers


@pytest.mark.parametrize("partition", PARTITIONS)
def test_a_paused_or_spare_partition_is_read_from_its_beginning(
    feed: PartitionReader, filled: None, partition: int
) -> None:
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    for _ in range(3):
        follow(feed, partition)
        until(lambda: feed._paused, "the partition to be paused")
        feed.drop("commands", partition)
        until(lambda: not feed._buffers, "the partition to be dropped")
    assert drained(follow(feed, partition)) == list(range(RECORDS))


class Leaping:
    """A consumer that begins at a wrong offset in partition 3, `times` times."""

    def __init__(self, real: Consumer, times: int, to: int = RECORDS - 1) -> None:
        self._real = real
        self.times = times
        self._to = to
        self.places: list[TopicPartition] = []

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.places += places
        for place in places:
            if place.partition == 3 and self.times:
                self.times -= 1
                place.offset = self._to
        self._real.incremental_assign(places)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_a_spare_partition_is_never_assigned_at_its_end(feed: PartitionReader, filled: None) -> None:
    """A request for the end may be answered when the partition is being read already, and would move its reader:
    acknowledged commands were skipped for good that way.
    """
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    feed._consumer = spy = Leaping(feed._consumer, 0)  # type: ignore[assignment]
    for partition in (0, 1):
        assert drained(follow(feed, partition)) == list(range(RECORDS))
        feed.drop("commands", partition)
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand again")
    assert len(spy.places) >= 4
    assert [place.offset for place in spy.places if place.offset < 0] == []


def test_a_reader_that_leaps_starts_again_at_its_position(feed: PartitionReader, filled: None) -> None:
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    feed._consumer = Leaping(feed._consumer, 1)  # type: ignore[assignment]
    assert drained(follow(feed, 3)) == list(range(RECORDS))


def test_a_reader_that_has_forgotten_its_brokers_continues_at_its_position(
    feed: PartitionReader, filled: None, cluster: Settings
) -> None:
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    channels = [follow(feed, partition) for partition in PARTITIONS]
    until(lambda: feed._paused, "a partition to be paused")
    for _ in range(3):
        feed._watch.lost = True
        until(lambda: not feed._watch.lost, "the client to connect again")
    assert [drained(channel) for channel in channels] == [list(range(RECORDS))] * len(PARTITIONS)


def test_a_nudge_ends_the_brokers_wait(cluster: Settings, filled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of a partition that comes, and an end of the log that somebody needs, arrive before a wait is over."""
    monkeypatch.setattr(partition_reader, "NUDGED_WAIT_MS", 30_000)
    arrived: list[str | None] = []
    sort = PartitionReader._sort

    def noted(self: PartitionReader, messages: list[Message]) -> None:
        arrived.extend(message.topic() for message in messages if not message.error())
        sort(self, messages)

    monkeypatch.setattr(PartitionReader, "_sort", noted)
    lanes, kafka = cluster.topic("heartbeats"), {**cluster.kafka_settings("test"), "socket.timeout.ms": 100_000}
    producer = ConfirmingProducer(kafka)
    nudge = Nudge(lanes, lambda lane, done: producer.send(lanes, b"", partition=lane, delivered=lambda _: done()))
    at_hand: list[tuple[Kind, int]] = [("commands", 0), ("commands", 1)]
    with closing(PartitionReader(kafka, cluster.cluster, at_hand=at_hand, nudge=nudge)) as reader:
        first = reader.follow("events", 0, 0, lambda: None)
        until(nudged(reader, lambda: lanes in arrived), "a nudge to arrive")
        began = time.monotonic()
        second = reader.follow("commands", 2, 0, lambda: None)
        until(lambda: len(second), "the partition that has come to be read")
        abort(cluster, 0)
        until(nudged(reader, lambda: first.reached == 2), "the end behind a transaction that was aborted")
        assert time.monotonic() - began < 25, "a broker waited for a record"
    assert producer.close(30) == 0


def nudged(reader: PartitionReader, condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, before each look at which the reader's brokers are nudged."""

    def look() -> bool:
        reader.nudge_brokers()
        return condition()

    return look


def abort(cluster: Settings, partition: int) -> None:
    """Write a transaction with one record into `events`, and abort it: its marker is the second record."""
    producer = Producer({**cluster.kafka_settings("test"), "transactional.id": f"{cluster.cluster}.aborts"})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(cluster.topic("events"), b"never read", partition=partition)
    producer.flush(60)
    producer.abort_transaction(60)


def test_a_lane_reader_that_has_forgotten_its_brokers_continues_at_its_position(
    cluster: Settings, filled: None
) -> None:
    reader = LaneReader(cluster.kafka_settings("test"), cluster.topic("commands"), [0], back_ms=60_000)
    seen: list[int | None] = []

    def more() -> bool:
        seen.extend(record.offset for record in reader.read(0.05))
        return len(seen) > before

    for turn in range(3):
        before = len(seen)
        until(more, f"records, {turn}")
        reader._watch.lost = True
        producer = ConfirmingProducer(cluster.kafka_settings("test"))
        producer.send(cluster.topic("commands"), b"one more", partition=0)
        assert producer.close(30) == 0
    reader.close()
    assert seen == list(range(len(seen)))
    assert len(seen) > RECORDS


def test_a_client_that_knows_its_brokers_is_not_lost(cluster: Settings) -> None:
    watch, received = BrokerWatch("test"), []

    def on_statistics(statistics: str) -> None:
        received.append(statistics)
        watch._read_statistics(statistics)

    settings: Any = {
        **watch.settings,
        "statistics.interval.ms": 50,
        "stats_cb": on_statistics,
        **cluster.kafka_settings("test"),
    }
    producer = Producer(settings)

    def enough_received() -> bool:
        producer.poll(0.05)
        return len(received) > 2 * LOOKS_MAX

    until(enough_received, "some statistics")
    assert not watch.lost


def test_a_trimmed_position_is_reported_only_to_its_own_reader(
    cluster: Settings, feed: PartitionReader, filled: None
) -> None:
    """Kafka's answer for a spare partition may arrive when the partition is being read from another offset."""
    LogTrim(cluster.kafka_settings("test"), cluster.topic("commands"), committed=False).delete_before(3, 5)
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    feed._consumer = Leaping(feed._consumer, 1, to=2)  # type: ignore[assignment]
    channel = feed.follow("commands", 3, 7, lambda: None)
    until(lambda: len(channel), "a record")
    assert [record.offset for record in channel.take(1)] == [7]
    trimmed = feed.follow("commands", 3, 2, lambda: None)
    until(lambda: trimmed.fault, "the reader to find out")
    with pytest.raises(LostPosition, match="offset 2"):
        trimmed.take(1)


def test_a_gap_in_the_log_is_skipped(cluster: Settings, feed: PartitionReader) -> None:
    """The gap is an aborted transaction of a user's own producer."""
    producer = Producer({**cluster.kafka_settings("test"), "transactional.id": cluster.cluster})
    producer.init_transactions()
    for act in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(cluster.topic("commands"), b"%d" % RECORDS, partition=3)
        producer.flush()
        act()
    channel = follow(feed, 3)
    until(lambda: len(channel), "the committed records")
    assert [record.offset for record in channel.take(10)] == [2]


def test_a_scan_ends_at_the_end_that_the_log_had_at_its_start(cluster: Settings, filled: None) -> None:
    producer = ConfirmingProducer(cluster.kafka_settings("test"))
    with Scan(cluster.kafka_settings("test"), cluster.topic("commands")) as scan:
        seen = []
        for record in scan.read(dict.fromkeys(PARTITIONS, 0)):
            seen.append((record.partition, record.offset))
            producer.send(cluster.topic("commands"), b"one more for each that is read", partition=record.partition)
            assert producer.flush(30) == 0
    producer.close(30)
    assert sorted(seen) == [(partition, offset) for partition in PARTITIONS for offset in range(RECORDS)]


def test_a_scan_that_has_forgotten_its_brokers_continues_at_its_position(cluster: Settings, filled: None) -> None:
    """Otherwise `logs -f`, which follows the output of jobs, would stop for ever."""
    producer = ConfirmingProducer(cluster.kafka_settings("test"))
    with Scan(cluster.kafka_settings("test"), cluster.topic("commands")) as scan:
        records = scan.read({0: 0}, follow=True)
        seen = [next(records).offset for _ in range(RECORDS)]
        for _ in range(3):
            forgetful = scan._consumer
            scan._watch.lost = True
            producer.send(cluster.topic("commands"), b"one more", partition=0)
            assert producer.flush(30) == 0
            seen.append(next(records).offset)
            assert scan._consumer is not forgetful
    producer.close()
    assert seen == list(range(RECORDS + 3))


def test_a_scan_without_an_answer_asks_again_with_a_new_client(
    cluster: Settings, filled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scan(cluster.kafka_settings("test"), cluster.topic("commands")) as scan:
        scan._consumer.close()
        scan._consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "unused"})  # nothing listens there
        with monkeypatch.context() as impatient:
            impatient.setattr("ftjm.adapters.kafka.offsets.ADMIN_TIMEOUT_SECONDS", 0.0)
            with pytest.raises(LogError):
                scan.bounds(0)
        assert scan.bounds(0) == (0, RECORDS)


def test_a_whole_scan_refuses_a_trimmed_beginning_or_a_missing_end(cluster: Settings, filled: None) -> None:
    """Scans that are not `whole` begin at the present beginning of the log."""
    topic, settings = cluster.topic("commands"), cluster.kafka_settings("test")
    LogTrim(settings, topic, committed=False).delete_before(0, 5)
    with Scan(settings, topic) as scan:
        assert [r.offset for r in scan.read({0: 2})] == list(range(5, RECORDS))
        assert [r.offset for r in scan.read({0: 5}, whole=True)] == list(range(5, RECORDS))
        with pytest.raises(Incomplete, match="begins at 5"):
            next(scan.read({0: 2}, whole=True))
        with pytest.raises(Incomplete, match=f"an end at {RECORDS}"):
            list(scan.read({0: 5}, ends={0: RECORDS + 1}, whole=True))


def test_a_lane_reader_does_not_wait_for_records_that_the_lane_lost(cluster: Settings, filled: None) -> None:
    """A reader that was cut off for longer than the retention of the lanes meets such a loss. It reads what is left: a
    worker with a record there was not silent.
    """
    topic, settings = cluster.topic("commands"), cluster.kafka_settings("test")
    reader, producer = LaneReader(settings, topic, PARTITIONS, back_ms=60_000, whole=True), ConfirmingProducer(settings)
    trim = LogTrim(settings, topic, committed=False)
    trim.delete_before(0, RECORDS - 3)
    trim.delete_before(1, RECORDS)
    seen: set[tuple[int, int]] = set()

    def reached() -> bool:
        marks: dict[int, int] = {}

        def received(receipt: Receipt | LogError) -> None:
            assert isinstance(receipt, Receipt)
            marks[receipt.partition] = receipt.offset + 1

        for partition in PARTITIONS:
            producer.send_for_receipt(topic, b"mark", partition=partition, received=received)
        assert producer.flush(30) == 0
        due = time.monotonic() + 1.0
        while not reader.reached(marks) and time.monotonic() < due:
            seen.update((record.partition, record.offset) for record in reader.read(0.05))
        return reader.reached(marks)

    until(reached, "the marks in all lanes")
    reader.close()
    producer.close()
    begins = {0: RECORDS - 3, 1: RECORDS, 2: 0, 3: 0}
    assert {(p, offset) for p, begin in begins.items() for offset in range(begin, RECORDS + 1)} <= seen
