"""Brokers that lose power lose what they had in memory: the tail of `commands`. What was decided stays so, and what
comes to lie in its place is decided as well."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ftjm.adapters import codec, topics
from ftjm.adapters.kafka_channel import Channel, LostPosition
from ftjm.adapters.kafka_feed import Feed
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.adapters.kafka_scan import Scan
from ftjm.adapters.kafka_tail import goes_on_at
from ftjm.adapters.kafka_trim import LogTrim
from ftjm.checker import Entry, check
from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.core.commands import SubmitJob
from ftjm.core.model import Place
from ftjm.embedded.kafka import EmbeddedKafka
from ftjm.embedded.ports import free_base_port
from integration.clusters import cluster_on
from integration.harness import QUEUES, QUICK_SPEC, Cluster
from integration.waiting import until

pytestmark = pytest.mark.timeout(300)  # several starts of Kafka on a busy host

PARTITION = 2
BATCH_HEADER = struct.Struct(">qi")
"""Of a batch of records in a segment: its first offset, and how many bytes follow (Kafka's record format, v2)."""
LOST = 3


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """A broker that the test may stop."""
    with EmbeddedKafka(tmp_path / "kafka", 1, free_base_port()) as started:
        yield started


@pytest.fixture
def own_cluster(own_kafka: EmbeddedKafka, tmp_path: Path) -> Settings:
    return cluster_on(own_kafka, tmp_path / "data")


def lose(kafka: EmbeddedKafka, settings: Settings, ends: dict[int, int]) -> None:
    """The broker dies, and comes back without what its partitions of `commands` had from these offsets on."""
    kafka.kill_broker(0)
    for partition, end in ends.items():
        [segment] = kafka.directory.rglob(f"{settings.topic('commands')}-{partition}/*.log")
        data, at = segment.read_bytes(), 0
        while at < len(data) and (header := BATCH_HEADER.unpack_from(data, at))[0] < end:
            at += BATCH_HEADER.size + header[1]
        with segment.open("r+b") as file:
            file.truncate(at)
    kafka.start_broker(0)


def send(settings: Settings, *texts: str) -> None:
    """Each in a batch of its own."""
    outlet = Outlet(settings.kafka_settings("test"))
    for text in texts:
        outlet.send(settings.topic("commands"), text.encode(), partition=PARTITION)
        assert outlet.flush(30) == 0
    outlet.close()


def test_where_a_log_goes_on_that_has_lost_its_tail(own_kafka: EmbeddedKafka, own_cluster: Settings) -> None:
    settings, topic = own_cluster.kafka_settings("test"), own_cluster.topic("commands")

    def found(offset: int, epoch: int) -> Place:
        return goes_on_at(settings, topic, PARTITION, Place(offset, epoch))

    send(own_cluster, *map(str, range(10)))
    [old] = {found(offset, 1_000).epoch for offset in (1, 5, 10)}
    assert [found(offset, old).offset for offset in (0, 1, 5, 10)] == [0, 1, 5, 10]

    lose(own_kafka, own_cluster, {PARTITION: 6})
    assert found(10, old) == Place(6, old)
    for count in (1, 3, 20):  # too few to fill the gap, as many, and many more
        send(own_cluster, *(f"{count}-{number}" for number in range(count)))
        assert found(10, old) == Place(6, old)
    assert [found(offset, old).offset for offset in (0, 5, 6)] == [0, 5, 6]
    new = found(30, 1_000).epoch
    assert new > old
    assert [found(offset, new) for offset in (8, 30)] == [Place(8, new), Place(30, new)]
    assert found(10, -1) == Place(10, -1), "nobody knows by whom it was taken"

    LogTrim(settings, topic, committed=False).delete_before(PARTITION, 8)
    assert found(10, old) == Place(8, -1)
    assert found(8, new) == Place(8, -1)
    with pytest.raises(LostPosition, match="begins at 8"):
        found(7, old)


def test_a_topic_that_was_made_anew_has_lost_no_tail(own_kafka: EmbeddedKafka, own_cluster: Settings) -> None:
    """What it holds would be taken for decided; nor may a leader that was tell where a log ends."""
    settings, topic = own_cluster.kafka_settings("test"), own_cluster.topic("commands")
    send(own_cluster, *map(str, range(10)))
    old = goes_on_at(settings, topic, PARTITION, Place(10, 1_000))
    admin = AdminClient(settings)
    admin.delete_topics([topic])[topic].result()
    until(lambda: topic not in admin.list_topics(timeout=10).topics, "it to be gone")
    topics.create(own_cluster)
    send(own_cluster, "new")
    with pytest.raises(LostPosition, match="made anew"):
        goes_on_at(settings, topic, PARTITION, old)


def taken(channel: Channel, count: int) -> list[str]:
    texts: list[str] = []

    def there() -> bool:
        texts.extend((message.value() or b"").decode() for message in channel.take(100))
        return len(texts) >= count

    until(there, f"{count} records")
    return texts


def test_a_reader_is_told_that_the_log_has_lost_what_it_has_read(
    own_kafka: EmbeddedKafka, own_cluster: Settings
) -> None:
    """Also where that was filled again before it looked: it would go on in the middle of it."""
    send(own_cluster, *map(str, range(10)))
    with closing(Feed(own_cluster.kafka_settings("test"), own_cluster.cluster)) as feed:
        reading = feed.follow("commands", PARTITION, 0, lambda: None)
        assert taken(reading, 10) == [*map(str, range(10))]
        epoch = reading.epoch
        assert epoch >= 0
        lose(own_kafka, own_cluster, {PARTITION: 6})
        send(own_cluster, *(f"new-{number}" for number in range(8)))
        until(lambda: reading.fault, "who reads to be told")
        late = feed.follow("commands", PARTITION, 10, lambda: None, epoch)
        until(lambda: late.fault, "who begins to be told")
        with pytest.raises(LostPosition):
            late.take(1)
        found = feed.follow("commands", PARTITION, 6, lambda: None, epoch)
        assert taken(found, 8) == [f"new-{number}" for number in range(8)]
        assert found.epoch > epoch


def test_a_marker_is_no_proof_that_the_log_has_lost_something(own_kafka: EmbeddedKafka, own_cluster: Settings) -> None:
    """Of a user's own transaction: it has an offset, and nobody is given it."""
    producer = Producer({**own_cluster.kafka_settings("test"), "transactional.id": own_cluster.cluster})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(own_cluster.topic("commands"), b"first", partition=PARTITION)
    producer.commit_transaction()
    with closing(Feed(own_cluster.kafka_settings("test"), own_cluster.cluster)) as feed:
        channel = feed.follow("commands", PARTITION, 0, lambda: None)
        assert taken(channel, 1) == ["first"]
        until(lambda: channel.reached == 2, "the marker to be passed")
        own_kafka.kill_broker(0)
        own_kafka.start_broker(0)
        feed._sight.lost = True  # as if it had forgotten the brokers: it begins anew where it was
        send(own_cluster, "second")
        assert taken(channel, 1) == ["second"]
        assert channel.fault is None


class Filling:
    """A consumer of a log that is filled again while it looks for the second time."""

    def __init__(self, real: Consumer, fill: Callable[[], None]) -> None:
        self._real = real
        self._fill = fill
        self._looks = 0

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self._looks += any(place.partition == PARTITION for place in places)
        if self._looks == 2:
            self._looks += 1
            self._fill()
        self._real.incremental_assign(places)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_who_begins_to_read_is_told_also_where_the_log_is_filled_again_meanwhile(
    own_kafka: EmbeddedKafka, own_cluster: Settings
) -> None:
    send(own_cluster, *map(str, range(10)))
    epoch = goes_on_at(own_cluster.kafka_settings("test"), own_cluster.topic("commands"), PARTITION, Place(10, 9)).epoch
    lose(own_kafka, own_cluster, {PARTITION: 6})
    with closing(Feed(own_cluster.kafka_settings("test"), own_cluster.cluster)) as feed:
        filling: Any = Filling(feed._consumer, lambda: send(own_cluster, *map(str, range(20))))
        feed._consumer = filling
        late = feed.follow("commands", PARTITION, 10, lambda: None, epoch)
        until(lambda: late.fault, "who begins to be told")
        assert filling._looks > 2
        assert not len(late), "it is not in the middle of what is new"


@pytest.mark.parametrize("owners_are_there", [True, False])
def test_commands_in_the_place_of_others_that_were_lost_are_decided(
    own_kafka: EmbeddedKafka, own_cluster: Settings, tmp_path: Path, owners_are_there: bool
) -> None:
    with Cluster(own_cluster, tmp_path) as cluster:
        schedulers = [cluster.scheduler("a"), cluster.scheduler("b")]
        worker = cluster.worker()
        jobs = submit(own_cluster, "before", 60)
        log = cluster.until_done(jobs)
        worker.kill()
        if not owners_are_there:
            for scheduler in schedulers:
                scheduler.kill()
        ends = {p: batches[-1].closed.next_command for p, batches in log.batches.items()}
        lose(own_kafka, own_cluster, {p: end - LOST for p, end in ends.items()})
        jobs += submit(own_cluster, "in-their-place", 60)
        for process in (worker, *([] if owners_are_there else schedulers)):
            process.start()
        jobs += submit(own_cluster, "after", 20)
        cluster.until_done(jobs)
        report = check(history(own_cluster), jobs)
        assert report.passed, report.violations
        assert report.jobs == report.succeeded == len(jobs)
        assert any(scheduler.said("commands_lost") for scheduler in schedulers)


def submit(settings: Settings, name: str, count: int) -> list[tuple[str, str]]:
    """Jobs that do nothing, in all partitions; once all are acknowledged."""
    with Client(settings, listen=False) as client:
        for number in range(count):
            queue = QUEUES[number % len(QUEUES)]
            client.send(SubmitJob(queue=queue, job_id=f"{name}-{number}", spec=QUICK_SPEC))
        client.confirm()
    return [(QUEUES[number % len(QUEUES)], f"{name}-{number}") for number in range(count)]


def history(settings: Settings) -> Iterator[Entry]:
    with Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
            event: e.Event | e.BatchClosed = codec.decode(record.value)
            yield Entry(record.partition, record.offset, event, record.time_ms)
