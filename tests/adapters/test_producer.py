"""A producer that has failed for good is known to have."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm.adapters.kafka import producer as kafka_producer
from ftjm.adapters.kafka.connection import UNCONNECTED_MAX_US, BrokerWatch
from ftjm.adapters.kafka.errors import BrokersForgotten, ClientBroken, LogError, LogUnanswered, TopicUnknown
from ftjm.adapters.kafka.producer import ConfirmingProducer
from integration.waiting import until

FATAL = KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "lost its tail", fatal=True))
PASSING = KafkaException(KafkaError(KafkaError._TRANSPORT, "away"))


class FakeProducer:
    """One that raises as confluent-kafka does: what is fatal out of `poll`, and then out of every `produce`."""

    def __init__(self, _settings: Any) -> None:
        self.under_way = 0
        self.polls: list[float] = []
        self.polled: list[KafkaException] = []
        self.produced: KafkaException | BufferError | None = None

    def __len__(self) -> int:
        return self.under_way

    def poll(self, _seconds: float) -> None:
        self.polls.append(_seconds)
        if self.polled:
            raise self.polled.pop()

    def produce(self, *_: Any, **__: Any) -> None:
        if self.produced is not None:
            raise self.produced

    def flush(self, _seconds: float) -> int:
        return 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_producer, "Producer", FakeProducer)


@pytest.fixture
def producer(fake: None) -> Any:
    made = ConfirmingProducer({})
    yield made
    made.close()


def test_what_is_fatal_is_known_once_it_was_polled(producer: Any) -> None:
    producer._producer.polled = [FATAL, PASSING]
    until(lambda: producer.fault, "the fault to be known")
    assert isinstance(producer.fault, ClientBroken)
    assert str(producer.fault) == "lost its tail"


def test_while_nothing_is_under_way_nothing_is_polled_but_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(kafka_producer, "Producer", FakeProducer)
    threads = SimpleNamespace(Event=lambda: Noting(waits), Thread=threading.Thread)
    monkeypatch.setattr(kafka_producer, "threading", threads)
    made = ConfirmingProducer({})
    fake: Any = made._producer
    until(lambda: waits, "a wait")
    assert waits == [kafka_producer.IDLE_SECONDS]
    polls = len(fake.polls)
    fake.under_way = 1
    made.send("topic", b"", partition=0)
    until(lambda: len(fake.polls) > polls + 1, "polls, and no wait")
    assert len(waits) <= 2
    assert fake.polls[-1] == kafka_producer.POLL_SECONDS
    fake.under_way = 0
    made.close()


class Noting(threading.Event):
    """An event that notes how long is waited for it, and lets the time not pass by itself."""

    def __init__(self, waits: list[float]) -> None:
        super().__init__()
        self.waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return super().wait(60)


def test_a_topic_that_is_not_known_just_now_is_told_as_if_it_were_told_later(producer: Any) -> None:
    """The caller learns of this fault in one way only, by its callback, and sends the record again."""
    told: list[LogError | None] = []
    producer._producer.produced = KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC))
    producer.send("topic", b"", partition=0, delivered=told.append)
    producer.send_for_receipt("topic", b"", partition=0, received=told.append)
    assert [type(error) for error in told] == [TopicUnknown, TopicUnknown]
    assert producer.fault is None


def test_what_is_fatal_is_known_once_nothing_can_be_sent(producer: Any) -> None:
    producer._producer.produced = PASSING
    with pytest.raises(LogUnanswered):
        producer.send("topic", b"", partition=0)
    assert producer.fault is None
    producer._producer.produced = FATAL
    with pytest.raises(ClientBroken):
        producer.send("topic", b"", partition=0)
    assert producer.fault is not None


def statistics(*sources: str) -> str:
    return json.dumps({"name": "x", "brokers": {str(n): {"source": it, "rtt": {}} for n, it in enumerate(sources)}})


def test_who_knows_of_no_broker_twice_in_turn_has_forgotten_them() -> None:
    sight = BrokerWatch("test")
    look: Any = sight.settings["stats_cb"]
    for known in ((), ("configured",), ("logical",), ("learned", "logical"), ("logical",)):
        look(statistics(*known))
        assert not sight.lost
    look(statistics())
    assert sight.lost


def test_who_never_tries_to_connect_to_a_broker_has_forgotten_it() -> None:
    sight = BrokerWatch("test")
    look: Any = sight.settings["stats_cb"]
    long, short = UNCONNECTED_MAX_US + 1, UNCONNECTED_MAX_US - 1

    def told(*states: tuple[str, int]) -> str:
        fields = [{"source": "learned", "state": state, "stateage": age} for state, age in states]
        return json.dumps({"brokers": dict(enumerate(fields))})

    for states in ([("INIT", long)], [("INIT", long), ("UP", 0)], [("INIT", short)], [("TRY_CONNECT", long)]):
        look(told(*states))
        assert not sight.lost
    look(told(("INIT", long), ("INIT", long)))
    assert not sight.lost
    look(told(("INIT", long), ("INIT", long)))
    assert sight.lost


def test_a_producer_that_has_forgotten_its_brokers_sends_nothing_any_more(producer: Any) -> None:
    producer._watch.lost = True
    until(lambda: producer.fault, "the fault to be known")
    assert producer.forgotten
    with pytest.raises(BrokersForgotten):
        producer.send("topic", b"", partition=0)


def test_who_stops_does_not_wait_for_room(fake: None) -> None:
    producer = ConfirmingProducer({}, stopping=lambda: True)
    producer._producer.produced = BufferError()  # type: ignore[attr-defined]
    with pytest.raises(BufferError):
        producer.send("topic", b"", partition=0)
    producer.close()
