"""A folder on any file system or object store that fsspec knows: chunks of snapshots, the archive, exports."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ftjm.engine.snapshot import Chunk, DamagedSnapshot, Manifest, unneeded
from ftjm.errors import FtjmError, UsageError

TEMPORARY = ".tmp-"


class Folder:
    """Files by name under one URL (`file:///…`, `s3://…`, or a plain path). Any thread may use it.

    Raises FtjmError where the place cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            todo = "write for instance file:///srv/ftjm or s3://bucket/ftjm; some need a package such as s3fs"
            raise UsageError("a place that fsspec can reach", f"{url!r}: {error}", todo) from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        data: bytes = self._fs.cat_file(self._path(name))
        return data

    def exists(self, name: str) -> bool:
        return bool(self._fs.exists(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """The whole file or none, for good: under another name first, since not every place writes a file at once."""
        folder, _, last = self._path(name).rpartition("/")
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}-{last}"
        try:
            if isinstance(self._fs, LocalFileSystem):
                _durably(Path(folder), Path(temporary), Path(folder, last), data)
            else:
                self._fs.makedirs(folder, exist_ok=True)
                self._fs.pipe_file(temporary, data)
                self._fs.mv(temporary, f"{folder}/{last}")
        except OSError as error:
            todo = "look at its room and its permissions"
            raise FtjmError(f"to write {name} to {self.url}", str(error), todo) from error

    def names(self, under: str = "") -> list[str]:
        """The files right in a folder of it, sorted; none if there is no such folder."""
        path = self._path(under).rstrip("/")
        try:
            found = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        names = [entry["name"].rsplit("/", 1)[-1] for entry in found if entry["type"] == "file"]
        return sorted(name for name in names if not name.startswith(TEMPORARY))

    def delete(self, name: str) -> None:
        """What is gone already is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))


def _durably(folder: Path, temporary: Path, path: Path, data: bytes) -> None:
    """As fsspec does it, but so that it outlives the host's power: logs are trimmed for what is here."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for changed in (folder, *(one.parent for one in missing)):
        descriptor = os.open(changed, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class ChunkFolder:
    """A place for the chunks of one cluster's snapshots: a file each, in a folder for each partition."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = Folder(url)

    def put(
        self, partition: int, chunks: Iterable[tuple[str, bytes]], stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, int]:
        """Write chunks by name. Raises TimeoutError if `stopped` before all are there."""
        for name, data in chunks:
            if stopped():
                raise TimeoutError("stopped while chunks were written")
            self._folder.write(f"{partition}/{name}", data)
        return {}

    def get(self, partition: int, chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, bytes], None, None]:
        """The chunks with their bytes. Raises DamagedSnapshot if one is not there."""
        for chunk in {chunk.name: chunk for chunk in chunks}.values():
            try:
                yield chunk, self._folder.read(f"{partition}/{chunk.name}")
            except FileNotFoundError as error:
                raise DamagedSnapshot(f"chunk {chunk.name} is not in {self.url} any more") from error

    def lacking(self, manifest: Manifest) -> str:
        """The name of a chunk that the snapshot needs and that is not there; empty if all are."""
        found = {*self._folder.names(str(manifest.partition))}
        return next((chunk.name for chunk in manifest.chunks if chunk.name not in found), "")

    def sweep(self, partition: int, kept: Sequence[Manifest]) -> None:
        """Delete what the published manifests (newest first) do not need, and nothing that came after them."""
        for name in unneeded(self._folder.names(str(partition)), kept):
            self._folder.delete(f"{partition}/{name}")
