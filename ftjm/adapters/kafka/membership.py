"""Membership of the schedulers' consumer group, which nominates a scheduler for each partition.

The group's assignment of partitions of `commands` is used only as the nomination: the partitions are paused, and no
record is read here. What a nominated scheduler has to do before it decides is in the scheduler's room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from ftjm.adapters.kafka.connection import CONSUMER, BrokerWatch
from ftjm.adapters.kafka.errors import log_errors
from ftjm.runtime import logs

log = logs.get(__name__)

PROOF_SECONDS_MAX = 3.0
"""How long `prove` waits for the thread that polls."""


class Membership:
    """One member of the group.

    Rebalance callbacks only pass on which partitions were assigned or revoked. A restore or a fence in such a callback
    would take too long: the group would rebalance again.
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
        """Connect. The group is joined by `join`.

        Args:
            settings: how to reach Kafka.
            cluster: prefix of the topics' names, and the name of the group.
            session_timeout_ms: after this long without a heartbeat, the group gives the member up.
            heartbeat_interval_ms: how often librdkafka sends one.
            nominated: called with each partition that the group assigns.
            revoked: called with each partition that the group takes away, and whether the group has given the member
                up before (the partition was lost).

        Raises:
            LogError: a setting is wrong.
        """
        self._topic = f"{cluster}.commands"
        self._proofs: deque[tuple[TopicPartition, Future[bool]]] = deque()
        self._nominated = nominated
        self._revoked = revoked
        self._throttle = logs.Throttle()
        self.rebalances = 0
        """Number of rebalances that this member has taken part in."""
        self._watch = BrokerWatch("membership")
        with log_errors():
            self._consumer = Consumer(
                {
                    **CONSUMER,
                    "group.id": cluster,
                    "group.protocol": "classic",
                    "partition.assignment.strategy": "cooperative-sticky",
                    "session.timeout.ms": session_timeout_ms,
                    "heartbeat.interval.ms": heartbeat_interval_ms,
                    "max.poll.interval.ms": max(300_000, session_timeout_ms),
                    **self._watch.settings,
                    **settings,
                }
            )

    @property
    def lost(self) -> bool:
        """Whether the client has forgotten all brokers. It does not recover."""
        return self._watch.lost

    def join(self) -> None:
        """Join the group with the next `poll`."""
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

    @log_errors()
    def poll(self, timeout_seconds: float) -> None:
        """Serve the group's callbacks and the calls of `prove`. Always called by the same thread."""
        message = self._consumer.poll(timeout_seconds)
        # No partition is read here, so a message is an error of the group. librdkafka reports it in no other way.
        if message is not None and (error := message.error()) is not None and self._throttle.due():
            log.warning("membership_error", error=error.str(), todo="look at the group's rights; it is tried again")
        while self._proofs:
            position, proof = self._proofs.popleft()
            proof.set_result(self._commits(position))

    def prove(self, partition: int, next_command: int) -> bool:
        """Ask the group's coordinator whether this process is a member of the group's present generation.

        A process that was suspended still believes in its old assignment. So the partition's position is committed: the
        coordinator accepts commits only from members of the present generation. Any thread may call this. The commit is
        done by the thread that polls, for two reasons: librdkafka lets one thread at a time into a consumer, so that
        another thread would starve behind the poll loop; and that thread has just served the group's callbacks. So if
        the proof succeeds, and the partition is still nominated here afterwards, then the present generation nominates
        this process for it.

        Args:
            partition: a partition that is nominated here.
            next_command: offset of the next command to decide.

        Returns:
            False if the commit was refused or not done within 3 s.
        """
        proof: Future[bool] = Future()
        self._proofs.append((TopicPartition(self._topic, partition, next_command), proof))
        try:
            return proof.result(PROOF_SECONDS_MAX)
        except TimeoutError:
            return False

    def _commits(self, position: TopicPartition) -> bool:
        try:
            committed = self._consumer.commit(offsets=[position], asynchronous=False)
        except KafkaException:
            return False
        return all(tp.error is None for tp in committed)

    @log_errors()
    def publish_positions(self, positions: Mapping[int, int]) -> None:
        """Commit positions (partition to the offset of its next command), so that Kafka's own tools show the lag.

        Returns at once. No position is ever read back.
        """
        self._consumer.commit(
            offsets=[TopicPartition(self._topic, p, offset) for p, offset in positions.items()], asynchronous=True
        )

    def leave(self) -> None:
        """Leave the group, which nominates other members for the partitions at once.

        A client that has forgotten all brokers cannot send the request: the group removes it when its session ends.
        """
        if not self.lost:
            self._consumer.close()
