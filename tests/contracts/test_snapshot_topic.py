"""The topic of snapshots on a Kafka that is made up: what it refuses, and how much of it is held."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest
from confluent_kafka import KafkaError, KafkaException

from ftjm.adapters import kafka_snapshots
from ftjm.adapters.kafka_snapshots import UNDER_WAY_MAX, SnapshotTopic
from ftjm.core.model import Position
from ftjm.engine.snapshot import Manifest, about, chunk_key, encode, manifest_key
from tests.contracts.place_contract import named

WAIT_SECONDS = 5.0


class Refusing:
    """An outlet that is refused what it sends."""

    made = 0
    fault = None

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


CHUNKS = 500


class Record:
    """One of a topic."""

    def __init__(self, offset: int, key: str, value: bytes) -> None:
        self._offset, self._key, self._value = offset, key, value

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return self._key.encode()

    def value(self) -> bytes:
        return self._value


@pytest.fixture
def manifest() -> Manifest:
    return about(Position(batch_no=1, owner_epoch=1, log_id="log"), 0, 1, "", -1, [])


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, manifest: Manifest) -> list[int]:
    """How many records there were at once, while a topic of a manifest and many chunks behind it was read."""
    numbers: list[int] = []
    alive: WeakSet[Record] = WeakSet()

    def read(_self: SnapshotTopic, _consumer: object, _partition: int, start: int, end: int) -> Iterator[Any]:
        for offset in range(start, end):
            key, value = chunk_key(0, named(b"%d" % offset)[0]), b"chunk"
            if offset == 0:
                key, value = manifest_key(manifest), encode(manifest)
            record = Record(offset, key, value)
            alive.add(record)
            numbers.append(len(alive))
            yield record

    monkeypatch.setattr(SnapshotTopic, "_range", read)
    monkeypatch.setattr(kafka_snapshots, "bounds", lambda *_: (0, 1 + CHUNKS))
    idle = SimpleNamespace(unassign=lambda: None, close=lambda: None)
    monkeypatch.setattr(SnapshotTopic, "_consumer", lambda *_: idle)
    return numbers


def test_of_chunks_only_their_names_are_held_while_a_manifest_is_searched(held: list[int], manifest: Manifest) -> None:
    with closing(SnapshotTopic({}, "t.snapshots")) as topic:
        found, strays = topic.find(0)
        assert [p.manifest for p in found] == [manifest]
        assert len(strays) == CHUNKS
        assert max(held) <= 3
        assert topic.since(0, 0) == ([manifest], 1 + CHUNKS)
        held.clear()
        assert topic.since(0, CHUNKS - 1) == ([], 1 + CHUNKS)
        assert topic.since(0, 1 + CHUNKS) == ([], 1 + CHUNKS)
        assert len(held) == 2, "what is known already is not read again"
