"""Opening a partition's store: as it is, restored from a snapshot, or empty before a log that has everything."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException
from structlog.stdlib import BoundLogger

from ftjm.adapters.kafka import LOST
from ftjm.adapters.rocks import RocksStore
from ftjm.core.keys import Rows
from ftjm.core.state import load_position
from ftjm.engine.lineage import lineage
from ftjm.errors import FtjmError
from ftjm.repository import Progress
from ftjm.scheduler.context import Context


def open_store(context: Context, partition: int, path: Path, log: BoundLogger, progress: Progress) -> RocksStore:
    """A store that is a child of the partition's log, and from which the log can be folded on.

    Raises FtjmError where the log was trimmed and no snapshot can be used; DamagedStore; KafkaException.
    """
    store = RocksStore(path)
    try:
        fresh = load_position(store).applied_offset < 0
        reason = None if fresh else _unfit(context, partition, store)
        if not fresh and reason is None:
            return store
    except BaseException:
        store.close()
        raise
    store.close()
    if reason is not None:
        todo = "making it anew from a snapshot or the log"
        log.warning("store_discarded", reason=reason, todo=todo, log_id=context.log.log_id)
    if not _restored(context, partition, path, log, progress):
        _require_whole(context, partition)
        shutil.rmtree(path)
    return RocksStore(path)


def _unfit(context: Context, partition: int, rows: Rows) -> str | None:
    log, at = context.log, load_position(rows).applied_offset
    try:
        return lineage(rows, log.log_id, log.events(partition, at, at + 1), context.codec)
    except KafkaException as error:
        if error.args[0].code() not in LOST:
            raise
        return f"the log cannot be read at its offset {at}: {error.args[0].str()}"


def _restored(context: Context, partition: int, path: Path, log: BoundLogger, progress: Progress) -> bool:
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
    """Without a snapshot, the log must have everything: a gap is never passed over."""
    begin = context.log.begin(partition)
    if begin > 0:
        raise FtjmError(
            f"a snapshot of partition {partition}, or its log from the beginning",
            f"no snapshot that can be used, and a log that begins at offset {begin}",
            "start an instance that has a sound store and run `ftjm snapshot create --full`, or else make the cluster "
            "anew from an export with `ftjm snapshot import`",
        )
