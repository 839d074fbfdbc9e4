"""Brokers that lose power lose the records that they had only in memory: the tail of `commands`. Decisions about lost
commands stay, and new commands at their offsets are decided as well."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka import topics
from ftjm.adapters.kafka.delete_records import LogTrim
from ftjm.adapters.kafka.errors import LostPosition
from ftjm.adapters.kafka.partition_buffer import PartitionBuffer
from ftjm.adapters.kafka.partition_reader import PartitionReader
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.kafka.truncation import resume_position
from ftjm.client.command_client import Client
from ftjm.core.records import events as e
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import LogPosition
from ftjm.lab.checker import LogEntry, check
from ftjm.local.kafka import EmbeddedKafka
from ftjm.local.ports import free_base_port
from ftjm.runtime.config import Settings
from integration.clusters import cluster_on
from integration.harness import QUEUES, QUICK_SPEC, Cluster
from integration.waiting import until

PARTITION = 2
BATCH_HEADER = struct.Struct(">qi11xi")
"""The beginning of a batch of records in a segment (Kafka's record format, v2). It gives three numbers: the offset of
the first record, how many bytes come after the first 12, and the offset of the last record minus that of the first."""
BEFORE_LENGTH_ENDS = 12
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
    """Kill the broker and start it again without the records of `commands` from these offsets on.

    A batch is lost as a whole: one that holds such an offset takes the records before it along."""
    kafka.kill_broker(0)
    for partition, end in ends.items():
        [segment] = kafka.directory.rglob(f"{settings.topic('commands')}-{partition}/*.log")
        data, at = segment.read_bytes(), 0
        while at < len(data):
            first, length, last_delta = BATCH_HEADER.unpack_from(data, at)
            if first + last_delta >= end:
                break
            at += BEFORE_LENGTH_ENDS + length
        assert at < len(data), f"partition {partition} has no record from offset {end} on"
        with segment.open("r+b") as file:
            file.truncate(at)
    kafka.start_broker(0)


def send(settings: Settings, *texts: str) -> None:
    """Send each text in its own batch."""
    producer = ConfirmingProducer(settings.kafka_settings("test"))
    for text in texts:
        producer.send(settings.topic("commands"), text.encode(), partition=PARTITION)
        assert producer.flush(120) == 0
    producer.close()


def test_a_log_that_lost_its_tail_continues_at_its_new_end(own_kafka: EmbeddedKafka, own_cluster: Settings) -> None:
    settings, topic = own_cluster.kafka_settings("test"), own_cluster.topic("commands")

    def found(offset: int, epoch: int) -> LogPosition:
        return resume_position(settings, topic, PARTITION, LogPosition(offset, epoch))

    send(own_cluster, *map(str, range(10)))
    [old] = {found(offset, 1_000).epoch for offset in (1, 5, 10)}
    assert [found(offset, old).offset for offset in (0, 1, 5, 10)] == [0, 1, 5, 10]

    lose(own_kafka, own_cluster, {PARTITION: 6})
    assert found(10, old) == LogPosition(6, old)
    for count in (1, 3, 20):  # fewer than the gap holds, as many, and many more
        send(own_cluster, *(f"{count}-{number}" for number in range(count)))
        assert found(10, old) == LogPosition(6, old)
    assert [found(offset, old).offset for offset in (0, 5, 6)] == [0, 5, 6]
    new = found(30, 1_000).epoch
    assert new > old
    assert [found(offset, new) for offset in (8, 30)] == [LogPosition(8, new), LogPosition(30, new)]
    assert found(10, -1) == LogPosition(10, -1), "without an epoch nothing is known about the leader that took it"

    LogTrim(settings, topic, committed=False).delete_before(PARTITION, 8)
    assert found(10, old) == LogPosition(8, -1)
    assert found(8, new) == LogPosition(8, -1)
    with pytest.raises(LostPosition, match="begins at 8"):
        found(7, old)


def test_a_recreated_topic_is_no_log_that_lost_its_tail(own_kafka: EmbeddedKafka, own_cluster: Settings) -> None:
    """Its records would be taken for decided. Nor may a leader of the old topic decide where the log ends."""
    settings, topic = own_cluster.kafka_settings("test"), own_cluster.topic("commands")
    send(own_cluster, *map(str, range(10)))
    old = resume_position(settings, topic, PARTITION, LogPosition(10, 1_000))
    admin = AdminClient(settings)
    admin.delete_topics([topic])[topic].result()
    until(lambda: topic not in admin.list_topics(timeout=60).topics, "the topic to be deleted")
    topics.create(own_cluster)
    send(own_cluster, "new")
    with pytest.raises(LostPosition, match="created again"):
        resume_position(settings, topic, PARTITION, old)


def taken(channel: PartitionBuffer, count: int) -> list[str]:
    texts: list[str] = []

    def there() -> bool:
        texts.extend(record.value.decode() for record in channel.take(100))
        return len(texts) >= count

    until(there, f"{count} records")
    return texts


def test_a_reader_learns_that_the_log_lost_records_that_it_has_read(
    own_kafka: EmbeddedKafka, own_cluster: Settings
) -> None:
    """Also if the lost offsets were filled again before it looked: it would go on amid the new records."""
    send(own_cluster, *map(str, range(10)))
    with closing(PartitionReader(own_cluster.kafka_settings("test"), own_cluster.cluster)) as feed:
        reading = feed.follow("commands", PARTITION, 0, lambda: None)
        assert taken(reading, 10) == [*map(str, range(10))]
        epoch = reading.epoch
        assert epoch >= 0
        lose(own_kafka, own_cluster, {PARTITION: 6})
        send(own_cluster, *(f"new-{number}" for number in range(8)))
        until(lambda: reading.fault, "the reader to find out")
        late = feed.follow("commands", PARTITION, 10, lambda: None, epoch)
        until(lambda: late.fault, "the new reader to find out")
        with pytest.raises(LostPosition):
            late.take(1)
        found = feed.follow("commands", PARTITION, 6, lambda: None, epoch)
        assert taken(found, 8) == [f"new-{number}" for number in range(8)]
        assert found.epoch > epoch


def test_a_transaction_marker_is_not_taken_for_a_loss(own_kafka: EmbeddedKafka, own_cluster: Settings) -> None:
    """The marker of a user's own transaction has an offset, but no consumer receives it."""
    producer = Producer({**own_cluster.kafka_settings("test"), "transactional.id": own_cluster.cluster})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(own_cluster.topic("commands"), b"first", partition=PARTITION)
    producer.commit_transaction()
    with closing(PartitionReader(own_cluster.kafka_settings("test"), own_cluster.cluster)) as feed:
        channel = feed.follow("commands", PARTITION, 0, lambda: None)
        assert taken(channel, 1) == ["first"]
        until(lambda: channel.reached == 2, "the marker to be passed")
        own_kafka.kill_broker(0)
        own_kafka.start_broker(0)
        feed._watch.lost = True  # as if it had forgotten the brokers: it starts again at its position
        send(own_cluster, "second")
        assert taken(channel, 1) == ["second"]
        assert channel.fault is None


class Filling:
    """A consumer whose log is filled again during its second assignment."""

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


def test_a_new_reader_learns_of_the_loss_even_if_the_log_is_filled_meanwhile(
    own_kafka: EmbeddedKafka, own_cluster: Settings
) -> None:
    send(own_cluster, *map(str, range(10)))
    epoch = resume_position(
        own_cluster.kafka_settings("test"), own_cluster.topic("commands"), PARTITION, LogPosition(10, 9)
    ).epoch
    lose(own_kafka, own_cluster, {PARTITION: 6})
    with closing(PartitionReader(own_cluster.kafka_settings("test"), own_cluster.cluster)) as feed:
        filling: Any = Filling(feed._consumer, lambda: send(own_cluster, *map(str, range(20))))
        feed._consumer = filling
        late = feed.follow("commands", PARTITION, 10, lambda: None, epoch)
        until(lambda: late.fault, "the new reader to find out")
        assert filling._looks > 2
        assert not len(late), "it does not go on in the middle of the new records"


@pytest.mark.parametrize("owners_are_there", [True, False])
def test_commands_at_the_offsets_of_lost_ones_are_decided(
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
        assert any(scheduler.log_lines("commands_lost") for scheduler in schedulers)


def submit(settings: Settings, name: str, count: int) -> list[tuple[str, str]]:
    """Submit jobs that do nothing to all partitions. Return when all are acknowledged."""
    with Client(settings, listen=False) as client:
        for number in range(count):
            queue = QUEUES[number % len(QUEUES)]
            client.send(SubmitJob(queue=queue, job_id=f"{name}-{number}", spec=QUICK_SPEC))
        client.confirm()
    return [(QUEUES[number % len(QUEUES)], f"{name}-{number}") for number in range(count)]


def history(settings: Settings) -> Iterator[LogEntry]:
    with Scan(settings.kafka_settings("test"), settings.topic("events")) as scan:
        for record in scan.read(dict.fromkeys(range(settings.partitions), 0)):
            event: e.Event | e.BatchClosed = codec.decode(record.value)
            yield LogEntry(record.partition, record.offset, event, record.time_ms)
