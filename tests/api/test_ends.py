"""Asking where logs end, of a client whose knowledge of the brokers has become old, or is gone."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ListOffsetsResultInfo

from ftjm.adapters import kafka_ends
from ftjm.adapters.kafka_ends import Observer


@pytest.mark.parametrize(
    "code", [KafkaError.FENCED_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._TIMED_OUT]
)
def test_a_client_that_gets_no_answer_is_made_anew(monkeypatch, code: int) -> None:
    clients: list[object] = []

    class Admin:
        """The first one fails, whatever it is asked."""

        def __init__(self, _: object) -> None:
            clients.append(self)

        def list_offsets(self, asked: dict, **_: object) -> dict:
            answers: dict[object, Future] = {place: Future() for place in asked}
            for answer in answers.values():
                if self is clients[0]:
                    answer.set_exception(KafkaException(KafkaError(code)))
                else:
                    answer.set_result(ListOffsetsResultInfo(7, 0, 5))
            return answers

    monkeypatch.setattr(kafka_ends, "AdminClient", Admin)
    observer = Observer({})
    with pytest.raises(KafkaException):
        observer.ends("t", 2, committed=True)
    assert len(clients) == 2
    assert observer.ends("t", 2, committed=True) == {0: 7, 1: 7}
