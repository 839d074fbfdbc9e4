"""The contract of every store of chunks. It runs against folders here, and against the topic in `integration/`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, Protocol

import pytest

from ftjm.engine.snapshot import CHUNK_BYTES_MAX, Chunk, DamagedSnapshot


class ChunkStore(Protocol):
    """A store of chunks."""

    def put(self, partition: int, chunks: Any, stopped: Any = ...) -> dict[str, int]: ...

    def get(self, partition: int, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, bytes]]: ...


def named(data: bytes, birth: str = "1.1") -> tuple[str, bytes]:
    return f"{sha256(data).hexdigest()}.{birth}", data


def put(place: ChunkStore, *pieces: bytes, partition: int = 0) -> list[Chunk]:
    """Put chunks. Return their entries as in a manifest."""
    chunks = [named(piece) for piece in pieces]
    offsets = place.put(partition, iter(chunks))
    return [Chunk(name, len(data), offsets.get(name, -1)) for name, data in chunks]


class ChunkStoreContract:
    """Each test has its own empty store, the fixture `place`."""

    def test_stored_chunks_are_read(self, place: ChunkStore) -> None:
        pieces = [b"a", b"", os.urandom(CHUNK_BYTES_MAX), *(b"%d" % i for i in range(40))]
        chunks = put(place, *pieces)
        found = {chunk.name: data for chunk, data in place.get(0, chunks)}
        assert found == {chunk.name: data for chunk, data in zip(chunks, pieces, strict=True)}

    def test_only_requested_chunks_are_read_in_any_order(self, place: ChunkStore) -> None:
        chunks = put(place, *(b"%d" % i for i in range(30)))
        wanted = [chunks[29], chunks[3], chunks[4], chunks[3], chunks[17]]
        found = [chunk.name for chunk, _ in place.get(0, wanted)]
        assert sorted(found) == sorted({chunk.name for chunk in wanted})

    def test_an_empty_request_reads_and_writes_nothing(self, place: ChunkStore) -> None:
        assert put(place) == []
        assert list(place.get(0, [])) == []

    def test_partitions_are_separate(self, place: ChunkStore) -> None:
        (chunk,) = put(place, b"a", partition=0)
        put(place, b"b", partition=1)
        with pytest.raises(DamagedSnapshot):
            list(place.get(1, [chunk]))

    def test_a_missing_chunk_is_an_error(self, place: ChunkStore) -> None:
        there, other = put(place, b"a", b"b")
        absent = Chunk(named(b"never put")[0], 9, other.offset + 5 if other.offset >= 0 else -1)
        with pytest.raises(DamagedSnapshot):
            list(place.get(0, [there, absent]))
        if other.offset >= 0:
            with pytest.raises(DamagedSnapshot):
                list(place.get(0, [Chunk(there.name, there.size, other.offset)]))

    def test_stopping_ends_a_put(self, place: ChunkStore) -> None:
        endless = (named(b"%d" % i) for i in range(100_000))
        with pytest.raises(TimeoutError):
            place.put(0, endless, lambda: True)
