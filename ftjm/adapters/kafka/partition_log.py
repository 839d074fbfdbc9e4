"""A partition's log on Kafka: fencing, transactions, and reading by position.

Each partition of `events` has one transactional id, `<cluster>-<partition>`. `KafkaLog.fence` calls
`init_transactions` with it: the transaction coordinator then raises the producer epoch of that id and aborts what the
previous owner has left open. From then on every request of the previous owner fails, and `KafkaWriter` raises `Fenced`
there. So at most one process extends a partition's log, whatever the processes believe about each other::

    old owner   commit ok ── commit ok ── begin ─ produce ─ commit → Fenced
    new owner          fence ────────────┘ end() ── fold to end ── commit ok

A batch of events is one transaction: readers of committed records see all of it or nothing. `KafkaWriter.expect` adds a
check that fencing does not give: the first record has to get exactly the offset at which the log was found to end. If
it does not, the transaction is not committed.

What librdkafka does that is worked around here: when the coordinator answers `init_transactions` that it is still busy
aborting, librdkafka waits for a hard-coded 500 ms before it asks again; but it asks at once if it is called again. So
`init_transactions` is called every 10 ms.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from ftjm.adapters.kafka.connection import (
    ADMIN_TIMEOUT_SECONDS,
    PRODUCER,
    error_callback,
    make_consumer,
    next_messages,
)
from ftjm.adapters.kafka.errors import LogError, LogUnanswered, error_of, log_errors
from ftjm.adapters.kafka.messages import event_record, offset_of
from ftjm.adapters.kafka.offsets import bounds
from ftjm.adapters.kafka.truncation import resume_position
from ftjm.core.state.model import LogPosition
from ftjm.engine.ports import CommitUnknown, EventRecord, Fenced

FENCED_CODES = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
    }
)
TRANSACTION_TIMEOUT_MS = 15_000
"""How long the open transaction of a dead owner hides the records behind it, if no new owner fences it."""
FENCE_AGAIN_SECONDS = 0.01
"""How long each call of `init_transactions` waits; fencing takes 40 to 70 ms."""
ANSWER_SECONDS = 0.5
"""How long `answers` waits."""
PATIENCE_SECONDS = 1.0
"""How long a call to Kafka waits before the process checks whether it has to stop."""
FLUSHED_MS = 1_000
"""How long a record would wait for others if nothing flushed it."""


class KafkaWriter:
    """The right to extend one partition's log: a fenced transactional producer.

    After an error it cannot be used any more; the partition has to be fenced again.
    """

    def __init__(self, producer: Producer, topic: str, partition: int, stopping: Callable[[], bool]) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._stopping = stopping
        self._end: int | None = None
        self.seconds = 0.0
        """How long the last transaction took."""
        self.spent = 0.0
        """How long all of them took, seconds."""

    def expect(self, end: int) -> None:
        """Commit nothing unless the next record gets the offset `end`, where the log was found to end.

        A leader that was replaced, and does not know it yet, answers with an old end. A log that has lost its tail, or
        that was created again, is no longer the log that was folded.
        """
        self._end = end

    def commit(self, records: Sequence[tuple[str, bytes]]) -> int:
        """Append records to `events` in one transaction. Waits until Kafka answers or the process stops.

        Args:
            records: key and value of each.

        Returns:
            The offset of the last record.

        Raises:
            Fenced: another owner extends the log; nothing was written.
            CommitUnknown: only reading the log shows whether the transaction was written.
        """
        last = self._transact(self._topic, records, self._end)
        if self._end is not None:
            self._end = last + 2  # the transaction's marker is behind the last record
        return last

    def publish(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> int:
        """Append records to the same partition of another topic, in one transaction. A fenced owner cannot.

        Args:
            topic: a topic that is compacted by key.
            records: key and value of each; None as the value deletes the older records of the key.

        Returns:
            The offset of the last record.

        Raises:
            Fenced: another owner extends the log; nothing was written.
            CommitUnknown: only reading the topic shows whether the transaction was written.
        """
        return self._transact(topic, records)

    def _transact(self, topic: str, records: Sequence[tuple[str, bytes | None]], begin: int | None = None) -> int:
        delivered: list[int] = []
        began = time.monotonic()

        def last(error: KafkaError | None, message: Message) -> None:
            if error is None:
                delivered.append(offset_of(message))

        try:
            self._producer.begin_transaction()
            for key, value in records[:-1]:
                self._produce(topic, key, value, None)
            self._produce(topic, *records[-1], last)
            if begin is not None:
                self._require(begin + len(records) - 1, delivered)
            self._finish()
        except KafkaException as raised:
            error: KafkaError = raised.args[0]
            if error.code() in FENCED_CODES:
                raise Fenced(error.str()) from raised
            raise CommitUnknown(error.str()) from raised
        self.seconds = time.monotonic() - began
        self.spent += self.seconds
        if not delivered:
            raise CommitUnknown("the transaction ended without a delivery report of its last record")
        return delivered[0]

    def _produce(self, topic: str, key: str, value: bytes | None, delivered: Callable[..., None] | None) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key or None, self._partition, on_delivery=delivered)
                return
            except BufferError:
                self._producer.poll(PATIENCE_SECONDS)
                if self._stopping():
                    raise CommitUnknown("stopped while Kafka takes no records") from None

    def _require(self, offset: int, delivered: Sequence[int]) -> None:
        """Wait until the brokers have the records, and check that the last one is at `offset`.

        Errors are raised by the commit that follows. The next owner's fence aborts the records of an open transaction.
        """
        while self._producer.flush(PATIENCE_SECONDS):
            if self._stopping():
                raise CommitUnknown("stopped while Kafka takes no records")
        if delivered and delivered[0] != offset:
            raise CommitUnknown(f"expected a record to be at offset {offset} of the log, but it is at {delivered[0]}")

    def _finish(self) -> None:
        while True:
            try:
                self._producer.commit_transaction(PATIENCE_SECONDS)
                return
            except KafkaException as raised:
                if not raised.args[0].retriable() or self._stopping():
                    raise

    def close(self) -> None:
        """Drop the records that were not sent yet. librdkafka's threads end with the producer object."""
        self._producer.purge()


