"""A folder on any file system or object store that fsspec supports: for chunks of snapshots, the archive, exports."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

from ftjm.engine.snapshot import CHUNK_BYTES_MAX, Chunk, DamagedSnapshot, Manifest, deletable_chunks
from ftjm.runtime import private_files
from ftjm.runtime.errors import FtjmError, UsageError

TEMPORARY = ".tmp-"
"""Prefix of the names of files that are being written."""
NAME = re.compile(r"(?!(.*/)?\.\.?(/|\Z))[A-Za-z0-9+/._-]+")
"""The name of a file of a folder: none that leads out of it. Names come from manifests; ids of topics have slashes."""


def protocol_of(url: str) -> str:
    """The kind of place that a URL names, such as `s3`; `file` for a plain path."""
    from fsspec.utils import get_protocol

    return str(get_protocol(url))


class Folder:
    """Files by name under one URL (`file:///…`, `s3://…`, or a plain path). Any thread may use it.

    Methods raise FtjmError where the folder cannot be used.
    """

    def __init__(self, url: str) -> None:
        # Imported here, since most schedulers have no folder.
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.url = url
        try:
            self._fs, self._root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            todo = "write for instance file:///srv/ftjm or s3://bucket/ftjm; some need a package such as s3fs"
            raise UsageError("a place that fsspec can reach", f"{url!r}: {error}", todo) from error
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def _path(self, name: str) -> str:
        if name and not NAME.fullmatch(name):
            todo = "do not use what names it: it does not come from ftjm"
            raise FtjmError(f"the name of a file in {self.url}", f"{name[:200]!r}", todo)
        return f"{self._root.rstrip('/')}/{name}"

    def read(self, name: str, bytes_max: int) -> bytes:
        """The content of a file; of one that is larger, `bytes_max` bytes and one more. Raises FileNotFoundError."""
        data: bytes = self._fs.cat_file(self._path(name), end=bytes_max + 1)
        return data

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self._fs.exists(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, as a whole or not at all, and durably.

        It is written under a temporary name and renamed: not every file system writes a file in one step.

        Raises:
            FtjmError: the file cannot be written.
        """
        folder, _, last = self._path(name).rpartition("/")
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}-{last}"
        try:
            if self._is_local:
                _durably(Path(folder), Path(temporary), Path(folder, last), data)
            else:
                self._fs.makedirs(folder, exist_ok=True)
                self._fs.pipe_file(temporary, data)
                self._fs.mv(temporary, f"{folder}/{last}")
        except OSError as error:
            todo = "look at its free space and its permissions"
            raise FtjmError(f"to write {name} to {self.url}", str(error), todo) from error

    def names(self, under: str = "") -> list[str]:
        """The names of the files in the folder `under`, sorted; none if there is no such folder."""
        path = self._path(under).rstrip("/")
        try:
            found = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        names = [entry["name"].rsplit("/", 1)[-1] for entry in found if entry["type"] == "file"]
        return sorted(name for name in names if not name.startswith(TEMPORARY))

    def delete(self, name: str) -> None:
        """Delete a file, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))


def _durably(folder: Path, temporary: Path, path: Path, data: bytes) -> None:
    """Write a local file as fsspec does, and sync it and its folders to disk. It must outlive a power loss, since logs
    are trimmed once it is written."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    private_files.make_directory(folder)
    with os.fdopen(private_files.create(temporary), "wb") as file:
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
    """The chunks of one cluster's snapshots: a file for each, in a folder for each partition."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = Folder(url)

    def put(
        self, partition: int, chunks: Iterable[tuple[str, bytes]], stopped: Callable[[], bool] = lambda: False
    ) -> dict[str, int]:
        """Write chunks.

        Args:
            partition: the partition that the chunks belong to.
            chunks: name and content of each.
            stopped: whether to give up.

        Returns:
            Nothing by name: chunks in a folder have no offsets. (The topic of snapshots returns their offsets.)

        Raises:
            TimeoutError: `stopped` before all chunks were written.
        """
        for name, data in chunks:
            if stopped():
                raise TimeoutError("stopped while chunks were written")
            self._folder.write(f"{partition}/{name}", data)
        return {}

    def get(self, partition: int, chunks: Sequence[Chunk]) -> Generator[tuple[Chunk, bytes], None, None]:
        """Read chunks, each once. Raises DamagedSnapshot if one is missing."""
        for chunk in {chunk.name: chunk for chunk in chunks}.values():
            try:
                yield chunk, self._folder.read(f"{partition}/{chunk.name}", CHUNK_BYTES_MAX)
            except FileNotFoundError as error:
                raise DamagedSnapshot(f"chunk {chunk.name} is not in {self.url} any more") from error

    def lacking(self, manifest: Manifest) -> str:
        """The name of a chunk of the snapshot that is missing; empty if none is."""
        found = {*self._folder.names(str(manifest.partition))}
        return next((chunk.name for chunk in manifest.chunks if chunk.name not in found), "")

    def sweep(self, partition: int, kept: Sequence[Manifest]) -> None:
        """Delete the chunks that no manifest needs, but none that is newer than the manifests.

        Args:
            partition: the partition that the chunks belong to.
            kept: the published manifests, newest first.
        """
        for name in deletable_chunks(self._folder.names(str(partition)), kept):
            self._folder.delete(f"{partition}/{name}")
