"""The snapshot topic on a fake Kafka: refused chunks, and the amount of data in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest

from ftjm.adapters.kafka import snapshot_topic
from ftjm.adapters.kafka.errors import LogRefused
from ftjm.adapters.kafka.snapshot_topic import UNDER_WAY_MAX, SnapshotTopic
from ftjm.core.state.model import Position
from ftjm.engine.snapshot import Manifest, chunk_key, encode, manifest_key, manifest_of
from tests.contracts.chunk_store_contract import named

WAIT_SECONDS = 5.0


class Refusing:
    """A producer whose records are refused."""

    made = 0
    fault = None

    def __init__(self, *_: object, **__: object) -> None:
        Refusing.made += 1

    def send_for_receipt(self, *_: object, received: Any, **__: object) -> None:
        received(LogRefused("Topic authorization failed"))

    def close(self, _seconds: float) -> int:
        return 0


@pytest.mark.parametrize("count", [1, UNDER_WAY_MAX * 2])
def test_a_refused_chunk_is_an_error_and_the_next_try_has_a_new_producer(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(snapshot_topic, "ConfirmingProducer", Refusing)
    monkeypatch.setattr(Refusing, "made", 0)
    topic = SnapshotTopic({}, "t.snapshots")
    for tries in (1, 2):
        until = time.monotonic() + WAIT_SECONDS
        with pytest.raises(LogRefused, match="authorization"):
            topic.put(0, [named(b"%d" % n) for n in range(count)], lambda: time.monotonic() > until)  # noqa: B023
        assert Refusing.made == tries


CHUNKS = 500


class Record:
    """A record of a topic."""

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
    return manifest_of(Position(batch_no=1, owner_epoch=1, log_id="log"), 0, 1, "", -1, [])


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch, manifest: Manifest) -> list[int]:
    """The numbers of records in memory at once while a topic of a manifest and many chunks was read."""
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
    monkeypatch.setattr(snapshot_topic, "bounds", lambda *_: (0, 1 + CHUNKS))
    idle = SimpleNamespace(unassign=lambda: None, close=lambda: None)
    monkeypatch.setattr(SnapshotTopic, "_consumer", lambda *_, **__: idle)
    return numbers


def test_the_search_for_a_manifest_keeps_only_the_names_of_chunks(in_memory: list[int], manifest: Manifest) -> None:
    with closing(SnapshotTopic({}, "t.snapshots")) as topic:
        found, strays = topic.find(0)
        assert [p.manifest for p in found] == [manifest]
        assert len(strays) == CHUNKS
        assert max(in_memory) <= 3
        assert topic.since(0, 0) == ([manifest], 1 + CHUNKS)
        in_memory.clear()
        assert topic.since(0, CHUNKS - 1) == ([], 1 + CHUNKS)
        assert topic.since(0, 1 + CHUNKS) == ([], 1 + CHUNKS)
        assert len(in_memory) == 2, "known chunks are not read again"
