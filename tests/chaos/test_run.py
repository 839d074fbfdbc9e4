"""A run goes on to its report though the brokers that it has just healed do not answer yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm.chaos import run


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.0)


def answers(*, silent: int) -> Callable[[], bool]:
    """True, once it was asked so often in vain."""
    left = [KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))] * silent

    def ask() -> bool:
        if left:
            raise left.pop()
        return True

    return ask


def test_who_does_not_answer_is_asked_again():
    assert run._wait(answers(silent=3), 60)


def test_what_does_not_come_is_not_waited_for_for_ever():
    assert not run._wait(lambda: False, 0.01)
    assert not run._wait(answers(silent=1), 0)
