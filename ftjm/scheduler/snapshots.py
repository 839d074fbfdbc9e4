"""Taking snapshots beside the loops: one thread a process, one partition after the other."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ftjm import logs
from ftjm.adapters.kafka_snapshots import manifest_records
from ftjm.adapters.rocks import DamagedStore, RocksStore
from ftjm.engine.snapshot import KEEP, Manifest, superseded
from ftjm.metrics.scheduler import SchedulerMetrics
from ftjm.repository import Repository
from ftjm.scheduler.trimming import Trimmer
from ftjm.sending import Hashes, send

CLOSE_SECONDS_MAX = 5.0


class Shelf:
    """What is published of one partition, as one leadership knows it: nobody else may publish meanwhile."""

    def __init__(self, partition: int, store: RocksStore) -> None:
        self.partition = partition
        self.store = store
        self.kept: list[Manifest] | None = None
        """Newest first, and only those that may be of use; None before somebody has looked."""
        self.unusable: list[Manifest] = []
        """Those that are there as well, and are to go with the next one."""
        self.newest_offset = -1
        """Of the first of `kept`."""
        self.strays: list[str] = []
        self.draft: Draft | None = None
        """A snapshot whose chunks are there, for the leader to publish."""
        self.full = False
        """Whether the next one shall use no chunk of those before it."""
        self.busy = False
        """Whether the thread is at it."""
        self.failed_at = 0.0
        self.damage: DamagedStore | None = None
        """What was found in the store as it was read for a snapshot."""
        self.over = False
        """Whether the leadership has ended: what is under way then has nobody to publish it."""

    @property
    def newest(self) -> Manifest | None:
        return self.kept[0] if self.kept else None


class Draft(NamedTuple):
    """A snapshot that lacks nothing but its manifest."""

    manifest: Manifest
    records: list[tuple[str, bytes | None]]
    began: float
    sent_bytes: int


class Snapshotter:
    """The thread. Leaders ask, and look at their shelf for what came of it."""

    def __init__(
        self, repository: Repository, scratch: Path, metrics: SchedulerMetrics, trimmer: Trimmer, stop: threading.Event
    ) -> None:
        self._repository = repository
        self._scratch = scratch
        self._metrics = metrics
        self._trimmer = trimmer
        self._stop = stop
        self._orders: queue.SimpleQueue[tuple[Shelf, Callable[[Shelf], None]] | None] = queue.SimpleQueue()
        self._hashes: dict[int, Hashes] = {}
        """Of each partition's files."""
        # A process that was killed has left what it had taken: files that no store has any more.
        shutil.rmtree(scratch, ignore_errors=True)
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """After `stop`: returns once the thread has ended, or hangs."""
        self._orders.put(None)
        # A place that hangs must not keep the process from ending.
        self._thread.join(CLOSE_SECONDS_MAX)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def order(self, shelf: Shelf, now_ms: int) -> None:
        """Find out what is published; where that is known, take a snapshot, at this time by the owner's clock."""
        self._put(shelf, self._look if shelf.kept is None else partial(self._take, now_ms))

    def tidy(self, shelf: Shelf, now_ms: int | None) -> None:
        """Delete what is needed no longer; nothing of the logs where nobody knows how late it is."""
        self._put(shelf, partial(self._tidy, now_ms))

    def published(self, shelf: Shelf, draft: Draft, offset: int) -> None:
        """The leader has committed the draft's manifest, at this offset of the topic."""
        assert shelf.kept is not None
        shelf.kept = [draft.manifest, *shelf.kept[: KEEP - 1]]
        shelf.newest_offset, shelf.strays, shelf.unusable, shelf.draft = offset, [], [], None
        self._metrics.snapshot_seconds.observe(time.monotonic() - draft.began)
        self._metrics.snapshot_bytes.inc(draft.sent_bytes)

    def _put(self, shelf: Shelf, job: Callable[[Shelf], None]) -> None:
        shelf.busy = True
        self._orders.put((shelf, job))

    def _run(self) -> None:
        while (order := self._orders.get()) is not None and not self._stop.is_set():
            shelf, job = order
            log = logs.get(__name__, partition=shelf.partition)
            try:
                if not shelf.over:
                    job(shelf)
            except Exception as error:  # noqa: BLE001  (a snapshot is never worth a partition)
                if not self._stopped(shelf):
                    shelf.failed_at = time.monotonic()
                    self._metrics.snapshots_failed.inc()
                    log.warning("snapshot_failed", error=f"{type(error).__name__}: {error}", todo="trying again later")
            finally:
                shelf.busy = False

    def _stopped(self, shelf: Shelf) -> bool:
        return self._stop.is_set() or shelf.over

    def _tidy(self, now_ms: int | None, shelf: Shelf) -> None:
        for manifest in shelf.kept or ():
            if chunk := self._repository.lacking(manifest):
                self._repository.give_up(manifest, f"chunk {chunk} is not in {manifest.place} any more")
                shelf.kept = None  # to be looked at anew, and to be mended by a full one
        if shelf.kept:
            try:
                if now_ms is not None:
                    self._trimmer.trim(shelf.partition, shelf.kept, now_ms, partial(self._stopped, shelf))
            finally:
                self._repository.place.sweep(shelf.partition, shelf.kept)

    def _look(self, shelf: Shelf) -> None:
        found, shelf.strays = self._repository.find(shelf.partition)
        readable = [(p.offset, p.manifest) for p in found if p.manifest is not None]
        usable = [(offset, manifest) for offset, manifest in readable if self._repository.usable(manifest)]
        shelf.unusable = [manifest for _, manifest in readable if not self._repository.usable(manifest)]
        shelf.newest_offset = usable[0][0] if usable else -1
        shelf.kept = [manifest for _, manifest in usable]

    def _take(self, now_ms: int, shelf: Shelf) -> None:
        began = time.monotonic()
        directory = self._scratch / f"{shelf.partition}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            shelf.store.checkpoint(directory)
            known, stopped = self._hashes.get(shelf.partition), partial(self._stopped, shelf)
            place, newest = self._repository.place, None if shelf.full else shelf.newest
            sent = send(place, shelf.partition, directory, newest, shelf.newest_offset, known, stopped, now_ms)
            # The loop would wait for a leader that is away, and lose its own right to write.
            self._repository.end(shelf.partition)
        except DamagedStore as error:
            shelf.damage = error
            raise
        except BaseException:
            # What it has sent is there, and nobody's: it goes with the next one, once it is found.
            shelf.kept = None
            raise
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self._hashes[shelf.partition] = sent.hashes
        assert shelf.kept is not None
        gone, names = superseded(sent.manifest, shelf.kept, shelf.strays, shelf.unusable)
        in_topic = [] if place.url else names
        shelf.draft = Draft(sent.manifest, manifest_records(sent.manifest, gone, in_topic), began, sent.bytes)
