"""A producer that has failed for good is known to have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm.adapters import kafka_outlet
from ftjm.adapters.kafka import FORGOTTEN, Sight
from ftjm.adapters.kafka_outlet import Outlet
from integration.waiting import until

FATAL = KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "lost its tail", fatal=True))
PASSING = KafkaException(KafkaError(KafkaError._TRANSPORT, "away"))


class Producer:
    """One that raises as confluent-kafka does: what is fatal out of `poll`, and then out of every `produce`."""

    def __init__(self, _settings: Any) -> None:
        self.polled: list[KafkaException] = []
        self.produced: KafkaException | BufferError | None = None

    def poll(self, _seconds: float) -> None:
        if self.polled:
            raise self.polled.pop()

    def produce(self, *_: Any, **__: Any) -> None:
        if self.produced is not None:
            raise self.produced

    def flush(self, _seconds: float) -> int:
        return 0


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_outlet, "Producer", Producer)


@pytest.fixture
def outlet(producer: None) -> Any:
    made = Outlet({})
    yield made
    made.close()


def test_what_is_fatal_is_known_once_it_was_polled(outlet: Any) -> None:
    outlet._producer.polled = [FATAL, PASSING]
    until(lambda: outlet.fault, "the fault to be known")
    assert outlet.fault.code() == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_topic_that_is_not_known_just_now_is_told_as_if_it_were_told_later(outlet: Any) -> None:
    """Whoever sends needs to know one way only, and sends it again."""
    told: list[KafkaError | None] = []
    outlet._producer.produced = KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC))
    outlet.send("topic", b"", partition=0, delivered=lambda error, _: told.append(error))
    assert [error.code() for error in told if error] == [KafkaError._UNKNOWN_TOPIC]
    assert outlet.fault is None
    with pytest.raises(KafkaException):
        outlet.send("topic", b"", partition=0)


def test_what_is_fatal_is_known_once_nothing_can_be_sent(outlet: Any) -> None:
    outlet._producer.produced = PASSING
    with pytest.raises(KafkaException):
        outlet.send("topic", b"", partition=0)
    assert outlet.fault is None
    outlet._producer.produced = FATAL
    with pytest.raises(KafkaException):
        outlet.send("topic", b"", partition=0)
    assert outlet.fault is not None


def statistics(*sources: str) -> str:
    return json.dumps({"name": "x", "brokers": {str(n): {"source": it, "rtt": {}} for n, it in enumerate(sources)}})


def test_who_knows_of_no_broker_twice_in_turn_has_forgotten_them() -> None:
    sight = Sight("test")
    look: Any = sight.settings["stats_cb"]
    for known in ((), ("configured",), ("logical",), ("learned", "logical"), ("logical",)):
        look(statistics(*known))
        assert not sight.lost
    look(statistics())
    assert sight.lost


def test_an_outlet_that_has_forgotten_its_brokers_sends_nothing_any_more(outlet: Any) -> None:
    outlet._sight.lost = True
    until(lambda: outlet.fault, "the fault to be known")
    assert outlet.fault.code() == FORGOTTEN
    with pytest.raises(KafkaException):
        outlet.send("topic", b"", partition=0)


def test_who_stops_does_not_wait_for_room(producer: None) -> None:
    outlet = Outlet({}, stopping=lambda: True)
    outlet._producer.produced = BufferError()  # type: ignore[attr-defined]
    with pytest.raises(BufferError):
        outlet.send("topic", b"", partition=0)
    outlet.close()
