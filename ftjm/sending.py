"""The files of a store on their way into a repository: only what the newest snapshot does not have travels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ftjm.adapters.rocks import RocksStore
from ftjm.clock import wall_ms
from ftjm.core.model import Position
from ftjm.core.state import load_position
from ftjm.engine.snapshot import CHUNK_BYTES_MAX, Chunk, File, Manifest, Naming, Piece, about, placed
from ftjm.repository import Place

NOT_OF_THE_STORE = ("LOG", "LOCK")
"""Prefixes of files that a database makes for itself when it is opened."""

Hashes = Mapping[tuple[int, int, int], list[Piece]]
"""Of files, which never change: by their inode, size and time."""


class Sent(NamedTuple):
    """A snapshot whose chunks are there, and that lacks nothing but its manifest's record."""

    manifest: Manifest
    hashes: Hashes
    bytes: int
    """Of the chunks that were new."""


def send(
    place: Place,
    partition: int,
    directory: Path,
    newest: Manifest | None = None,
    previous: int = -1,
    known: Hashes | None = None,
    stopped: Callable[[], bool] = lambda: False,
    now_ms: int = 0,
) -> Sent:
    """Send a checkpoint's files, except for the chunks that `newest` has.

    Args:
        previous: offset of the manifest that is the newest now.
        known: hashes as an earlier call has left them.
        now_ms: what time it is, if the caller knows better than the wall clock.

    Raises DamagedStore if a block of it cannot be read; TimeoutError if `stopped` before all is there.
    """
    # Listed before it is opened, which may make files of its own.
    files = sorted(path for path in directory.iterdir() if not path.name.startswith(NOT_OF_THE_STORE))
    position = _position(directory)
    # What was decided since the caller looked at the clock is in it, too.
    taken_at = max(now_ms or wall_ms(), position.now)
    sending = _Sending(files, Naming(newest, position, place.url, taken_at), known or {})
    offsets = place.put(partition, sending.new(), stopped)
    manifest = about(position, partition, taken_at, place.url, previous, placed(sending.files, offsets))
    return Sent(manifest, sending.hashes, sending.bytes)


def _position(directory: Path) -> Position:
    """Where the checkpoint stands, which is sound: it is some batches behind the loop, which went on."""
    store = RocksStore(directory, read_only=True)
    try:
        store.verify()
        return load_position(store)
    finally:
        store.close()


class _Sending:
    """Which chunks make the files, and which of these are new."""

    def __init__(self, paths: list[Path], naming: Naming, known: Hashes) -> None:
        self._paths = paths
        self._naming = naming
        self._known = known
        self.hashes: dict[tuple[int, int, int], list[Piece]] = {}
        self.files: list[File] = []
        self.bytes = 0

    def new(self) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of the new chunks; once it is exhausted, `files` is whole."""
        for path in self._paths:
            stat = path.stat()
            key = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            chunks: list[Chunk] = []
            pieces = self._known.get(key)
            if pieces is not None and all(map(self._naming.knows, pieces)):
                chunks = [self._naming.name(piece)[0] for piece in pieces]
            else:
                pieces = []
                yield from self._read(path, pieces, chunks)
            self.hashes[key] = pieces
            self.files.append(File(path.name, chunks))

    def _read(self, path: Path, pieces: list[Piece], chunks: list[Chunk]) -> Iterator[tuple[str, bytes]]:
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES_MAX):
                piece = Piece(sha256(data).hexdigest(), len(data))
                chunk, new = self._naming.name(piece)
                pieces.append(piece)
                chunks.append(chunk)
                if new:
                    self.bytes += len(data)
                    yield chunk.name, data
