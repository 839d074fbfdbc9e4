"""A producer that confirms, for whoever needs no transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ftjm.adapters.kafka import (
    ADMIN_TIMEOUT_SECONDS,
    FORGOTTEN,
    MISSED,
    PRODUCER,
    Headers,
    Sight,
    partition_count,
)

Delivered = Callable[[KafkaError | None, Message], None]


class Outlet:
    """A plain idempotent producer with a thread that collects its delivery reports.

    `send` never blocks the caller for long: when the local queue is full it waits for room.
    """

    def __init__(
        self, settings: Mapping[str, object], *, stopping: Callable[[], bool] = lambda: False, linger_ms: float = 0.0
    ) -> None:
        """`stopping`: whether `send` shall not wait for room any more, and raise BufferError."""
        self._stopping = stopping
        self.fault: KafkaError | None = None
        """Why it sends nothing any more, for good: who needs it has to start anew."""
        self._sight = Sight("producer")
        self._producer = Producer({**PRODUCER, "linger.ms": linger_ms, **self._sight.settings, **settings})
        self._open = True
        self._thread = threading.Thread(target=self._collect, name="outlet", daemon=True)
        self._thread.start()

    @property
    def forgotten(self) -> bool:
        """Whether it is at fault for having forgotten all brokers, as another one would not be."""
        return self.fault is not None and self.fault.code() == FORGOTTEN

    def _collect(self) -> None:
        while self._open:
            try:
                self._producer.poll(0.1)
            except KafkaException as error:  # what is fatal is raised here, and not told to `error_cb`
                self._note(error)
            if self._sight.lost and self.fault is None:
                self.fault = KafkaError(FORGOTTEN, "the client has forgotten all brokers")

    def _note(self, raised: KafkaException) -> None:
        if raised.args[0].fatal() or raised.args[0].code() == KafkaError._FATAL:
            self.fault = raised.args[0]

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
        """Hand a record over; `delivered` is called from the outlet's thread once the log has it, or from this one, at
        once, where the topic is not known just now (codes `MISSED`).

        Raises KafkaException once there is a `fault`.
        """
        while True:
            if self.fault is not None:
                raise KafkaException(self.fault)
            try:
                self._producer.produce(
                    topic, value, key, partition, headers=list(headers) or None, on_delivery=delivered
                )
                return
            except KafkaException as error:
                if delivered is None or error.args[0].code() not in MISSED:
                    self._note(error)
                    raise
                nothing: Any = None
                delivered(error.args[0], nothing)
                return
            except BufferError:
                if self._stopping():
                    raise
                # The thread makes room as soon as the brokers answer.
                time.sleep(0.005)

    def warm(self, topic: str, timeout_seconds: float = ADMIN_TIMEOUT_SECONDS) -> int:
        """Fetch the topic's metadata, so that the first record does not wait for it.

        Returns: the topic's number of partitions.
        Raises: KafkaException if no broker answers in time, or the topic does not exist.
        """
        return partition_count(self._producer, topic, timeout_seconds)

    def flush(self, timeout_seconds: float) -> int:
        """Wait for deliveries; returns how many records are still under way."""
        return int(self._producer.flush(timeout_seconds))

    def close(self, timeout_seconds: float = 5.0) -> int:
        """Flush and stop the thread; returns how many records were not delivered."""
        left = self.flush(timeout_seconds)
        self._open = False
        self._thread.join()
        return left
