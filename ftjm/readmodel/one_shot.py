"""The projection made once, from the log as it is now: for verbs of the command line, where no API runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftjm.adapters.kafka.patience import open_scan
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.identity import partition_for
from ftjm.readmodel.loading import load
from ftjm.readmodel.projection import Projection
from ftjm.readmodel.queries import Reader
from ftjm.readmodel.tables import Tables
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from ftjm.snapshots.repository import open_repository

FLUSH_ROWS = 20_000


@contextmanager
def folded_log(settings: Settings, queue: str = "") -> Iterator[tuple[Reader, int]]:
    """Fold the log into a projection, which is deleted at the end of the block.

    Args:
        queue: fold only the partition of this queue; all partitions if it is empty.

    Yields:
        A reader of the projection, and the number of partitions.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: the log was trimmed, and there is no snapshot.
    """
    with tempfile.TemporaryDirectory(prefix="ftjm-fold-") as directory, open_scan(settings, "events") as scan:
        tables = Tables(Path(directory) / "projection.db")
        try:
            projection = Projection(tables, "", scan.partitions)
            wanted = [partition_for(queue, scan.partitions)] if queue else range(scan.partitions)
            if trimmed := [p for p in wanted if scan.bounds(p)[0] > 0]:
                _load(settings, tables, scan, trimmed)
                projection.reopen()
            starts = projection.starts()
            for record in scan.read({p: starts[p] for p in wanted}):
                projection.apply(record.partition, record.offset, record.key, record.value)
                if projection.waiting > FLUSH_ROWS:
                    projection.flush()
            projection.flush()
            yield Reader(tables.connection), scan.partitions
        finally:
            tables.close()


def _load(settings: Settings, tables: Tables, scan: Scan, trimmed: list[int]) -> None:
    with open_repository(settings) as found:
        if missing := [p for p in trimmed if not load(tables, found, scan, p)]:
            todo = "take them with `ftjm snapshot create --full`, or ask an API that has folded it (--api)"
            raise FtjmError("the log from its beginning, or a snapshot", f"neither of partitions {missing}", todo)
