"""Trimming a log: finding the offset of a point in time, and deleting the records before an offset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka.connection import ADMIN_TIMEOUT_SECONDS, error_callback
from ftjm.adapters.kafka.errors import log_errors
from ftjm.adapters.kafka.scan import Scan


class LogTrim:
    """Trims the partitions of one topic.

    Methods raise LogError where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """

    def __init__(self, settings: Mapping[str, Any], topic: str, *, committed: bool) -> None:
        self.topic = topic
        self._settings = settings
        self._committed = committed

    def range(self, partition: int, before_ms: int) -> tuple[int, int]:
        """The offsets of the records that the log took before a time.

        Returns:
            The first offset that the log still has, and the first whose record the log took at or after `before_ms`.
        """
        with self.scan() as scan:
            return scan.bounds(partition)[0], scan.offset_at(partition, before_ms)

    def scan(self) -> Scan:
        """A scan of the topic, for records that are to be archived before they are deleted."""
        return Scan(self._settings, self.topic, committed=self._committed)

    @log_errors()
    def delete_before(self, partition: int, offset: int) -> None:
        """Delete all records before `offset`. They cannot be restored."""
        conf: dict[str, Any] = {**self._settings, **error_callback("trim")}
        admin = AdminClient(conf)
        asked = admin.delete_records(
            [TopicPartition(self.topic, partition, offset)], request_timeout=ADMIN_TIMEOUT_SECONDS
        )
        for done in asked.values():
            done.result()
