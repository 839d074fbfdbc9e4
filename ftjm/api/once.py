"""The projection made once, from the log as it is now: for those who ask where no API runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftjm.adapters.kafka_scan import Scan
from ftjm.api.loading import load
from ftjm.api.presence import SCHEDULER_SECONDS, Presence
from ftjm.api.projection import Projection
from ftjm.api.queries import Reader
from ftjm.api.tables import Tables
from ftjm.clock import wall_ms
from ftjm.config import Settings
from ftjm.core.identity import partition_for
from ftjm.errors import FtjmError
from ftjm.jobhistory import open_scan
from ftjm.past import repository

FLUSH_ROWS = 20_000


@contextmanager
def folded(settings: Settings, queue: str = "") -> Iterator[tuple[Reader, int]]:
    """The log (of one queue's partition, where a queue is named) in a projection that is thrown away, and the number
    of partitions.

    Raises Unreachable, FtjmError.
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
                if projection.size > FLUSH_ROWS:
                    projection.flush()
            projection.flush()
            yield Reader(tables.connection), scan.partitions
        finally:
            tables.close()


def _load(settings: Settings, tables: Tables, scan: Scan, trimmed: list[int]) -> None:
    with repository(settings) as found:
        if missing := [p for p in trimmed if not load(tables, found, scan, p)]:
            todo = "take them with `ftjm snapshot create --full`, or ask an API that has folded it (--api)"
            raise FtjmError("the log from its beginning, or a snapshot", f"neither of partitions {missing}", todo)


def heard(settings: Settings) -> Presence:
    """Who was heard lately, by the heartbeats that the log still has. Raises Unreachable, FtjmError."""
    presence = Presence()
    now, here = wall_ms(), time.monotonic()
    since = now - max(int(settings.lease_seconds), SCHEDULER_SECONDS) * 1_000
    with open_scan(settings, "heartbeats", committed=False) as scan:
        for record in scan.read({lane: scan.offset_at(lane, int(since)) for lane in range(scan.partitions)}):
            presence.hear(record.value, here - max(0, now - record.time_ms) / 1_000)
    return presence
