"""A run waits for brokers that have just been healed, and goes on to its report."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftjm.adapters.kafka.errors import LogUnanswered
from ftjm.lab.chaos import run


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "POLL_SECONDS", 0.0)


def answers(*, silent: int) -> Callable[[], bool]:
    """Return a condition that fails `silent` times with a Kafka error, and then holds."""
    left = [LogUnanswered("no broker answers")] * silent

    def ask() -> bool:
        if left:
            raise left.pop()
        return True

    return ask


def test_a_condition_is_tried_again_after_a_kafka_error():
    assert run._wait(answers(silent=3), 60)


def test_waiting_ends_after_its_time():
    assert not run._wait(lambda: False, 0.01)
    assert not run._wait(answers(silent=1), 0)
