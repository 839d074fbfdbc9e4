"""What can be asked of the brokers without reading: where logs begin and end, and who the brokers are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ftjm.adapters.kafka import say_errors

PATIENCE_SECONDS = 3.0


class Broker(NamedTuple):
    """A broker as the cluster knows it."""

    id: int
    host: str
    port: int
    controller: bool


class Observer:
    """One connection for questions. Every question raises KafkaException where Kafka does not answer in time."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings: dict[str, Any] = {**settings, "error_cb": say_errors("observer")}
        self._admin = AdminClient(self._settings)
        """Whoever asks holds on to it until it has answered: another thread may put a new one here meanwhile."""

    @contextmanager
    def _asking(self) -> Iterator[AdminClient]:
        """The connection for a question, and another one behind a failure: it may come of what the client has cached (a
        leader's old epoch, a topic without leaders), or forgotten."""
        try:
            yield self._admin
        except KafkaException:
            self._admin = AdminClient(self._settings)
            raise

    def topic(self, name: str) -> tuple[str, int]:
        """The id that Kafka gave the topic at its birth, and its number of partitions."""
        with self._asking() as admin:
            asked = admin.describe_topics(TopicCollection([name]), request_timeout=PATIENCE_SECONDS)
            found = asked[name].result()
        return str(found.topic_id), len(found.partitions)

    def ends(self, topic: str, partitions: int, *, committed: bool) -> dict[int, int]:
        """The end offset of each partition; with `committed`, that of the last transaction that is decided."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(topic, partitions, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]

    def begins(self, topic: str, partitions: int) -> dict[int, int]:
        """The first offset that each partition still has."""
        spec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
        return self._offsets(topic, partitions, spec, IsolationLevel.READ_UNCOMMITTED)

    def _offsets(self, topic: str, partitions: int, spec: OffsetSpec, level: IsolationLevel) -> dict[int, int]:
        with self._asking() as admin:
            asked = admin.list_offsets(
                {TopicPartition(topic, p): spec for p in range(partitions)},
                isolation_level=level,
                request_timeout=PATIENCE_SECONDS,
            )
            return {place.partition: int(answer.result().offset) for place, answer in asked.items()}

    def brokers(self) -> list[Broker]:
        """The brokers that are there."""
        with self._asking() as admin:
            found = admin.describe_cluster(request_timeout=PATIENCE_SECONDS).result()
        controller = found.controller.id if found.controller else -1
        return sorted(Broker(node.id, node.host, node.port, node.id == controller) for node in found.nodes)
