"""The feed of a scheduler leaves nothing unread, whatever changes; and a scan comes to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from ftjm.adapters.kafka import LOOKS_MAX, Sight, offset_of
from ftjm.adapters.kafka_channel import Channel, LostPosition
from ftjm.adapters.kafka_feed import Feed, Kind
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.adapters.kafka_scan import Incomplete, Scan
from ftjm.adapters.kafka_trim import LogTrim
from ftjm.config import Settings
from integration.waiting import until

PARTITIONS = range(4)
RECORDS = 20


@pytest.fixture
def feed(cluster: Settings) -> Iterator[Feed]:
    """One that holds little, so that whoever takes nothing is soon paused."""
    at_hand: list[tuple[Kind, int]] = [("commands", 0), ("commands", 1)]
    made = Feed(cluster.kafka_settings("test"), cluster.cluster, held_bytes_max=1_000, at_hand=at_hand)
    yield made
    made.close()


@pytest.fixture
def filled(cluster: Settings) -> None:
    """Records in each partition of `commands`, more than the feed holds."""
    outlet = Outlet(cluster.kafka_settings("test"))
    for partition in PARTITIONS:
        for number in range(RECORDS):
            outlet.send(cluster.topic("commands"), b"%d" % number + b"x" * 1_000, partition=partition)
    assert outlet.close(30) == 0


def follow(feed: Feed, partition: int) -> Channel:
    return feed.follow("commands", partition, 0, lambda: None)


def drained(channel: Channel) -> list[int]:
    """All records, taken as they come."""
    numbers: list[int] = []

    def all_there() -> bool:
        numbers.extend(int((m.value() or b"").partition(b"x")[0]) for m in channel.take(100))
        return len(numbers) >= RECORDS

    until(all_there, "all records")
    return numbers


@pytest.mark.parametrize("partition", PARTITIONS)
def test_what_was_paused_or_kept_at_hand_is_read_from_its_beginning(feed: Feed, filled: None, partition: int) -> None:
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    for _ in range(3):
        follow(feed, partition)
        until(lambda: feed._paused, "the partition to be paused")
        feed.drop("commands", partition)
        until(lambda: not feed._channels, "it to be dropped")
    assert drained(follow(feed, partition)) == list(range(RECORDS))


class Leaping:
    """A consumer that does as it is told, but begins elsewhere in partition 3, so often."""

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


def test_what_is_kept_at_hand_is_asked_for_no_end(feed: Feed, filled: None) -> None:
    """The answer may come when the partition is being read, and moves its reader: commands were passed over by that,
    acknowledged ones, for good."""
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    feed._consumer = spy = Leaping(feed._consumer, 0)  # type: ignore[assignment]
    for partition in (0, 1):
        assert drained(follow(feed, partition)) == list(range(RECORDS))
        feed.drop("commands", partition)
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand again")
    assert len(spy.places) >= 4
    assert [place.offset for place in spy.places if place.offset < 0] == []


def test_a_reader_that_leaps_is_told_to_begin_anew(feed: Feed, filled: None) -> None:
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    feed._consumer = Leaping(feed._consumer, 1)  # type: ignore[assignment]
    assert drained(follow(feed, 3)) == list(range(RECORDS))


def test_a_feed_that_has_forgotten_its_brokers_goes_on_where_it_was(
    feed: Feed, filled: None, cluster: Settings
) -> None:
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    channels = [follow(feed, partition) for partition in PARTITIONS]
    until(lambda: feed._paused, "a partition to be paused")
    for _ in range(3):
        feed._sight.lost = True
        until(lambda: not feed._sight.lost, "it to connect anew")
    assert [drained(channel) for channel in channels] == [list(range(RECORDS))] * len(PARTITIONS)


def test_a_lane_is_read_on_by_who_has_forgotten_the_brokers(cluster: Settings, filled: None) -> None:
    reader = LaneReader(cluster.kafka_settings("test"), cluster.topic("commands"), [0], back_ms=60_000)
    seen: list[int | None] = []

    def more() -> bool:
        seen.extend(m.offset() for m in reader.read(0.05))
        return len(seen) > before

    for turn in range(3):
        before = len(seen)
        until(more, f"records, {turn}")
        reader._sight.lost = True
        outlet = Outlet(cluster.kafka_settings("test"))
        outlet.send(cluster.topic("commands"), b"one more", partition=0)
        assert outlet.close(30) == 0
    reader.close()
    assert seen == list(range(len(seen)))
    assert len(seen) > RECORDS


def test_a_client_in_sight_of_its_brokers_says_so(cluster: Settings) -> None:
    sight, told = Sight("test"), []

    def look(statistics: str) -> None:
        told.append(statistics)
        sight._look(statistics)

    settings: Any = {**sight.settings, "statistics.interval.ms": 50, "stats_cb": look, **cluster.kafka_settings("test")}
    producer = Producer(settings)

    def told_enough() -> bool:
        producer.poll(0.05)
        return len(told) > 2 * LOOKS_MAX

    until(told_enough, "some statistics")
    assert not sight.lost


def test_a_place_that_was_trimmed_is_another_s_until_it_is_asked_for_again(
    cluster: Settings, feed: Feed, filled: None
) -> None:
    """Kafka's word about what was kept at hand may come when the partition is read."""
    LogTrim(cluster.kafka_settings("test"), cluster.topic("commands"), committed=False).delete_before(3, 5)
    until(lambda: len(feed._spare) == 2, "two partitions to be at hand")
    feed._consumer = Leaping(feed._consumer, 1, to=2)  # type: ignore[assignment]
    channel = feed.follow("commands", 3, 7, lambda: None)
    until(lambda: len(channel), "a record")
    assert [message.offset() for message in channel.take(1)] == [7]
    trimmed = feed.follow("commands", 3, 2, lambda: None)
    until(lambda: trimmed.fault, "it to be found out")
    with pytest.raises(LostPosition, match="offset 2"):
        trimmed.take(1)