class KafkaLog:
    """The logs of one cluster's partitions.

    Methods raise LogError where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        cluster: str,
        log_id: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._topic = f"{cluster}.events"
        self._stopping = stopping
        self._lock = threading.Lock()
        self._client: Consumer | None = None
        """A client for requests, one at a time. It stays connected, since a takeover needs the log's end fast."""
        self.log_id = log_id

    @log_errors()
    def fence(self, partition: int) -> KafkaWriter:
        """Take the right to extend the partition's log from its previous owner.

        Raises:
            LogError: Kafka does not answer in time. The previous owner may have been fenced nevertheless.
        """
        deadline = time.monotonic() + ADMIN_TIMEOUT_SECONDS
        producer = self._producer(partition)
        # Connect first: the old owner decides until it is fenced, so the pause between the two stays short.
        producer.list_topics(self._topic, ADMIN_TIMEOUT_SECONDS)
        while True:
            try:
                producer.init_transactions(FENCE_AGAIN_SECONDS)
                return KafkaWriter(producer, self._topic, partition, self._stopping)
            except KafkaException as raised:
                if not raised.args[0].retriable() or self._stopping() or time.monotonic() > deadline:
                    raise

    def _producer(self, partition: int) -> Producer:
        return Producer(
            {
                **PRODUCER,
                "transactional.id": f"{self._cluster}-{partition}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                # librdkafka requires that the records of a transaction fail before the transaction does.
                "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
                # The records of a transaction go in one request, up to `batch.size`: `flush` sends them, whatever
                # this pause is.
                "linger.ms": FLUSHED_MS,
                **error_callback("owner"),
                **self._settings,
            }
        )

    def _consumer(self) -> Consumer:
        return make_consumer(self._settings, error_callback("log"), special={"fetch.wait.max.ms": 10})

    def end(self, partition: int) -> int:
        """The last stable offset: everything before it is committed or aborted for good.

        After a fence it is behind all that was committed before. At other times it may lag, since the coordinator
        acknowledges a commit before it writes the marker.
        """
        client = self._connected()
        try:
            return bounds(client, self._topic, partition, self._lock)[1]
        except LogError:
            self._drop(client)
            raise

    def answers(self, partition: int) -> bool:
        """Whether the partition's leader answers one request within half a second."""
        client, place = self._connected(), TopicPartition(self._topic, partition)
        try:
            with self._lock:
                client.get_watermark_offsets(place, timeout=ANSWER_SECONDS, cached=False)
        except KafkaException:
            self._drop(client)
            return False
        return True

    def _drop(self, client: Consumer) -> None:
        """Drop the client, so that the next request connects again: this client may have forgotten all brokers, and
        since it is not polled, a `BrokerWatch` would not notice."""
        with self._lock:
            if self._client is client:
                self._client = None

    def _connected(self) -> Consumer:
        with self._lock:
            if self._client is None:
                self._client = self._consumer()
            return self._client

    def close(self) -> None:
        """Close the connection for requests."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def begin(self, partition: int) -> int:
        """The first offset that the partition's log still has."""
        consumer = self._consumer()
        try:
            return bounds(consumer, self._topic, partition)[0]
        finally:
            consumer.close()

    def resume_position(self, partition: int, read: LogPosition) -> LogPosition:
        """The position at which an owner that has decided up to `read` continues in `commands[partition]`. See
        `truncation`."""
        return resume_position(self._settings, f"{self._cluster}.commands", partition, read)

    def events(self, partition: int, start: int, end: int | None = None) -> Iterator[EventRecord]:
        """Committed records with start <= offset < end; to the end of the log by default.

        Raises:
            OffsetOutOfRange: `start` is not in the log.
            LogError: Kafka does not answer, or the process stops meanwhile.
        """
        consumer, silent = self._consumer(), 0
        with closing(consumer), log_errors():
            consumer.assign([TopicPartition(self._topic, partition, start)])
            while True:
                if self._stopping():
                    raise LogUnanswered("stopped before the log was read")
                messages = next_messages(consumer, ADMIN_TIMEOUT_SECONDS / 10, 1_000)
                silent = 0 if messages else silent + 1
                if silent >= 10:  # this client may have forgotten all brokers; a second call makes another one
                    raise LogUnanswered("Kafka sends no record of the log, and not its end")
                for message in messages:
                    if (error := message.error()) is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            return
                        raise error_of(error)
                    record = event_record(message)
                    if end is not None and record.offset >= end:
                        return
                    yield record
