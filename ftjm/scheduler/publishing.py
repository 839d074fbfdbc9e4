"""A leader's part in the snapshots of its partition: when one is due, and its manifest, by the fenced writer."""

from __future__ import annotations

import time

from ftjm import logs
from ftjm.adapters.kafka_log import KafkaWriter
from ftjm.adapters.rocks import RocksStore
from ftjm.engine.partition import Partition
from ftjm.scheduler.context import Context
from ftjm.scheduler.snapshots import Shelf
from ftjm.scheduler.steady import SteadyClock

AGAIN_SECONDS = 10.0
"""After a snapshot that failed."""
TIDY_SECONDS = 3_600.0
"""Between looks at what may be trimmed where no snapshot is due."""


class Publishing:
    """Of one leadership, on its thread; what takes long is the snapshotter's."""

    def __init__(self, context: Context, partition: Partition, writer: KafkaWriter, clock: SteadyClock) -> None:
        self._context = context
        self._partition = partition
        self._writer = writer
        self._clock = clock
        self._number = partition.policy.partition
        self._topic = context.settings.topic("snapshots")
        self._began_ms = clock.now()
        self._tidied_at = time.monotonic()
        assert isinstance(partition.store, RocksStore)
        self._shelf = Shelf(self._number, partition.store)
        context.wishes.pop(self._number, None)
        context.snapshotter.order(self._shelf, self._began_ms)

    def step(self) -> None:
        """Publish what is ready, and ask for what is due.

        Raises: Fenced, CommitUnknown; DamagedStore where reading the store has shown that it has to be made anew.
        """
        shelf = self._shelf
        if shelf.damage is not None:
            raise shelf.damage
        if shelf.busy or time.monotonic() - shelf.failed_at < AGAIN_SECONDS:
            return
        if shelf.draft is not None:
            self._publish()
        elif shelf.kept is None:
            self._context.snapshotter.order(shelf, self._clock.now())
        elif self._due():
            # What one lacks that is there, others may have in common with it.
            shelf.full = self._context.wishes.pop(self._number, False) or bool(shelf.unusable)
            self._context.snapshotter.order(shelf, self._clock.now())
        elif time.monotonic() - self._tidied_at > TIDY_SECONDS:
            self._tidy()

    def close(self) -> None:
        """The leadership has ended."""
        self._shelf.over = True

    def _due(self) -> bool:
        position, newest, leadership = self._partition.position, self._shelf.newest, self._partition.leadership
        if leadership is None or position.owner_epoch != leadership.epoch:
            return False  # our first batch is still to be written, and names of chunks tell owners apart by it
        settings = self._context.settings
        at, batch, since = (newest.applied_offset, newest.batch_no, newest.taken_at) if newest else (0, 0, 0)
        if self._context.wishes.get(self._number) or self._shelf.unusable:
            return True
        if position.batch_no == batch:
            self._context.wishes.pop(self._number, None)
            return False
        if self._number in self._context.wishes or position.applied_offset - at >= settings.snapshot_events:
            return True
        return self._clock.now() - (since or self._began_ms) >= settings.snapshot_seconds * 1000

    def _publish(self) -> None:
        shelf, draft = self._shelf, self._shelf.draft
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
        self._context.snapshotter.published(shelf, draft, offset)
        self._tidy()
        self._context.metrics.snapshot_pause_seconds.observe(time.monotonic() - began)

    def _tidy(self) -> None:
        """A month of audit would go at once by a clock that is a month ahead: of one that is in doubt, nothing goes."""
        self._tidied_at = time.monotonic()
        self._context.snapshotter.tidy(self._shelf, self._clock.now() if self._context.clock.right else None)
