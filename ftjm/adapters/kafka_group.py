"""Membership of the schedulers' consumer group: who is nominated for which partition. Nothing is read here."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from ftjm.adapters.kafka import CONSUMER, say_errors

PROOF_SECONDS_MAX = 2.0


class Membership:
    """One member of the group.

    The callbacks only tell; a restore or a fence in a rebalance callback would make the next rebalance.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        cluster: str,
        session_timeout_ms: int,
        heartbeat_interval_ms: int,
        nominated: Callable[[int], None],
        revoked: Callable[[int, bool], None],
    ) -> None:
        """`revoked` is told the partition, and whether it was lost (the group has given this member up)."""
        self._topic = f"{cluster}.commands"
        self._group = cluster
        self._settings = settings
        self._admin = AdminClient({**settings})
        self._nominated = nominated
        self._revoked = revoked
        self.rebalances = 0
        """How many this member has taken part in."""
        self._client = f"{settings.get('client.id', cluster)}-{uuid4().hex[:12]}"
        self._consumer = Consumer(
            {
                **CONSUMER,
                "group.id": cluster,
                "group.protocol": "classic",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": heartbeat_interval_ms,
                "max.poll.interval.ms": max(300_000, session_timeout_ms),
                "error_cb": say_errors("membership"),
                **settings,
                "client.id": self._client,
            }
        )

    def join(self) -> None:
        """Take part from the next `poll` on."""
        self._consumer.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.rebalances += 1
        for tp in partitions:
            tp.offset = OFFSET_END
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        for tp in partitions:
            self._nominated(tp.partition)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        for tp in partitions:
            self._revoked(tp.partition, False)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        for tp in partitions:
            self._revoked(tp.partition, True)

    def poll(self, timeout_seconds: float) -> None:
        """Serve the group's callbacks."""
        self._consumer.poll(timeout_seconds)

    def prove(self, partition: int) -> bool:
        """Whether the group, asked afresh, gives us `partition`: the local assignment lies after a pause.

        Asked of the coordinator through a client of its own, from any thread, and known there by a client id that
        nobody else has: the library lets one thread at a time into a consumer, so that a commit, or even the
        question for the member id, starves behind the poll loop.
        """
        asked = self._admin.describe_consumer_groups([self._group], request_timeout=PROOF_SECONDS_MAX)
        try:
            group = asked[self._group].result(PROOF_SECONDS_MAX + 1.0)
        except (KafkaException, TimeoutError):
            # One that lost its coordinator under way was seen never to answer again.
            self._admin = AdminClient({**self._settings})
            return False
        return any(
            member.client_id == self._client
            and any(tp.partition == partition for tp in member.assignment.topic_partitions)
            for member in group.members
        )

    def tell(self, positions: Mapping[int, int]) -> None:
        """Commit positions lazily, only so that standard tools show the lag."""
        self._consumer.commit(
            offsets=[TopicPartition(self._topic, p, offset) for p, offset in positions.items()], asynchronous=True
        )

    def leave(self) -> None:
        """Leave the group; its partitions are nominated elsewhere at once."""
        self._consumer.close()
