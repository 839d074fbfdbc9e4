"""The counter of events tells the successes of a measured load from those of jobs that had waited before."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.adapters.avro import codec
from ftjm.core.records import events as e
from ftjm.lab.bench import event_counter
from ftjm.lab.bench.event_counter import EventCounter


class Record:
    def __init__(self, kind: type) -> None:
        self.value, self.partition = kind, 0


class Screen:
    def step(self, text: str) -> None: ...
    def move(self, done: int, total: int) -> None: ...


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[list[Record]]:
    """What the reader of the log returns, read by read."""
    waiting: list[list[Record]] = []

    class Reader:
        def read(self, _seconds: float) -> list[Record]:
            return waiting.pop(0)

    monkeypatch.setattr(event_counter, "patiently", lambda *_: Reader())
    monkeypatch.setattr(codec, "type_of", lambda kind: kind)
    return waiting


class Settings:
    partitions = 1

    def topic(self, name: str) -> str:
        return name

    def kafka_settings(self, name: str) -> dict[str, Any]:
        return {}


def test_successes_before_the_first_submission_are_of_jobs_that_waited(reads):
    counter = EventCounter(Settings(), lambda: None, Screen())  # type: ignore[arg-type]
    old, new, submitted = Record(e.AttemptSucceeded), Record(e.AttemptSucceeded), Record(e.JobSubmitted)
    reads += [[old, old], [old, submitted, new], [submitted, new]]
    counter.until(e.JobSubmitted, 2)
    assert (counter.succeeded_before, counter.counts[e.AttemptSucceeded]) == (3, 5)
    counter.forget()
    reads += [[submitted, new]]
    counter.until(e.AttemptSucceeded, 1)
    assert counter.succeeded_before == 0
