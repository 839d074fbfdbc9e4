"""The log on a real Kafka keeps the same contract as the log in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka.errors import LogError, OffsetOutOfRange
from ftjm.adapters.kafka.partition_log import KafkaLog
from ftjm.engine.ports import CommitUnknown, Fenced
from ftjm.runtime.config import Settings
from integration.waiting import until
from tests.contracts.log_contract import Log, LogContract, batch


def log_of(cluster: Settings) -> KafkaLog:
    return KafkaLog({"bootstrap.servers": cluster.bootstrap}, cluster.cluster, "log-id")


def can_be_read(log: KafkaLog) -> bool:
    """Whether the log can be read: the leaders of a new topic's partitions may not know it yet."""
    try:
        log.end(0)
        log.end(1)
    except LogError:
        return False
    return True


class TestKafkaLog(LogContract):
    @pytest.fixture
    def log(self, cluster: Settings) -> Iterator[KafkaLog]:
        log = log_of(cluster)
        until(lambda: can_be_read(log), "the new topic has its leaders")
        yield log
        log.close()

    @pytest.fixture
    def make_log(self, log: KafkaLog) -> Callable[[], Log]:
        return lambda: log

    def test_a_fence_works_across_processes(self, cluster: Settings) -> None:
        """Two instances share only the log."""
        old = log_of(cluster).fence(0)
        old.commit(batch("a"))
        log_of(cluster).fence(0).commit(batch("b"))
        with pytest.raises(Fenced):
            old.commit(batch("zombie"))
        assert self.values(log_of(cluster)) == ["a", "b"]

    def test_an_open_transaction_is_aborted_by_the_fence_and_never_read(self, cluster: Settings, log: KafkaLog) -> None:
        dead = log.fence(0)
        dead.commit(batch("a"))
        dead._producer.begin_transaction()
        dead._produce(f"{cluster.cluster}.events", "", b"open", None)
        dead._producer.flush(10)
        blocked = log.end(0)
        new = log.fence(0)
        assert log.end(0) > blocked, "the open transaction no longer hides what follows it"
        new.commit(batch("b"))
        assert self.values(log) == ["a", "b"]
        with pytest.raises((Fenced, CommitUnknown)):
            dead.commit(batch("zombie"))
        assert self.values(log) == ["a", "b"]

    def test_reading_from_before_the_start_of_a_trimmed_log_fails(self, cluster: Settings, log: KafkaLog) -> None:
        writer = log.fence(0)
        writer.commit(batch("a", "b"))
        last = writer.commit(batch("c"))
        trim(cluster, last)
        assert self.values(log, last) == ["c"]
        with pytest.raises(OffsetOutOfRange):
            list(log.events(0, 0))

    def test_reading_from_beyond_the_end_fails(self, log: KafkaLog) -> None:
        """A log is shorter than a store's position only if it lost its end, so no reader may take that for the end."""
        log.fence(0).commit(batch("a"))
        with pytest.raises(OffsetOutOfRange):
            list(log.events(0, log.end(0) + 100))


def trim(cluster: Settings, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    wanted = TopicPartition(f"{cluster.cluster}.events", 0, before)
    for done in admin.delete_records([wanted]).values():
        done.result(10)
