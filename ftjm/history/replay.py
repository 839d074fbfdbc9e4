"""State rebuilt from the log, as of an offset or a time, and compared with a store.

Replay folds the events of a partition into an empty store that is deleted afterwards. If the log was trimmed, it starts
from a snapshot instead, and folds the events behind it. The result must be the same, byte for byte, as the store of
every scheduler that has folded as far: `verify` compares them.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.records import Record
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide.decision import Policy
from ftjm.core.records.events import BatchClosed
from ftjm.core.state.migrations import can_migrate, migrate, unreadable
from ftjm.core.state.model import JobState, Position
from ftjm.core.state.rows import Rows
from ftjm.core.state.tables import JOBS, QUEUES, load_position
from ftjm.engine.partition import Partition
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import Manifest
from ftjm.history.newest_attempt import newest_attempts
from ftjm.history.store_rows import LAST, Row, open_read_only, read, rows
from ftjm.history.trimmed import WholeLog
from ftjm.readmodel.documents.job import JobSummary, job_summary
from ftjm.runtime.errors import FtjmError

Progress = Callable[[int, int], None]
"""Called with the offset that was reached and the end of the log."""
PROGRESS_EVERY = 5_000
"""Records between two calls of `Progress`."""


class Until(msgspec.Struct, frozen=True):
    """How far to replay. Only whole batches are folded: in the middle of a batch the state is not consistent."""

    offset: int | None = None
    """Fold batches whose last record is at this offset or before it."""
    time_ms: int | None = None
    """Fold batches that were decided at this time or before it."""

    def holds(self, manifest: Manifest) -> bool:
        """Whether a snapshot is not newer than this."""
        return (self.offset is None or manifest.applied_offset <= self.offset) and (
            self.time_ms is None or manifest.taken_at <= self.time_ms
        )

    def passed(self, record: Record) -> bool:
        """Whether this record, and all that follow, are too late. The time of a batch is known when it closes."""
        if self.offset is not None and record.offset > self.offset:
            return True
        if self.time_ms is None or codec.type_of(record.value) is not BatchClosed:
            return False
        closed: BatchClosed = codec.decode(record.value)
        return closed.now > self.time_ms


NOW = Until()
"""Replay to the end of the log."""


class Difference(msgspec.Struct, frozen=True):
    """The first row in which a store differs from the log; `replayed` or `found` is None where it has no such row."""

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
    whole_log: WholeLog | None = None,
    usable: Callable[[Manifest], bool] = lambda _: True,
) -> Iterator[Partition]:
    """Fold a partition's log into a temporary store.

    Replay starts at the beginning of the log, or of the archive of `whole_log`; else at the newest `usable` snapshot.

    Args:
        scan: a scan of the topic `events`.
        partition: the partition to read.
        until: how far to fold.
        log_id: id of the topic, which goes into the store; two stores are equal only if it is the same.
        progress: called now and then.
        whole_log: the source of trimmed records; by default, there is none.
        usable: whether a snapshot may be used.

    Returns:
        A context manager that gives the partition, folded. Its store is deleted at the end.

    Raises:
        FtjmError: the log was trimmed and there is neither an archive nor a snapshot; or it cannot be folded.
    """
    low, end = scan.bounds(partition)
    with tempfile.TemporaryDirectory(prefix="ftjm-replay-") as directory:
        path = Path(directory) / "store"
        if low > 0 and (whole_log is None or not whole_log.archived):
            _restore(partition, path, whole_log, low, lambda one: until.holds(one) and usable(one))
        store = RocksStore(path)
        try:
            folded = Partition(Policy(partition, scan.partitions), store, codec, log_id)
            start = folded.position.applied_offset + 1
            if whole_log and not start:
                records = whole_log.records(scan, "events", [partition])
            else:
                records = scan.read({partition: start}, whole=True)
            _fold(records, folded, until, lambda offset: progress(offset, end) if progress else None)
            yield folded
        finally:
            store.close()


def _restore(
    partition: int, path: Path, whole_log: WholeLog | None, low: int, usable: Callable[[Manifest], bool]
) -> None:
    if whole_log is None or whole_log.restore(partition, path, usable) is None:
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
    """Count the jobs of each queue by their state.

    Returns:
        Queue to the name of a state to the number of jobs; without zeros.
    """
    found: dict[str, dict[str, int]] = {}
    for key, value in store.scan(QUEUES.prefix, QUEUES.end):
        queue = read(key, value)
        numbers = {state.name: queue.value.counts[state] for state in JobState if queue.value.counts[state]}
        found[queue.key] = numbers
    return found


def job_summaries(folded: Partition, records: Iterable[Record]) -> Iterator[JobSummary]:
    """The jobs of a replayed partition, as the documents of a list.

    Args:
        folded: the partition.
        records: the records of its log from the beginning, as far as there are any.
    """
    attempts = newest_attempts(records, folded.position.applied_offset)
    for row in rows(folded.store, JOBS.name):
        worker = attempts.worker(row.key, folded.state.session(row.value.session))
        yield job_summary(row.key, row.value, folded.state.spec(row.key).labels, worker)


def verify(
    scan: Scan, partition: int, path: Path, progress: Progress | None = None, whole_log: WholeLog | None = None
) -> tuple[Position, Difference | None]:
    """Compare a store with the log, at the store's own position.

    A store that its scheduler writes meanwhile is compared as it was flushed last.

    Args:
        scan: a scan of the topic `events`.
        partition: the partition to read.
        path: directory of the store.
        progress: called now and then.
        whole_log: the source of trimmed records.

    Returns:
        The store's position, and the first difference; None if there is no difference.

    Raises:
        FtjmError: see `replayed`; or the store cannot be opened.
        DamagedStore: the store cannot be read.
    """
    live = open_read_only(path)
    try:
        position = load_position(live)
        if position.applied_offset < 0:
            return position, None
        if not can_migrate(position.state_version):
            todo = "start its scheduler, which completes a migration that was broken off, or rebuilds the store"
            raise FtjmError(f"the store {path} with rows that can be read", unreadable(position.state_version), todo)
        until = Until(offset=position.applied_offset)
        with replayed(scan, partition, until, log_id=position.log_id, progress=progress, whole_log=whole_log) as folded:
            return position, difference(folded.store, live)
    finally:
        live.close()


def difference(expected: Rows, found: Rows) -> Difference | None:
    """The first row, in the order of keys, that is not the same in both; None if all are.

    Args:
        expected: rows of this program's version.
        found: rows of this version or an earlier one, which are migrated for the comparison.
    """
    migrated = migrate(found.scan(b"", LAST), load_position(found).state_version)
    for ours, theirs in zip_longest(expected.scan(b"", LAST), migrated):
        if ours == theirs:
            continue
        key = min(row[0] for row in (ours, theirs) if row is not None)
        mine = read(*ours) if ours is not None and ours[0] == key else None
        other = read(*theirs) if theirs is not None and theirs[0] == key else None
        return Difference(key, mine, other)
    return None
