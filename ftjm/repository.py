"""Where a cluster's snapshots are: manifests in their topic, chunks there or in a folder; and stores made from them."""

from __future__ import annotations

import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from ftjm import logs
from ftjm.adapters.folder import ChunkFolder
from ftjm.adapters.kafka_snapshots import SnapshotTopic
from ftjm.adapters.rocks import DamagedStore, RocksStore
from ftjm.core.keys import Rows
from ftjm.core.state import load_position
from ftjm.engine.snapshot import Chunk, DamagedSnapshot, Manifest, Published, agrees, foreign

log = logs.get(__name__)

WRITERS = 2
"""Threads that check and write what one reads: hashing and writing release the interpreter."""
UNWRITTEN_MAX = 16
"""Chunks that are read and not written yet: what a restore holds in memory."""

Place = SnapshotTopic | ChunkFolder
Progress = Callable[[int, int], None]
"""Told the bytes that are there and those that there will be."""


def quiet(_done: int, _all: int) -> None:
    """Tells nobody."""


class Repository:
    """The snapshots of one cluster. Any thread may use it. Raises KafkaException where Kafka does not answer."""

    def __init__(self, kafka: Mapping[str, Any], cluster: str, log_id: str, place: str) -> None:
        """`place` is the URL of a folder for chunks, or empty for the topic. Clusters may share one."""
        self.log_id = log_id
        self._topic = SnapshotTopic(kafka, f"{cluster}.snapshots")
        self._folders: dict[str, ChunkFolder] = {}
        self._damaged = 0
        self._unusable: set[tuple[int, int, int]] = set()
        """Snapshots that were found so by this process: their partition, batch and time."""
        self.place: Place = self._at(f"{place.rstrip('/')}/{cluster}-{log_id}") if place else self._topic

    def close(self) -> None:
        """To be called once nobody uses it any more."""
        self._topic.close()

    @property
    def damaged(self) -> int:
        """Snapshots that could not be used, since this process began."""
        return self._damaged

    def _at(self, url: str) -> Place:
        if not url:
            return self._topic
        if url not in self._folders:
            self._folders[url] = ChunkFolder(url)
        return self._folders[url]

    def find(self, partition: int) -> tuple[list[Published], list[str]]:
        """The manifests that are kept, newest first, and names of chunks that no manifest in the topic holds yet."""
        return self._topic.find(partition)

    def manifests(self, partition: int) -> list[Manifest]:
        """Those of the kept manifests that can be read, newest first."""
        found = []
        for published in self.find(partition)[0]:
            if published.manifest is not None:
                found.append(published.manifest)
            else:
                self._tell(partition, None, f"the manifest at offset {published.offset} cannot be read")
        return found

    def since(self, partition: int, start: int) -> tuple[list[Manifest], int]:
        """Those that were published at this offset of the topic or behind it, oldest first, and where to look on."""
        return self._topic.since(partition, start)

    def end(self, partition: int) -> int:
        """The offset in the topic behind all that was published."""
        return self._topic.end(partition)

    def _tell(self, partition: int, manifest: Manifest | None, reason: str) -> None:
        self._damaged += 1
        batch = manifest.batch_no if manifest else None
        log.error("snapshot_unusable", partition=partition, batch=batch, reason=reason, todo="using the one before it")

    def give_up(self, manifest: Manifest, reason: str) -> None:
        """Remember that nothing can be made of a snapshot, and tell of it."""
        self._unusable.add(_identity(manifest))
        self._tell(manifest.partition, manifest, reason)

    def usable(self, manifest: Manifest) -> bool:
        """Whether nobody has found the opposite."""
        return _identity(manifest) not in self._unusable

    def lacking(self, manifest: Manifest) -> str:
        """The name of a chunk that the snapshot's place has lost; empty where it has all, or none can be lost."""
        return self._at(manifest.place).lacking(manifest)

    def chunks(self, manifest: Manifest) -> Iterator[tuple[Chunk, bytes]]:
        """The snapshot's chunks, each once and checked by its hash. Raises DamagedSnapshot."""
        for chunk, data in self._at(manifest.place).get(manifest.partition, list(manifest.chunks)):
            _check(chunk, data)
            yield chunk, data

    def fetch(self, manifest: Manifest, into: Path, progress: Progress = quiet) -> None:
        """The snapshot's files in the empty directory `into`, each chunk checked by its hash.

        Raises DamagedSnapshot, OSError.
        """
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        files = [os.open(into / file.name, os.O_CREAT | os.O_WRONLY, 0o644) for file in manifest.files]
        try:
            for descriptor, file in zip(files, manifest.files, strict=True):
                at = 0
                for chunk in file.chunks:
                    places[chunk.name].append((descriptor, at))
                    at += chunk.size
            self._fill(manifest, places, progress)
        finally:
            for descriptor in files:
                os.close(descriptor)

    def _fill(self, manifest: Manifest, places: Mapping[str, list[tuple[int, int]]], progress: Progress) -> None:
        room, done, size = threading.Semaphore(UNWRITTEN_MAX), 0, manifest.size
        writes: list[Future[None]] = []
        chunks = self._at(manifest.place).get(manifest.partition, list(manifest.chunks))
        # The generator is closed in this thread, whatever a writer finds.
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
    def opened(self, manifest: Manifest, directory: Path, progress: Progress = quiet) -> Iterator[RocksStore]:
        """The snapshot as a store in a directory that must not be there yet. Raises DamagedSnapshot, OSError."""
        directory.mkdir(parents=True)
        self.fetch(manifest, directory, progress)
        try:
            store = RocksStore(directory, read_only=True)
        except DamagedStore as error:
            raise DamagedSnapshot(f"its files are no sound store: {error}") from error
        with closing(store):
            try:
                if not agrees(manifest, load_position(store)):
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
        """Make the store at `path` (replacing what is there) from the newest snapshot that is sound, and what it was.

        None, and nothing changed, where there is no such snapshot. What is wrong with newer ones is logged; that they
        were dropped meanwhile, for one that is newer still, is not.

        Args:
            unfit: why the restored rows are not what is needed, such as no child of the log; None if they are.
            usable: which of the snapshots are looked at at all.
        """
        new = path.with_name(f"{path.name}.restoring")
        left = self.manifests(partition)
        newest = left[:1]
        while left:
            manifest = left.pop(0)
            if not usable(manifest):
                continue
            shutil.rmtree(new, ignore_errors=True)
            if wrong := foreign(manifest, self.log_id):
                self._tell(partition, manifest, wrong)
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


def _identity(manifest: Manifest) -> tuple[int, int, int]:
    return manifest.partition, manifest.batch_no, manifest.taken_at


def _check(chunk: Chunk, data: bytes) -> None:
    if len(data) != chunk.size or sha256(data).hexdigest() != chunk.digest:
        raise DamagedSnapshot(f"chunk {chunk.name} has other content than its name says")


def _write(chunk: Chunk, data: bytes, places: list[tuple[int, int]]) -> None:
    _check(chunk, data)
    for descriptor, at in places:
        os.pwrite(descriptor, data, at)
