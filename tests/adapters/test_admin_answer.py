"""Requests of the admin client whose connection the client drops."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm.adapters.kafka import admin_answer as module
from ftjm.adapters.kafka.admin_answer import admin_answer


def failed(code: int) -> Future[str]:
    future: Future[str] = Future()
    future.set_exception(KafkaException(KafkaError(code)))
    return future


def answered(text: str) -> Future[str]:
    future: Future[str] = Future()
    future.set_result(text)
    return future


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)


def test_a_request_whose_connection_was_dropped_is_sent_again() -> None:
    answers = [failed(KafkaError._DESTROY_BROKER), answered("done")]
    assert admin_answer(failed(KafkaError._DESTROY_BROKER), lambda: answers.pop(0)) == "done"
    assert answers == []


def test_an_answer_is_not_asked_for_twice_and_a_refusal_is_raised() -> None:
    def never() -> Future[str]:
        raise AssertionError("it was answered")

    assert admin_answer(answered("done"), never) == "done"
    with pytest.raises(KafkaException):
        admin_answer(failed(KafkaError.TOPIC_ALREADY_EXISTS), never)
    refusals = [failed(KafkaError.TOPIC_ALREADY_EXISTS)]
    with pytest.raises(KafkaException) as raised:
        admin_answer(failed(KafkaError._DESTROY_BROKER), lambda: refusals.pop(0))
    assert raised.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS


def test_it_is_not_sent_again_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    with pytest.raises(KafkaException):
        admin_answer(failed(KafkaError._DESTROY_BROKER), lambda: failed(KafkaError._DESTROY_BROKER))
