"""A leader's part in the snapshots of its partition: it decides when one is due, and its fenced writer publishes it."""

from __future__ import annotations

import time

from ftjm.adapters.kafka.partition_log import KafkaWriter
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.model import STATE_VERSION
from ftjm.engine.partition import Partition
from ftjm.engine.snapshot import KEEP, retained
from ftjm.runtime import logs
from ftjm.scheduler.context import Context
from ftjm.scheduler.owner_clock import OwnerClock
from ftjm.scheduler.snapshotter import SnapshotState

RETRY_SECONDS = 10.0
"""Pause after a snapshot that failed."""
CLEAN_UP_SECONDS = 3_600.0
"""Pause between two clean-ups while no snapshot is due."""


class SnapshotPublisher:
    """Publishes the snapshots of one leadership, on its thread. The snapshotter's thread does what takes long."""

    def __init__(self, context: Context, partition: Partition, writer: KafkaWriter, clock: OwnerClock) -> None:
        """Request the snapshots that are published already.

        Args:
            context: what the partitions of the process share.
            partition: the partition that is led here. Its store is a `RocksStore`.
            writer: it has fenced the previous owner.
            clock: the time that the owner decides with.
        """
        self._context = context
        self._partition = partition
        self._writer = writer
        self._clock = clock
        self._number = partition.policy.partition
        self._topic = context.settings.topic("snapshots")
        self._began_ms = clock.wall_ms()
        self._cleaned_up_at = time.monotonic()
        assert isinstance(partition.store, RocksStore)
        self._snapshots = SnapshotState(self._number, partition.store)
        context.snapshot_requests.pop(self._number, None)
        context.snapshotter.order(self._snapshots, self._began_ms)

    def step(self) -> None:
        """Publish a snapshot that is ready, or order one that is due.

        Raises:
            Fenced: another instance owns the partition now.
            CommitUnknown: only a takeover can tell whether the snapshot is published.
            DamagedStore: a part of the store could not be read for a snapshot.
        """
        snapshots = self._snapshots
        snapshots.final_version = self._partition.state.finalized.state_version
        if snapshots.damage is not None:
            raise snapshots.damage
        if snapshots.busy or time.monotonic() - snapshots.failed_at < RETRY_SECONDS:
            return
        if snapshots.draft is not None:
            self._publish()
        elif snapshots.kept is None:
            self._context.snapshotter.order(snapshots, self._clock.wall_ms())
        elif self._due():
            # Usable snapshots may have chunks in common with an unusable one. So the next one uses none of theirs.
            snapshots.full = self._context.snapshot_requests.pop(self._number, False) or bool(snapshots.unusable)
            self._context.snapshotter.order(snapshots, self._clock.wall_ms())
        elif time.monotonic() - self._cleaned_up_at > CLEAN_UP_SECONDS:
            self._clean_up()

    @property
    def is_idle(self) -> bool:
        """Whether no snapshot is being taken, and none waits to be published."""
        return not self._snapshots.busy and self._snapshots.draft is None and self._snapshots.kept is not None

    def close(self) -> None:
        """Note that the leadership has ended: a snapshot that is being taken is dropped."""
        self._snapshots.closed = True

    def _due(self) -> bool:
        """Whether a snapshot should be taken now."""
        position, newest, leadership = self._partition.position, self._snapshots.newest, self._partition.leadership
        if leadership is None or position.owner_epoch != leadership.epoch:
            return False  # before this owner's first batch, its chunks would have the names of the previous owner's
        settings, requests = self._context.settings, self._context.snapshot_requests
        at, batch, since = (newest.applied_offset, newest.batch_no, newest.taken_at) if newest else (0, 0, 0)
        if requests.get(self._number) or self._snapshots.unusable or self._outdated():
            return True
        if position.batch_no == batch:
            requests.pop(self._number, None)
            return False
        if self._number in requests or position.applied_offset - at >= settings.snapshot_events:
            return True
        return self._clock.wall_ms() - (since or self._began_ms) >= settings.snapshot_seconds * 1000

    def _outdated(self) -> bool:
        """Whether the newest snapshot is of another version of rows, or a snapshot is kept that need not be kept."""
        kept = self._snapshots.kept
        if not kept or (len(kept) <= KEEP and kept[0].state_version == STATE_VERSION):
            return False
        return kept[0].state_version != STATE_VERSION or retained(kept, self._snapshots.final_version) != kept

    def _publish(self) -> None:
        snapshots, draft = self._snapshots, self._snapshots.draft
        assert draft is not None
        began = time.monotonic()
        offset = self._writer.publish(self._topic, draft.records)
        logs.get(__name__, partition=self._number).info(
            "snapshot_published",
            batch=draft.manifest.batch_no,
            offset=draft.manifest.applied_offset,
            bytes=draft.manifest.size,
            sent_bytes=draft.sent_bytes,
            seconds=round(time.monotonic() - draft.began, 3),
        )
        self._context.snapshotter.note_published(snapshots, draft, offset)
        self._clean_up()
        self._context.metrics.snapshot_pause_seconds.observe(time.monotonic() - began)

    def _clean_up(self) -> None:
        """Order a clean-up of chunks and logs. The logs are not trimmed while this host's clock is in doubt.

        By a clock that is a month ahead, a month of audit would be deleted at once.
        """
        self._cleaned_up_at = time.monotonic()
        now_ms = self._clock.wall_ms() if self._context.clock.right else None
        self._context.snapshotter.clean_up(self._snapshots, now_ms)
