"""The repository of a cluster's snapshots: finding, reading and restoring them.

Manifests are records of the topic `<cluster>.snapshots`, one for each snapshot, published in a transaction of the
partition's fenced owner. Chunks are records of the same topic, or files in a folder or object store
(`<place>/<cluster>-<log id>/<partition>/<chunk name>`); a manifest names the place of its chunks.

Nothing that is read is trusted: a chunk's content is compared with the hash in its name, every block of the restored
store with its checksum, and the store's position with the manifest. Where one of them differs, the snapshot is given up
and the one before it is tried. Names of files and places of chunks may lead nowhere else: see `places.py`.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ftjm.adapters.files.folder import ChunkFolder
from ftjm.adapters.kafka.offsets import topic_id
from ftjm.adapters.kafka.patience import QUIET, patiently
from ftjm.adapters.kafka.snapshot_topic import SnapshotTopic
from ftjm.adapters.rocksdb import DamagedStore, RocksStore
from ftjm.core.state.migrations import migrate_store
from ftjm.core.state.model import STATE_VERSION
from ftjm.core.state.rows import Rows
from ftjm.core.state.tables import load_position
from ftjm.engine.snapshot import (
    Chunk,
    DamagedSnapshot,
    Manifest,
    Published,
    matches,
    require_sound,
    why_not_restorable,
)
from ftjm.runtime import logs, private_files
from ftjm.runtime.config import Settings
from ftjm.snapshots.places import Places, new_file

log = logs.get(__name__)

PATIENCE_SECONDS = 15.0
"""How long `open_repository` waits for Kafka."""
WRITERS = 2
"""Threads that check and write chunks while another reads them: hashing and writing release the interpreter."""
UNWRITTEN_MAX = 16
"""Chunks that are read and not written yet, which a restore holds in memory."""

ChunkStore = SnapshotTopic | ChunkFolder
Progress = Callable[[int, int], None]
"""Called with the bytes that are restored, and those that there are in all."""


def quiet(_done: int, _all: int) -> None:
    """Ignore the progress."""


class Repository:
    """The snapshots of one cluster. Any thread may use it. Raises LogError where Kafka does not answer."""

    def __init__(self, kafka: Mapping[str, Any], cluster: str, log_id: str, place: str) -> None:
        """Connect when it is first asked for something.

        Args:
            kafka: settings of the client.
            cluster: prefix of the topic's name.
            log_id: id of the topic `events`, whose snapshots these are.
            place: URL of a folder for new chunks, which clusters may share; empty for the topic.
        """
        self.log_id = log_id
        self._topic = SnapshotTopic(kafka, f"{cluster}.snapshots")
        self._damaged = 0
        self._unusable: set[tuple[int, int, int]] = set()
        """Snapshots that this process could not use: their partition, batch and time."""
        self._places = Places(f"{cluster}-{log_id}", place)
        self.place: ChunkStore = self._places.own or self._topic

    def close(self) -> None:
        """Close the connections. No other thread may use it any more."""
        self._topic.close()

    @property
    def damaged(self) -> int:
        """Snapshots that could not be used, since this process began."""
        return self._damaged

    def _at(self, url: str) -> ChunkStore:
        """The place of chunks that a manifest names. Raises DamagedSnapshot if it is no place of this cluster."""
        return self._places.at(url) if url else self._topic

    def find(self, partition: int) -> tuple[list[Published], list[str]]:
        """The kept manifests, newest first, and the names of chunks in the topic that belong to no manifest yet."""
        return self._topic.find(partition)

    def manifests(self, partition: int) -> list[Manifest]:
        """The kept manifests that can be read, newest first."""
        found = []
        for published in self.find(partition)[0]:
            if published.manifest is not None:
                found.append(published.manifest)
            else:
                self._log_unusable(partition, None, f"the manifest at offset {published.offset} cannot be read")
        return found

    def since(self, partition: int, start: int) -> tuple[list[Manifest], int]:
        """Manifests that were published since.

        Args:
            partition: whose.
            start: offset in the topic.

        Returns:
            The manifests at `start` or behind it, oldest first, and the offset for the next call.
        """
        return self._topic.since(partition, start)

    def end(self, partition: int) -> int:
        """The offset in the topic behind everything that was published."""
        return self._topic.end(partition)

    def _log_unusable(self, partition: int, manifest: Manifest | None, reason: str) -> None:
        self._damaged += 1
        batch = manifest.batch_no if manifest else None
        log.error("snapshot_unusable", partition=partition, batch=batch, reason=reason, todo="using the one before it")

    def give_up(self, manifest: Manifest, reason: str) -> None:
        """Remember that a snapshot cannot be used, and log the reason."""
        self._unusable.add(_identity(manifest))
        self._log_unusable(manifest.partition, manifest, reason)

    def usable(self, manifest: Manifest) -> bool:
        """Whether this process has not given the snapshot up."""
        return _identity(manifest) not in self._unusable

    def lacking(self, manifest: Manifest) -> str:
        """The name of a chunk of the snapshot that is missing from its folder; empty if none is."""
        try:
            return self._at(manifest.place).lacking(manifest)
        except DamagedSnapshot:  # nothing is read from such a place, so all chunks are missing
            return next((chunk.name for chunk in manifest.chunks), "")

    def chunks(self, manifest: Manifest) -> Iterator[tuple[Chunk, bytes]]:
        """Read the snapshot's chunks, each once and checked by its hash. Raises DamagedSnapshot."""
        for chunk, data in self._at(manifest.place).get(manifest.partition, list(manifest.chunks)):
            _check(chunk, data)
            yield chunk, data

    def fetch(
        self, manifest: Manifest, into: Path, progress: Progress = quiet, place: ChunkFolder | None = None
    ) -> None:
        """Write the snapshot's files into a directory; each chunk is checked by its hash.

        Args:
            manifest: the manifest of the snapshot.
            into: an empty directory.
            progress: called after each chunk.
            place: where the chunks are; by default, where the manifest says.

        Raises:
            DamagedSnapshot: the manifest is not sound, or a chunk is missing or damaged.
            OSError: the files cannot be written.
        """
        require_sound(manifest)
        if manifest.size > (free := shutil.disk_usage(into).free):
            raise OSError(errno.ENOSPC, f"the snapshot needs {manifest.size} bytes, and the disk has {free}", str(into))
        chunks = (place or self._at(manifest.place)).get(manifest.partition, list(manifest.chunks))
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        files: list[int] = []
        try:
            for file in manifest.files:
                at = 0
                files.append(new_file(into, file.name))
                for chunk in file.chunks:
                    places[chunk.name].append((files[-1], at))
                    at += chunk.size
            self._fill(manifest, chunks, places, progress)
        finally:
            for descriptor in files:
                os.close(descriptor)

    def _fill(
        self,
        manifest: Manifest,
        chunks: Generator[tuple[Chunk, bytes], None, None],
        places: Mapping[str, list[tuple[int, int]]],
        progress: Progress,
    ) -> None:
        room, done, size = threading.Semaphore(UNWRITTEN_MAX), 0, manifest.size
        writes: list[Future[None]] = []
        # The generator is closed in this thread, also when a writer fails.
        with ThreadPoolExecutor(WRITERS) as pool, closing(chunks):
            for chunk, data in chunks:
                room.acquire()
                writing = pool.submit(_write, chunk, data, places[chunk.name])
                writing.add_done_callback(lambda _: room.release())
                writes.append(writing)
                done += chunk.size * len(places[chunk.name])
                progress(done, size)
                if any(one.done() and one.exception() for one in writes[-UNWRITTEN_MAX * 2 :]):
                    break
        for writing in writes:
            writing.result()

    @contextmanager
    def opened(
        self, manifest: Manifest, directory: Path, progress: Progress = quiet, place: ChunkFolder | None = None
    ) -> Iterator[RocksStore]:
        """Open the snapshot as a store. Rows of an earlier version are migrated to this program's version.

        Args:
            manifest: the manifest of the snapshot.
            directory: the directory to write its files to; it must not exist.
            progress: called after each chunk.
            place: where the chunks are; by default, where the manifest says.

        Raises:
            DamagedSnapshot: a chunk is missing or damaged, or the store does not agree with the manifest.
            OSError: the files cannot be written.
        """
        private_files.make_directory(directory.parent)
        directory.mkdir(private_files.DIRECTORY_MODE)
        self.fetch(manifest, directory, progress, place)
        try:
            if manifest.state_version != STATE_VERSION:
                _migrate(manifest, directory)
            store = RocksStore(directory, read_only=True)
        except DamagedStore as error:
            raise DamagedSnapshot(f"its files are no sound store: {error}") from error
        with closing(store):
            try:
                position = load_position(store)
                if not matches(manifest, replace(position, state_version=manifest.state_version)):
                    raise DamagedSnapshot("its store stands elsewhere than its manifest says")
                yield store
            except DamagedStore as error:
                raise DamagedSnapshot(f"its rows cannot be read: {error}") from error

    def restore(
        self,
        partition: int,
        path: Path,
        unfit: Callable[[Rows], str | None] = lambda _: None,
        usable: Callable[[Manifest], bool] = lambda _: True,
        progress: Progress = quiet,
    ) -> Manifest | None:
        """Make a store from the newest sound snapshot.

        A newer snapshot that cannot be used is logged with the reason, unless it was dropped meanwhile for a newer one.

        Args:
            partition: the partition to restore.
            path: directory of the store, which is replaced.
            unfit: returns the reason why restored rows cannot be used (they are not of this log); None if they can.
            usable: whether a snapshot may be tried.
            progress: called after each chunk.

        Returns:
            The manifest of the snapshot; None if there is none that can be used. Then `path` is as it was.
        """
        new = path.with_name(f"{path.name}.restoring")
        left = self.manifests(partition)
        newest = left[:1]
        while left:
            manifest = left.pop(0)
            if not usable(manifest):
                continue
            shutil.rmtree(new, ignore_errors=True)
            if manifest.state_version > STATE_VERSION:
                log.info("snapshot_skipped", partition=partition, batch=manifest.batch_no, reason="of a newer build")
                continue
            if wrong := why_not_restorable(manifest, self.log_id):
                self._log_unusable(partition, manifest, wrong)
                continue
            try:
                with self.opened(manifest, new, progress) as store:
                    store.verify()
                    reason = unfit(store)
            except DamagedSnapshot as error:
                reason = str(error)
            if reason is None:
                shutil.rmtree(path, ignore_errors=True)
                new.rename(path)
                self._unusable.discard(_identity(manifest))
                return manifest
            now = [one.manifest for one in self.find(partition)[0] if one.manifest is not None]
            if now[:1] != newest:
                left, newest = now, now[:1]
            else:
                self.give_up(manifest, reason)
        shutil.rmtree(new, ignore_errors=True)
        return None


