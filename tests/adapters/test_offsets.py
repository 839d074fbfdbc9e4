"""Requests to the brokers from a client whose knowledge of them is outdated or lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ListOffsetsResultInfo

from ftjm.adapters.kafka import offsets
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.offsets import Broker, Observer

QUESTIONS: dict[str, tuple[Callable[[Observer], Any], Any]] = {
    "where a log ends": (lambda observer: observer.ends("t", 2, committed=True), {0: 7, 1: 7}),
    "where it begins": (lambda observer: observer.begins("t", 2), {0: 7, 1: 7}),
    "a topic": (lambda observer: observer.topic("t"), ("id", 3)),
    "the brokers": (lambda observer: observer.brokers(), [Broker(1, "host", 9092, controller=True)]),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "code", [KafkaError.FENCED_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._TIMED_OUT]
)
def test_a_client_that_gets_no_answer_is_replaced(monkeypatch, code: int, question: str) -> None:
    clients: list[object] = []

    class Admin:
        """An admin client whose first instance fails each request."""

        def __init__(self, _: object) -> None:
            clients.append(self)

        def _answer(self, found: object) -> Future:
            answer: Future = Future()
            if self is clients[0]:
                answer.set_exception(KafkaException(KafkaError(code)))
            else:
                answer.set_result(found)
            return answer

        def list_offsets(self, asked: dict, **_: object) -> dict:
            return {place: self._answer(ListOffsetsResultInfo(7, 0, 5)) for place in asked}

        def describe_topics(self, asked: Any, **_: object) -> dict:
            return {"t": self._answer(SimpleNamespace(topic_id="id", partitions=[0, 1, 2]))}

        def describe_cluster(self, **_: object) -> Future:
            node = SimpleNamespace(id=1, host="host", port=9092)
            return self._answer(SimpleNamespace(controller=node, nodes=[node]))

    monkeypatch.setattr(offsets, "AdminClient", Admin)
    observer = Observer({})
    ask, expected = QUESTIONS[question]
    with pytest.raises(LogError):
        ask(observer)
    assert len(clients) == 2
    assert ask(observer) == expected
