"""A chunk that Kafka refuses ends the snapshot, and not the thread that takes all of them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm.adapters import kafka_snapshots
from ftjm.adapters.kafka_snapshots import UNDER_WAY_MAX, SnapshotTopic
from tests.contracts.place_contract import named

WAIT_SECONDS = 5.0


class Refusing:
    """An outlet that is refused what it sends."""

    made = 0

    def __init__(self, *_: object, **__: object) -> None:
        Refusing.made += 1

    def send(self, *_: object, delivered: Any, **__: object) -> None:
        delivered(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)

    def close(self, _seconds: float) -> int:
        return 0


@pytest.mark.parametrize("count", [1, UNDER_WAY_MAX * 2])
def test_a_refused_chunk_is_told_and_the_next_try_has_an_outlet_of_its_own(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(kafka_snapshots, "Outlet", Refusing)
    monkeypatch.setattr(Refusing, "made", 0)
    topic = SnapshotTopic({}, "t.snapshots")
    for tries in (1, 2):
        until = time.monotonic() + WAIT_SECONDS
        with pytest.raises(KafkaException, match="AUTHORIZATION"):
            topic.put(0, [named(b"%d" % n) for n in range(count)], lambda: time.monotonic() > until)  # noqa: B023
        assert Refusing.made == tries