@contextmanager
def open_repository(settings: Settings) -> Iterator[Repository]:
    """The snapshots of the cluster that `settings` name, for commands that people call.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: the cluster has no topics, or Kafka refuses.
    """
    kafka = QUIET | settings.kafka_settings("snapshots")
    log_id = patiently(lambda: topic_id(kafka, settings.topic("events")), settings, PATIENCE_SECONDS)
    with closing(Repository(kafka, settings.cluster, log_id, settings.snapshot_place)) as found:
        yield found


def _migrate(manifest: Manifest, directory: Path) -> None:
    """Bring the rows of a snapshot that was fetched to this program's version."""
    with closing(RocksStore(directory)) as store:
        store.verify()
        if load_position(store).state_version != manifest.state_version:
            raise DamagedSnapshot("its store stands elsewhere than its manifest says")
        began = time.monotonic()
        migrate_store(store)
        seconds = round(time.monotonic() - began, 3)
    log.info(
        "snapshot_migrated",
        partition=manifest.partition,
        batch=manifest.batch_no,
        from_version=manifest.state_version,
        to_version=STATE_VERSION,
        seconds=seconds,
    )


def _identity(manifest: Manifest) -> tuple[int, int, int]:
    return manifest.partition, manifest.batch_no, manifest.taken_at


def _check(chunk: Chunk, data: bytes) -> None:
    if len(data) != chunk.size or sha256(data).hexdigest() != chunk.digest:
        raise DamagedSnapshot(f"chunk {chunk.name} has other content than its name states")


def _write(chunk: Chunk, data: bytes, places: list[tuple[int, int]]) -> None:
    _check(chunk, data)
    for descriptor, at in places:
        os.pwrite(descriptor, data, at)
