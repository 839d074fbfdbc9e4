"""Opens a partition's store: as it is, restored from a snapshot, or empty if the log still has every record."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

from structlog.stdlib import BoundLogger

from ftjm.adapters.kafka.errors import OffsetOutOfRange
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.state.migrations import migrate_store
from ftjm.core.state.model import STATE_VERSION
from ftjm.core.state.rows import Rows
from ftjm.core.state.tables import load_finalized, load_position
from ftjm.core.versions import require_known
from ftjm.engine.lineage import lineage
from ftjm.runtime.errors import FtjmError
from ftjm.scheduler.context import Context
from ftjm.snapshots.repository import Progress


def open_store(context: Context, partition: int, path: Path, log: BoundLogger, progress: Progress) -> RocksStore:
    """Open a store that descends from the partition's log, so that the next records of the log can be folded into it.

    A store that cannot be used is replaced by one from a snapshot, or by an empty one.

    Args:
        context: what the partitions of the process share.
        partition: the partition.
        path: directory of the store.
        log: receives the reports.
        progress: called while a snapshot is restored.

    Raises:
        NewerLogError: the rows of the store say that an upgrade to a newer build is final.
        FtjmError: the log was trimmed, and there is no snapshot that can be used.
        DamagedStore: the files of the store are damaged.
        LogError: Kafka does not answer.
    """
    store = RocksStore(path)
    try:
        position = load_position(store)
        if position.log_id == context.log.log_id:
            # A store of this log whose upgrade is final belongs to the newer build: it must not be discarded.
            require_known(load_finalized(store))
        is_new = position.applied_offset < 0
        reason = None if is_new else _unfit(context, partition, store)
        if not is_new and reason is None:
            _migrate(store, log)
            return store
    except BaseException:
        store.close()
        raise
    store.close()
    if reason is not None:
        todo = "rebuilding the store from a snapshot or the log"
        log.warning("store_discarded", reason=reason, todo=todo, log_id=context.log.log_id)
    if not _restore(context, partition, path, log, progress):
        _require_whole(context, partition)
        shutil.rmtree(path)
    return RocksStore(path)


def _migrate(store: RocksStore, log: BoundLogger) -> None:
    """Migrate the rows of an earlier version to this program's version."""
    began = time.monotonic()
    version = migrate_store(store)
    if version is not None:
        seconds = round(time.monotonic() - began, 3)
        log.info("store_migrated", from_version=version, to_version=STATE_VERSION, seconds=seconds)


def _unfit(context: Context, partition: int, rows: Rows) -> str | None:
    """Return why a store cannot be used for the partition's log; None if it can."""
    log, at = context.log, load_position(rows).applied_offset
    try:
        return lineage(rows, log.log_id, log.events(partition, at, at + 1), context.codec)
    except OffsetOutOfRange as error:
        return f"the log cannot be read at its offset {at}: {error}"


def _restore(context: Context, partition: int, path: Path, log: BoundLogger, progress: Progress) -> bool:
    """Restore the store from the newest snapshot that can be used. Returns whether there is one."""
    began = time.monotonic()
    unfit = partial(_unfit, context, partition)
    manifest = context.repository.restore(partition, path, unfit, progress=progress)
    if manifest is None:
        return False
    seconds = time.monotonic() - began
    context.metrics.restore_seconds.observe(seconds)
    log.info(
        "store_restored",
        batch=manifest.batch_no,
        offset=manifest.applied_offset,
        bytes=manifest.size,
        seconds=round(seconds, 3),
    )
    return True


def _require_whole(context: Context, partition: int) -> None:
    """Raise FtjmError unless the log has every record since the partition began. Without a snapshot, all are needed."""
    begin = context.log.begin(partition)
    if begin > 0:
        raise FtjmError(
            f"a snapshot of partition {partition}, or its log from the beginning",
            f"no snapshot that can be used, and a log that begins at offset {begin}",
            "start an instance that has a sound store and run `ftjm snapshot create --full`, or else make the cluster "
            "anew from an export with `ftjm snapshot import`",
        )
