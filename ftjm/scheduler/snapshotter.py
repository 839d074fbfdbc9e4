"""Takes snapshots while the owners keep deciding: one thread in a process, one partition after the other.

A leader orders a snapshot. The thread makes a checkpoint of the store and uploads its chunks: that is a draft. The
leader publishes the draft's manifest with its fenced writer (`scheduler/snapshot_publisher.py`).
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from ftjm.adapters.kafka.snapshot_topic import manifest_records
from ftjm.adapters.rocksdb import DamagedStore, RocksStore
from ftjm.engine.snapshot import Manifest, manifest_key, retained, superseded
from ftjm.runtime import logs
from ftjm.scheduler.log_trimmer import Trimmer
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.snapshots.repository import Repository
from ftjm.snapshots.upload import Hashes, send

CLOSE_SECONDS_MAX = 5.0
"""How long `close` waits for the thread. A folder that does not answer must not keep the process from ending."""


class SnapshotState:
    """The snapshots of one partition, shared by its leader and the snapshotter's thread.

    While `busy` is set, the thread works on it, and the leader changes only `final_version` and `closed`.
    """

    def __init__(self, partition: int, store: RocksStore) -> None:
        self.partition = partition
        self.store = store
        self.kept: list[Manifest] | None = None
        """Published manifests that can be used, newest first; None until they have been read."""
        self.unusable: list[Manifest] = []
        """Published manifests that cannot be used. The next publication deletes them."""
        self.offsets: dict[str, int] = {}
        """Offsets of the manifests in `kept`, by their keys."""
        self.strays: list[str] = []
        """Names of chunks in the topic of snapshots that were never published. The next publication deletes them."""
        self.final_version = 0
        """The version of rows to which an upgrade is final in this partition; the leader sets it."""
        self.draft: Draft | None = None
        """A snapshot whose chunks are stored, for the leader to publish."""
        self.full = False
        """Whether the next snapshot must not use chunks of earlier ones; the leader sets it."""
        self.busy = False
        """Whether an order for this partition waits or is carried out."""
        self.failed_at = 0.0
        """When an order failed last, seconds of the monotonic clock."""
        self.damage: DamagedStore | None = None
        """The error of a store that could not be read for a snapshot."""
        self.closed = False
        """Whether the leadership has ended. Then no draft can be published any more."""

    @property
    def newest(self) -> Manifest | None:
        """The newest manifest that can be used."""
        return self.kept[0] if self.kept else None

    def offset(self, manifest: Manifest) -> int:
        """Return the offset of a manifest in `kept`."""
        return self.offsets[manifest_key(manifest)]


class Draft(NamedTuple):
    """A snapshot whose chunks are stored and whose manifest is not published."""

    manifest: Manifest
    records: list[tuple[str, bytes | None]]
    """Keys and values of the records that publish it."""
    began: float
    """When it was begun, seconds of the monotonic clock."""
    sent_bytes: int
    """Size of the chunks that were sent."""
    final_version: int
    """The `final_version` by which the manifests to keep were chosen."""


class Snapshotter:
    """The thread that takes snapshots. A leader orders one, and finds the result in its `SnapshotState`."""

    def __init__(
        self, repository: Repository, scratch: Path, metrics: SchedulerMetrics, trimmer: Trimmer, stop: threading.Event
    ) -> None:
        """Start the thread.

        Args:
            repository: the snapshots of the cluster.
            scratch: directory for checkpoints, on the disk of the stores. Its content is deleted.
            metrics: receives duration, size and failures.
            trimmer: trims the logs behind published snapshots.
            stop: set when the process ends.
        """
        self._repository = repository
        self._scratch = scratch
        self._metrics = metrics
        self._trimmer = trimmer
        self._stop = stop
        self._orders: queue.SimpleQueue[tuple[SnapshotState, Callable[[SnapshotState], None]] | None] = (
            queue.SimpleQueue()
        )
        self._hashes: dict[int, Hashes] = {}
        """Hashes of the files of each partition's last snapshot."""
        # A process that was killed leaves its checkpoints. They take disk space for files that no store needs any more.
        shutil.rmtree(scratch, ignore_errors=True)
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until the thread has ended, for at most `CLOSE_SECONDS_MAX`. `stop` must be set."""
        self._orders.put(None)
        self._thread.join(CLOSE_SECONDS_MAX)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def order(self, state: SnapshotState, now_ms: int) -> None:
        """Order a snapshot. If `state` does not know yet which snapshots are published, they are read instead.

        Args:
            state: the snapshots of the partition.
            now_ms: the owner's time, ms since the Unix epoch.
        """
        self._put(state, self._read_published if state.kept is None else partial(self._take, now_ms))

    def clean_up(self, state: SnapshotState, now_ms: int | None) -> None:
        """Order to delete chunks that are no longer needed, and to trim the logs.

        Args:
            state: the snapshots of the partition.
            now_ms: the owner's time, ms since the Unix epoch; None if the clock may be wrong: then no log is trimmed.
        """
        self._put(state, partial(self._clean_up, now_ms))

    def note_published(self, state: SnapshotState, draft: Draft, offset: int) -> None:
        """Note that the leader has published a draft.

        Args:
            state: the snapshots of the partition.
            draft: the draft.
            offset: offset of its manifest in the topic.
        """
        assert state.kept is not None
        state.kept = retained([draft.manifest, *state.kept], draft.final_version)
        state.offsets[manifest_key(draft.manifest)] = offset
        state.strays, state.unusable, state.draft = [], [], None
        self._metrics.snapshot_seconds.observe(time.monotonic() - draft.began)
        self._metrics.snapshot_bytes.inc(draft.sent_bytes)

    def _put(self, state: SnapshotState, job: Callable[[SnapshotState], None]) -> None:
        state.busy = True
        self._orders.put((state, job))

    def _run(self) -> None:
        while (order := self._orders.get()) is not None and not self._stop.is_set():
            state, job = order
            log = logs.get(__name__, partition=state.partition)
            try:
                if not state.closed:
                    job(state)
            except Exception as error:  # noqa: BLE001  (a snapshot that fails must not stop the partition)
                if not self._stopped(state):
                    state.failed_at = time.monotonic()
                    self._metrics.snapshots_failed.inc()
                    log.warning("snapshot_failed", error=f"{type(error).__name__}: {error}", todo="trying again later")
            finally:
                state.busy = False

    def _stopped(self, state: SnapshotState) -> bool:
        return self._stop.is_set() or state.closed

    def _clean_up(self, now_ms: int | None, state: SnapshotState) -> None:
        for manifest in state.kept or ():
            if chunk := self._repository.lacking(manifest):
                self._repository.give_up(manifest, f"chunk {chunk} is missing from {manifest.place}")
                state.kept = None  # the published snapshots are read again, and the next one will be a full one
        if state.kept:
            try:
                if now_ms is not None:
                    self._trimmer.trim(state.partition, state.kept, now_ms, partial(self._stopped, state))
            finally:
                self._repository.place.sweep(state.partition, state.kept)

    def _read_published(self, state: SnapshotState) -> None:
        found, state.strays = self._repository.find(state.partition)
        readable = [(p.offset, p.manifest) for p in found if p.manifest is not None]
        usable = [(offset, manifest) for offset, manifest in readable if self._repository.usable(manifest)]
        state.unusable = [manifest for _, manifest in readable if not self._repository.usable(manifest)]
        state.offsets = {manifest_key(manifest): offset for offset, manifest in usable}
        state.kept = [manifest for _, manifest in usable]

    def _take(self, now_ms: int, state: SnapshotState) -> None:
        """Take a snapshot: make a checkpoint, send its chunks, and leave a draft."""
        began = time.monotonic()
        directory = self._scratch / f"{state.partition}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            state.store.checkpoint(directory)
            known, stopped = self._hashes.get(state.partition), partial(self._stopped, state)
            place, newest = self._repository.place, None if state.full else state.newest
            sent = send(place, state.partition, directory, newest, known, stopped, now_ms)
            # Without a leader of the topic's partition this raises. The transaction of the partition's owner would wait
            # for that leader, and the owner would lose its right to write.
            self._repository.end(state.partition)
        except DamagedStore as error:
            state.damage = error
            raise
        except BaseException:
            # The sent chunks are in the topic without a manifest. The published snapshots are read again to find them.
            state.kept = None
            raise
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self._hashes[state.partition] = sent.hashes
        assert state.kept is not None
        final_version = state.final_version
        gone, names = superseded(sent.manifest, state.kept, state.strays, state.unusable, final_version)
        older = [state.offset(one) for one in retained([sent.manifest, *state.kept], final_version)[1:]]
        manifest = replace(sent.manifest, previous=older[0] if older else -1, older=older[1:])
        in_topic = [] if place.url else names
        state.draft = Draft(manifest, manifest_records(manifest, gone, in_topic), began, sent.bytes, final_version)
