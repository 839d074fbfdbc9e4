"""State rebuilt from the log, as of an offset or a time, and compared with what a store holds."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import msgspec

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Record, Scan
from ftjm.adapters.rocks import RocksStore
from ftjm.core.decide import Policy
from ftjm.core.events import BatchClosed
from ftjm.core.keys import Rows
from ftjm.core.model import JobState, Position
from ftjm.core.state import load_position
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import Manifest
from ftjm.errors import FtjmError
from ftjm.past import Past
from ftjm.storeview import LAST, Row, look, read

Progress = Callable[[int, int], None]
"""Told the offset that was reached and the end."""
PROGRESS_EVERY = 5_000


class Until(msgspec.Struct, frozen=True):
    """How far to replay: only whole batches, since nothing is true between two of them."""

    offset: int | None = None
    """Batches whose last record is at most here."""
    time_ms: int | None = None
    """Batches that were decided by then."""

    def holds(self, manifest: Manifest) -> bool:
        """Whether a snapshot is of then, or of before."""
        return (self.offset is None or manifest.applied_offset <= self.offset) and (
            self.time_ms is None or manifest.taken_at <= self.time_ms
        )

    def passed(self, record: Record) -> bool:
        """Whether this record, and what follows it, is too late. (The records of a batch count when it closes.)"""
        if self.offset is not None and record.offset > self.offset:
            return True
        if self.time_ms is None or codec.type_of(record.value) is not BatchClosed:
            return False
        closed: BatchClosed = codec.decode(record.value)
        return closed.now > self.time_ms


NOW = Until()
"""As of the log's end."""


class Difference(msgspec.Struct, frozen=True):
    """The first row in which a store is not what the log says; None where one has no such row."""

    key: bytes
    replayed: Row | None
    found: Row | None


@contextlib.contextmanager
def replayed(
    scan: Scan,
    partition: int,
    until: Until,
    *,
    log_id: str = "",
    progress: Progress | None = None,
    past: Past | None = None,
    usable: Callable[[Manifest], bool] = lambda _: True,
) -> Iterator[Partition]:
    """The state of a partition as its log makes it, in a store that is thrown away.

    From the log's beginning, with what `past` has of it in an archive; else from the newest `usable` snapshot.

    Raises:
        FtjmError: if neither is to be had, or the log cannot be folded.
    """
    low, end = scan.bounds(partition)
    with tempfile.TemporaryDirectory(prefix="ftjm-replay-") as directory:
        path = Path(directory) / "store"
        if low > 0 and (past is None or not past.archived):
            _restore(partition, path, past, low, lambda one: until.holds(one) and usable(one))
        store = RocksStore(path)
        try:
            folded = Partition(Policy(partition, scan.partitions), store, codec, log_id)
            start = folded.position.applied_offset + 1
            if past and not start:
                records = past.records(scan, "events", [partition])
            else:
                records = scan.read({partition: start}, whole=True)
            _fold(records, folded, until, lambda offset: progress(offset, end) if progress else None)
            yield folded
        finally:
            store.close()


def _restore(partition: int, path: Path, past: Past | None, low: int, usable: Callable[[Manifest], bool]) -> None:
    if past is None or past.restore(partition, path, usable) is None:
        raise FtjmError(
            f"the log of partition {partition} from its beginning, or a snapshot from before the asked time",
            f"a log that begins at offset {low}, and no such snapshot",
            "ask for a later time, see `ftjm snapshot list`, or read the archive with --archive if there is one",
        )


def _fold(records: Iterator[Record], folded: Partition, until: Until, progress: Callable[[int], None]) -> None:
    partition = folded.policy.partition
    for count, record in enumerate(records):
        if until.passed(record):
            break
        try:
            folded.fold(EventRecord(record.offset, record.value))
        except Exception as error:
            found = f"{type(error).__name__} at offset {record.offset}: {error}"
            raise FtjmError(
                f"the log of partition {partition} to be what its owners recorded",
                found,
                "report it with `ftjm inspect events` around this offset; schedulers stop there as well",
            ) from error
        if count % PROGRESS_EVERY == 0:
            progress(record.offset)


def counts(store: Rows) -> dict[str, dict[str, int]]:
    """How many jobs each queue has in each state, by queue and state, without zeros."""
    found: dict[str, dict[str, int]] = {}
    for key, value in store.scan(b"q", b"r"):
        queue = read(key, value)
        numbers = {state.name: queue.value.counts[state] for state in JobState if queue.value.counts[state]}
        found[queue.key] = numbers
    return found


def verify(
    scan: Scan, partition: int, path: Path, progress: Progress | None = None, past: Past | None = None
) -> tuple[Position, Difference | None]:
    """Compare a store with the log at the store's own position; the position, and the first difference if there is one.

    A store that its scheduler writes meanwhile is compared as it was flushed last.
    Raises FtjmError as `replayed`, and if the store cannot be opened; DamagedStore.
    """
    live = look(path)
    try:
        position = load_position(live)
        if position.applied_offset < 0:
            return position, None
        until = Until(offset=position.applied_offset)
        with replayed(scan, partition, until, log_id=position.log_id, progress=progress, past=past) as folded:
            return position, difference(folded.store, live)
    finally:
        live.close()


def difference(expected: Rows, found: Rows) -> Difference | None:
    """The first row, in the order of keys, that is not the same in both."""
    for ours, theirs in zip_longest(expected.scan(b"", LAST), found.scan(b"", LAST)):
        if ours == theirs:
            continue
        key = min(row[0] for row in (ours, theirs) if row is not None)
        mine = read(*ours) if ours is not None and ours[0] == key else None
        other = read(*theirs) if theirs is not None and theirs[0] == key else None
        return Difference(key, mine, other)
    return None