def test_a_gap_in_the_log_itself_is_passed(cluster: Settings, feed: Feed) -> None:
    """A transaction that was broken off, by a producer of a user's own."""
    producer = Producer({**cluster.kafka_settings("test"), "transactional.id": cluster.cluster})
    producer.init_transactions()
    for act in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(cluster.topic("commands"), b"%d" % RECORDS, partition=3)
        producer.flush()
        act()
    channel = follow(feed, 3)
    until(lambda: len(channel), "what was committed")
    assert [m.offset() for m in channel.take(10)] == [2]


def test_a_scan_ends_where_the_log_did_though_records_keep_coming(cluster: Settings, filled: None) -> None:
    outlet = Outlet(cluster.kafka_settings("test"))
    with Scan(cluster.kafka_settings("test"), cluster.topic("commands")) as scan:
        seen = []
        for record in scan.read(dict.fromkeys(PARTITIONS, 0)):
            seen.append((record.partition, record.offset))
            outlet.send(cluster.topic("commands"), b"one more for each that is read", partition=record.partition)
            assert outlet.flush(30) == 0
    outlet.close(30)
    assert sorted(seen) == [(partition, offset) for partition in PARTITIONS for offset in range(RECORDS)]


def test_a_scan_that_has_forgotten_its_brokers_goes_on_where_it_was(cluster: Settings, filled: None) -> None:
    """The output of jobs that is followed (`logs -f`) would stand still for ever."""
    outlet = Outlet(cluster.kafka_settings("test"))
    with Scan(cluster.kafka_settings("test"), cluster.topic("commands")) as scan:
        records = scan.read({0: 0}, follow=True)
        seen = [next(records).offset for _ in range(RECORDS)]
        for _ in range(3):
            forgetful = scan._consumer
            scan._sight.lost = True
            outlet.send(cluster.topic("commands"), b"one more", partition=0)
            assert outlet.flush(30) == 0
            seen.append(next(records).offset)
            assert scan._consumer is not forgetful
    outlet.close()
    assert seen == list(range(RECORDS + 3))


def test_a_scan_that_was_not_answered_asks_with_another_client(
    cluster: Settings, filled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scan(cluster.kafka_settings("test"), cluster.topic("commands")) as scan:
        scan._consumer.close()
        scan._consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "unused"})  # nobody is there
        with monkeypatch.context() as impatient:
            impatient.setattr("ftjm.adapters.kafka.ADMIN_TIMEOUT_SECONDS", 0.0)
            with pytest.raises(KafkaException):
                scan.bounds(0)
        assert scan.bounds(0) == (0, RECORDS)


def test_a_scan_of_the_whole_passes_over_nothing(cluster: Settings, filled: None) -> None:
    """Others begin where the log does by then."""
    topic, settings = cluster.topic("commands"), cluster.kafka_settings("test")
    LogTrim(settings, topic, committed=False).delete_before(0, 5)
    with Scan(settings, topic) as scan:
        assert [r.offset for r in scan.read({0: 2})] == list(range(5, RECORDS))
        assert [r.offset for r in scan.read({0: 5}, whole=True)] == list(range(5, RECORDS))
        with pytest.raises(Incomplete, match="begins at 5"):
            next(scan.read({0: 2}, whole=True))
        with pytest.raises(Incomplete, match=f"an end at {RECORDS}"):
            list(scan.read({0: 5}, ends={0: RECORDS + 1}, whole=True))


def test_what_a_lane_lost_before_it_was_read_is_not_waited_for(cluster: Settings, filled: None) -> None:
    """As for who was cut off for longer than the lanes keep what is in them. What is left of them is read, as who has
    said something there was not silent."""
    topic, settings = cluster.topic("commands"), cluster.kafka_settings("test")
    reader, outlet = LaneReader(settings, topic, PARTITIONS, back_ms=60_000, whole=True), Outlet(settings)
    trim = LogTrim(settings, topic, committed=False)
    trim.delete_before(0, RECORDS - 3)
    trim.delete_before(1, RECORDS)
    seen: set[tuple[int, int]] = set()

    def reached() -> bool:
        marks: dict[int, int] = {}
        for partition in PARTITIONS:
            outlet.send(
                topic,
                b"mark",
                partition=partition,
                delivered=lambda _, message: marks.update({message.partition() or 0: offset_of(message) + 1}),
            )
        assert outlet.flush(30) == 0
        due = time.monotonic() + 1.0
        while not reader.reached(marks) and time.monotonic() < due:
            seen.update((message.partition() or 0, offset_of(message)) for message in reader.read(0.05))
        return reader.reached(marks)

    until(reached, "the marks in all lanes")
    reader.close()
    outlet.close()
    begins = {0: RECORDS - 3, 1: RECORDS, 2: 0, 3: 0}
    assert {(p, offset) for p, begin in begins.items() for offset in range(begin, RECORDS + 1)} <= seen
