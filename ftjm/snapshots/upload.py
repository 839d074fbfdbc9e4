"""Uploads a snapshot, the files of a store: only the chunks that the newest snapshot lacks are sent.

The files of a checkpoint never change, and most of them were part of the snapshot before. Each file is cut into chunks
of at most 900 kB. A chunk is named `<sha256>.<owner epoch>.<batch>.<taken at>`, by its content and by the snapshot that
first held it (`engine.snapshot` gives the reason). A chunk that the newest snapshot has keeps its name and is not sent
again. The manifest, which lists the files and their chunks, is not sent here: the partition's fenced writer publishes
it when all chunks are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.model import Position
from ftjm.core.state.tables import load_position
from ftjm.engine.snapshot import CHUNK_BYTES_MAX, Chunk, ChunkNames, File, Manifest, Piece, manifest_of, with_offsets
from ftjm.runtime.clock import wall_ms
from ftjm.snapshots.repository import ChunkStore

NOT_OF_THE_STORE = ("LOG", "LOCK")
"""Prefixes of files that RocksDB makes for itself when it opens a database."""

Hashes = Mapping[tuple[int, int, int], list[Piece]]
"""The hashes of files, by their inode, size and modification time. A file never changes."""


class Sent(NamedTuple):
    """A snapshot whose chunks are stored; its manifest is not published yet."""

    manifest: Manifest
    hashes: Hashes
    bytes: int
    """Size of the chunks that were sent."""


def send(
    place: ChunkStore,
    partition: int,
    directory: Path,
    newest: Manifest | None = None,
    known: Hashes | None = None,
    stopped: Callable[[], bool] = lambda: False,
    now_ms: int = 0,
) -> Sent:
    """Send the files of a checkpoint, except for the chunks that `newest` has.

    Args:
        place: the store of the chunks.
        partition: the partition of the store.
        directory: the checkpoint.
        newest: manifest of the newest snapshot; None sends all chunks.
        known: the hashes that an earlier call returned.
        stopped: whether to give up.
        now_ms: the time of the snapshot, if the caller knows better than the wall clock.

    Returns:
        The manifest, to be published, and the hashes of its files.

    Raises:
        DamagedStore: a block of the checkpoint cannot be read.
        TimeoutError: `stopped` before all chunks were stored.
    """
    # The files are listed first: opening the database may make more.
    files = sorted(path for path in directory.iterdir() if not path.name.startswith(NOT_OF_THE_STORE))
    position = _position(directory)
    # The checkpoint may hold batches that were decided after the caller read the clock.
    taken_at = max(now_ms or wall_ms(), position.now)
    sending = _Sending(files, ChunkNames(newest, position, place.url, taken_at), known or {})
    offsets = place.put(partition, sending.new(), stopped)
    manifest = manifest_of(position, partition, taken_at, place.url, -1, with_offsets(sending.files, offsets))
    return Sent(manifest, sending.hashes, sending.bytes)


def _position(directory: Path) -> Position:
    """Check the checkpoint's blocks, and read its position: the partition may have gone on by some batches."""
    store = RocksStore(directory, read_only=True)
    try:
        store.verify()
        return load_position(store)
    finally:
        store.close()


class _Sending:
    """Finds the chunks of each file, and those among them that are new."""

    def __init__(self, paths: list[Path], names: ChunkNames, known: Hashes) -> None:
        self._paths = paths
        self._names = names
        self._known = known
        self.hashes: dict[tuple[int, int, int], list[Piece]] = {}
        self.files: list[File] = []
        self.bytes = 0

    def new(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the new chunks. When the iterator is exhausted, `files` and `hashes` are complete."""
        for path in self._paths:
            stat = path.stat()
            key = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            chunks: list[Chunk] = []
            pieces = self._known.get(key)
            if pieces is not None and all(map(self._names.has, pieces)):
                chunks = [self._names.chunk_of(piece)[0] for piece in pieces]
            else:
                pieces = []
                yield from self._read(path, pieces, chunks)
            self.hashes[key] = pieces
            self.files.append(File(path.name, chunks))

    def _read(self, path: Path, pieces: list[Piece], chunks: list[Chunk]) -> Iterator[tuple[str, bytes]]:
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES_MAX):
                piece = Piece(sha256(data).hexdigest(), len(data))
                chunk, new = self._names.chunk_of(piece)
                pieces.append(piece)
                chunks.append(chunk)
                if new:
                    self.bytes += len(data)
                    yield chunk.name, data
