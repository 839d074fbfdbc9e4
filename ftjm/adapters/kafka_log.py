"""A partition's log on Kafka: fencing, transactions, and reading by position."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from ftjm.adapters.kafka import (
    ADMIN_TIMEOUT_SECONDS,
    CONSUMER,
    PRODUCER,
    Headers,
    arrived,
    bounds,
    epoch_of,
    offset_of,
    say_errors,
)
from ftjm.adapters.kafka_tail import goes_on_at
from ftjm.core.model import Place
from ftjm.engine.ports import CommandRecord, CommitUnknown, EventRecord, Fenced, Parcel

FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
    }
)
TRANSACTION_TIMEOUT_MS = 15_000
"""How long a dead owner's open transaction could hide what follows it, were it never fenced."""
ASK_SECONDS = 0.01
"""Between two askings for the right to write, which takes 40 to 70 ms."""
ASK_ONCE_SECONDS = 0.5
PATIENCE_SECONDS = 1.0
"""Between looks at whether the process is stopping, while Kafka does not answer."""

REPLY_TO = re.compile(r"(\d{1,4})/[A-Za-z0-9][A-Za-z0-9._-]{0,127}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def event_record(message: Message) -> EventRecord:
    """A committed event as it came."""
    return EventRecord(offset_of(message), message.value() or b"")


def command_record(message: Message, lanes: int) -> CommandRecord:
    """A command as it came. Headers that make no sense are taken as absent: the sender then gets no answer."""
    headers: dict[str, Any] = dict(message.headers() or ())
    reply_to = (headers.get("ftjm-reply-to") or b"").decode("ascii", "replace")
    found = REPLY_TO.match(reply_to)
    source = _number(headers.get("ftjm-source"))
    return CommandRecord(
        offset_of(message),
        message.value() or b"",
        reply_to=reply_to if found and int(found[1]) < lanes else "",
        source=-1 if source is None else source,
        number=_number(headers.get("ftjm-number")) or 0,
        confirmed=_number(headers.get("ftjm-confirmed")) or 0,
        epoch=epoch_of(message),
    )


def _number(header: bytes | None) -> int | None:
    return int(header) if header is not None and header.isdigit() and len(header) < 18 else None


def forward_headers(parcel: Parcel) -> Headers:
    """The headers of a command that one partition sends to another."""
    numbers = {"source": parcel.source, "number": parcel.number, "confirmed": parcel.confirmed}
    headers = [(f"ftjm-{name}", b"%d" % number) for name, number in numbers.items()]
    if parcel.reply_to:
        headers.append(("ftjm-reply-to", parcel.reply_to.encode()))
    return headers


class KafkaWriter:
    """One fenced transactional producer. After an error that it raised it is of no use: take over again."""

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
        """The log was found to end at `end`: unless the next record comes to be just there, none is committed.

        A leader that was, and does not know it yet, answers with an end that is long past; and what has lost its tail,
        or was made anew, is no longer the log that was folded.
        """
        self._end = end

    def commit(self, records: Sequence[tuple[str, bytes]]) -> int:
        """One transaction. Waits for Kafka as long as it takes, or until the process stops."""
        last = self._transact(self._topic, records, self._end)
        if self._end is not None:
            self._end = last + 2  # behind it is the transaction's marker
        return last

    def publish(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> int:
        """The same to the partition of another topic, where None deletes what has the key: whoever was fenced cannot.

        Returns: the offset of the last record. Raises as `commit`.
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
            if error.code() in FENCED:
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
        """Wait until the brokers have the records, and see whether the last is at `offset`. (A failure is told by the
        commit.) What is not committed, whoever fences next aborts."""
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
        """Drop what was not committed. The library's threads end with the object."""
        self._producer.purge()


class KafkaLog:
    """The logs of one cluster's partitions.

    Raises KafkaException where Kafka does not answer within `ADMIN_TIMEOUT_SECONDS`.
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
        self._asking = threading.Lock()
        self._asker: Consumer | None = None
        """Connected already when the end of a log has to be known fast; one question at a time."""
        self.log_id = log_id

    def fence(self, partition: int) -> KafkaWriter:
        """Take the right to extend the partition from whoever has it.

        While the coordinator aborts what the old owner left open, `init_transactions` is told to try again, and
        librdkafka does so only after a hard-coded 500 ms; or at once, if it is called again. The producer meets the
        brokers before that: until it fences, the old owner goes on deciding.
        """
        deadline = time.monotonic() + ADMIN_TIMEOUT_SECONDS
        producer = self._producer(partition)
        producer.list_topics(self._topic, ADMIN_TIMEOUT_SECONDS)
        while True:
            try:
                producer.init_transactions(ASK_SECONDS)
                return KafkaWriter(producer, self._topic, partition, self._stopping)
            except KafkaException as raised:
                if not raised.args[0].retriable() or self._stopping() or time.monotonic() > deadline:
                    raise

    def _producer(self, partition: int) -> Producer:
        return Producer(
            {
                **PRODUCER,
                "linger.ms": 0,
                "transactional.id": f"{self._cluster}-{partition}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                # A transaction's records must fail before the transaction does.
                "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "error_cb": say_errors("owner"),
                **self._settings,
            }
        )

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **CONSUMER,
                "group.id": "unused",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
                "error_cb": say_errors("log"),
                **self._settings,
            }
        )

    def end(self, partition: int) -> int:
        """The last stable offset: everything before it is committed or aborted for good.

        After a fence it is behind all that was committed before; else it may lag, since a commit is answered before its
        marker is written.
        """
        asker = self._at_hand()
        try:
            return bounds(asker, self._topic, partition, self._asking)[1]
        except KafkaException:
            self._drop(asker)
            raise

    def answers(self, partition: int) -> bool:
        """Whether the partition's leader answers a question, asked once."""
        asker, place = self._at_hand(), TopicPartition(self._topic, partition)
        try:
            with self._asking:
                asker.get_watermark_offsets(place, timeout=ASK_ONCE_SECONDS, cached=False)
        except KafkaException:
            self._drop(asker)
            return False
        return True

    def _drop(self, asker: Consumer) -> None:
        """It may have forgotten all brokers, and nobody polls it, who would see that."""
        with self._asking:
            if self._asker is asker:
                self._asker = None

    def _at_hand(self) -> Consumer:
        with self._asking:
            if self._asker is None:
                self._asker = self._consumer()
            return self._asker

    def close(self) -> None:
        with self._asking:
            if self._asker is not None:
                self._asker.close()
                self._asker = None

    def begin(self, partition: int) -> int:
        """The first offset that was not trimmed."""
        consumer = self._consumer()
        try:
            return bounds(consumer, self._topic, partition)[0]
        finally:
            consumer.close()

    def goes_on_at(self, partition: int, read: Place) -> Place:
        """Where `commands[partition]` goes on for who has decided up to `read`. Raises as `kafka_tail` does."""
        return goes_on_at(self._settings, f"{self._cluster}.commands", partition, read)

    def events(self, partition: int, start: int, end: int | None = None) -> Iterator[EventRecord]:
        """Committed records with start <= offset < end; to the end of the log by default.

        Raises KafkaException if `start` is not in the log (codes `LOST`), or if the process stops meanwhile.
        """
        consumer, silent = self._consumer(), 0
        try:
            consumer.assign([TopicPartition(self._topic, partition, start)])
            while True:
                if self._stopping():
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "stopped before the log was read"))
                messages = arrived(consumer, ADMIN_TIMEOUT_SECONDS / 10, 1_000)
                silent = 0 if messages else silent + 1
                if silent >= 10:  # perhaps it has forgotten all brokers: who asks again does so by another client
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "nothing came of the log, not even its end"))
                for message in messages:
                    if (error := message.error()) is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            return
                        raise KafkaException(error)
                    record = event_record(message)
                    if end is not None and record.offset >= end:
                        return
                    yield record
        finally:
            consumer.close()
