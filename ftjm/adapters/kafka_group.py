"""Membership of the schedulers' consumer group: who is nominated for which partition. Nothing is read here."""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from ftjm import logs
from ftjm.adapters.kafka import CONSUMER, Sight

log = logs.get(__name__)

PROOF_SECONDS_MAX = 3.0


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
        self._asked: deque[tuple[TopicPartition, Future[bool]]] = deque()
        self._nominated = nominated
        self._revoked = revoked
        self._seldom = logs.Seldom()
        self.rebalances = 0
        """How many this member has taken part in."""
        self._sight = Sight("membership")
        self._consumer = Consumer(
            {
                **CONSUMER,
                "group.id": cluster,
                "group.protocol": "classic",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": heartbeat_interval_ms,
                "max.poll.interval.ms": max(300_000, session_timeout_ms),
                **self._sight.settings,
                **settings,
            }
        )

    @property
    def lost(self) -> bool:
        """Whether the client has forgotten all brokers, for good."""
        return self._sight.lost

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
        """Serve the group's callbacks, and those who want a proof. Always called by the same thread."""
        message = self._consumer.poll(timeout_seconds)
        # Nothing is read here, so what comes is an error: the group's, and no other way leads to it.
        if message is not None and (error := message.error()) is not None and self._seldom.due():
            log.warning("membership_error", error=error.str(), todo="look at the group's rights; it is tried again")
        while self._asked:
            position, answer = self._asked.popleft()
            answer.set_result(self._commits(position))

    def prove(self, partition: int, next_command: int) -> bool:
        """Whether the group, asked afresh, takes us for a member: the local assignment lies after a pause.

        Proved by committing where the partition is, which the coordinator takes from members of its present
        generation only. Asked from any thread, and done by the one that polls: the library lets one thread at a time
        into a consumer, and behind the poll loop another would starve. That thread has served the callbacks just
        before, so whoever has a proof, and is still nominated then, is nominated by the present generation.
        """
        answer: Future[bool] = Future()
        self._asked.append((TopicPartition(self._topic, partition, next_command), answer))
        try:
            return answer.result(PROOF_SECONDS_MAX)
        except TimeoutError:
            return False

    def _commits(self, position: TopicPartition) -> bool:
        try:
            committed = self._consumer.commit(offsets=[position], asynchronous=False)
        except KafkaException:
            return False
        return all(tp.error is None for tp in committed)

    def tell(self, positions: Mapping[int, int]) -> None:
        """Commit positions lazily, only so that standard tools show the lag."""
        self._consumer.commit(
            offsets=[TopicPartition(self._topic, p, offset) for p, offset in positions.items()], asynchronous=True
        )

    def leave(self) -> None:
        """Leave the group; its partitions are nominated elsewhere at once. Who has lost all brokers is missed later."""
        if not self.lost:
            self._consumer.close()
