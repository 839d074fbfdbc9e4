"""A producer that reports each record's delivery, for records that need no transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ftjm.adapters.kafka.connection import ADMIN_TIMEOUT_SECONDS, PRODUCER, BrokerWatch
from ftjm.adapters.kafka.errors import (
    TOPIC_UNKNOWN_CODES,
    BrokersForgotten,
    ClientBroken,
    LogError,
    error_of,
    log_errors,
)
from ftjm.adapters.kafka.messages import Headers, receipt_of
from ftjm.adapters.kafka.offsets import partition_count
from ftjm.adapters.records import Receipt

POLL_SECONDS = 0.1
IDLE_SECONDS = 1.0
"""Pause between two polls while no record is under way."""

Delivered = Callable[[LogError | None], None]
"""Called with None once the log has the record, or with the reason why the log will not have it."""
Received = Callable[[Receipt | LogError], None]
"""Called with the record's place in the log once the log has it, or with the reason why the log will not have it."""


class ConfirmingProducer:
    """An idempotent producer with a thread that collects its delivery reports.

    Any thread may send. Records of one partition are appended in the order in which they were sent. While Kafka does
    not answer, records wait in librdkafka's queue; when that is full, `send` waits for room.
    """

    def __init__(self, settings: Mapping[str, object], *, stopping: Callable[[], bool] = lambda: False) -> None:
        """Connect, and start the thread.

        Args:
            settings: how to reach Kafka.
            stopping: whether `send` must not wait for room any more; it then raises BufferError.

        Raises:
            LogError: a setting is wrong.
        """
        self._stopping = stopping
        self.fault: LogError | None = None
        """The error by which this producer sends nothing any more. It does not recover; a new producer may."""
        self._watch = BrokerWatch("producer")
        with log_errors():
            self._producer = Producer({**PRODUCER, **self._watch.settings, **settings})
        self._open = True
        self._sent = threading.Event()
        """Set when a record was sent, and when the thread should end."""
        self._thread = threading.Thread(target=self._collect, name="producer", daemon=True)
        self._thread.start()

    @property
    def forgotten(self) -> bool:
        """Whether it has a fault that a new producer would not have: it has forgotten all brokers."""
        return isinstance(self.fault, BrokersForgotten)

    def _collect(self) -> None:
        while self._open:
            # Delivery reports end a poll. While none is expected, only statistics and errors wait to be collected.
            if not len(self._producer):
                self._sent.wait(IDLE_SECONDS)
            self._sent.clear()
            try:
                self._producer.poll(POLL_SECONDS if len(self._producer) else 0)
            except KafkaException as raised:  # fatal errors are raised here, and not passed to `error_cb`
                self._note(error_of(raised.args[0]))
            if self._watch.lost and self.fault is None:
                self.fault = BrokersForgotten("the client has forgotten all brokers")

    def _note(self, error: LogError) -> None:
        if isinstance(error, ClientBroken):
            self.fault = error

    def send(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int,
        key: bytes = b"",
        headers: Headers = (),
        delivered: Delivered | None = None,
    ) -> None:
        """Send a record.

        Args:
            topic: the topic to write to.
            value: the record's value.
            partition: the partition to write to.
            key: the record's key.
            headers: name and value of each header.
            delivered: called from the producer's thread; or from this one, before `send` returns, where the topic is
                not known just now.

        Raises:
            LogError: there is a `fault`, or librdkafka refuses the record (it is too large).
            BufferError: there is no room, and the process is `stopping`, or a `delivered` has called this.
        """

        def report(error: KafkaError | None, _message: Message | None) -> None:
            if delivered is not None:
                delivered(None if error is None else error_of(error))

        self._produce(topic, value, partition, key, headers, report)

    def send_for_receipt(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int,
        received: Received,
        key: bytes = b"",
        headers: Headers = (),
    ) -> None:
        """Send a record, and report where the log has it. See `send`, which is cheaper."""

        def report(error: KafkaError | None, message: Message | None) -> None:
            if error is not None:
                received(error_of(error))
            elif message is not None:
                received(receipt_of(message))

        self._produce(topic, value, partition, key, headers, report)

    def _produce(
        self,
        topic: str,
        value: bytes,
        partition: int,
        key: bytes,
        headers: Headers,
        report: Callable[[KafkaError | None, Message | None], None],
    ) -> None:
        while True:
            if self.fault is not None:
                raise self.fault
            try:
                self._producer.produce(topic, value, key, partition, headers=list(headers) or None, on_delivery=report)
                if not self._sent.is_set():
                    self._sent.set()
                return
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                if error.code() in TOPIC_UNKNOWN_CODES:
                    report(error, None)
                    return
                problem = error_of(error)
                self._note(problem)
                raise problem from raised
            except BufferError:
                # Only the producer's thread makes room, as soon as brokers answer. A `delivered` that sends again runs
                # on that thread, and must not wait.
                if self._stopping() or threading.current_thread() is self._thread:
                    raise
                time.sleep(0.005)

    def warm(self, topic: str, timeout_seconds: float = ADMIN_TIMEOUT_SECONDS) -> int:
        """Fetch the topic's metadata, so that the first record does not wait for it.

        Returns:
            The topic's number of partitions.

        Raises:
            LogError: no broker answers in time, or the topic does not exist.
        """
        return partition_count(self._producer, topic, timeout_seconds)

    def flush(self, timeout_seconds: float) -> int:
        """Wait until every record is delivered or refused, for at most this long; returns how many are not."""
        return int(self._producer.flush(timeout_seconds))

    def close(self, timeout_seconds: float = 5.0) -> int:
        """Flush and stop the thread; returns how many records were not delivered."""
        left = self.flush(timeout_seconds)
        self._open = False
        self._sent.set()
        self._thread.join()
        return left
