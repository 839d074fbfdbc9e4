"""Trimming a log: where a moment is in it, and deleting what is before an offset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka import ADMIN_TIMEOUT_SECONDS, say_errors
from ftjm.adapters.kafka_scan import Scan


class LogTrim:
    """One topic. Raises KafkaException where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`."""

    def __init__(self, settings: Mapping[str, Any], topic: str, *, committed: bool) -> None:
        self.topic = topic
        self._settings = settings
        self._committed = committed

    def range(self, partition: int, before_ms: int) -> tuple[int, int]:
        """From the first offset that is left to the first whose record the log took at or after `before_ms`."""
        with self.scan() as scan:
            return scan.bounds(partition)[0], scan.offset_at(partition, before_ms)

    def scan(self) -> Scan:
        """A look at what is to go."""
        return Scan(self._settings, self.topic, committed=self._committed)

    def delete_before(self, partition: int, offset: int) -> None:
        """The log then begins at `offset`. For ever."""
        conf: dict[str, Any] = {**self._settings, "error_cb": say_errors("trim")}
        admin = AdminClient(conf)
        asked = admin.delete_records(
            [TopicPartition(self.topic, partition, offset)], request_timeout=ADMIN_TIMEOUT_SECONDS
        )
        for done in asked.values():
            done.result()
