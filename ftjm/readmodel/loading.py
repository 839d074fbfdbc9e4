"""Loads a partition of the projection from its newest snapshot, if the log no longer begins at its beginning."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import islice
from pathlib import Path

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.records import Record
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.records import events as e
from ftjm.core.state.tables import JOBS, OUTCOMES, OWNER_PREFIXES, POSITION_KEY, SESSIONS, SPECS, load_position
from ftjm.history.newest_attempt import NewestAttempts
from ftjm.readmodel.projection import kind_of
from ftjm.readmodel.tables import PARTITIONS_MAX, TRIMMED_OFFSET, IndexedEvent, PartitionChanges, Tables
from ftjm.snapshots.repository import Repository

WRITE_MAX = 5_000
"""Jobs, or indexed events, of one write."""
LAST_KEY = b"\xff"


def load(tables: Tables, repository: Repository, scan: Scan, partition: int) -> bool:
    """Replace what the tables hold of a partition by the partition's newest snapshot.

    Events before the snapshot that the log still has are indexed, so that histories go back as far as the log does.
    The position is written last: a load that was interrupted is repeated from its beginning.

    Args:
        scan: reads the topic `events`.

    Returns:
        Whether there was a snapshot.

    Raises:
        LogError: Kafka does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="ftjm-load-") as directory:
        path = Path(directory) / "store"
        if repository.restore(partition, path) is None:
            return False
        store = RocksStore(path, read_only=True)
        try:
            tables.drop(partition)
            _SnapshotLoader(tables, store, scan, partition).run()
        finally:
            store.close()
    return True


class _SnapshotLoader:
    """Loads one partition from a restored store."""

    def __init__(self, tables: Tables, store: RocksStore, scan: Scan, partition: int) -> None:
        self._tables = tables
        self._store = store
        self._scan = scan
        self._partition = partition
        self._end = load_position(store).applied_offset + 1

    def run(self) -> None:
        submissions, attempts = self._submissions_and_attempts()
        rows_of_jobs = self._store.scan(JOBS.prefix, JOBS.end)
        while jobs := list(islice(rows_of_jobs, WRITE_MAX)):
            self._write_jobs(jobs, submissions, attempts)
        events = self._indexed_events()
        while some := list(islice(events, WRITE_MAX)):
            self._tables.write([PartitionChanges(self._partition, events=some)])
        self._write_other_rows()

    def _records(self) -> Iterator[Record]:
        """The records of jobs that are in the snapshot, as far as the log still has them."""
        for record in self._scan.read({self._partition: 0}, ends={self._partition: self._end}):
            if record.key:
                yield record

    def _submissions_and_attempts(self) -> tuple[dict[str, int], NewestAttempts]:
        """What the log still has of the jobs of the snapshot: the offsets of submissions, and the newest attempts."""
        submissions: dict[str, int] = {}
        attempts = NewestAttempts()
        for record in self._records():
            kind, key = codec.type_of(record.value), record.key.decode()
            attempts.fold(key, record.value)
            if kind is e.JobForgotten:
                attempts.forget(key)
            elif kind is e.JobSubmitted and self._store.get(JOBS.prefix + record.key) is not None:
                submissions[key] = record.offset
        return submissions, attempts

    def _write_jobs(
        self, jobs: list[tuple[bytes, bytes]], submissions: Mapping[str, int], attempts: NewestAttempts
    ) -> None:
        rows: dict[bytes, bytes | None] = {}
        ids: dict[str, int] = {}
        workers: dict[str, str] = {}
        for key, value in jobs:
            name, job = key[1:], JOBS.decode(value)
            text = name.decode()
            rows[key] = value
            for prefix in (SPECS.prefix, OUTCOMES.prefix):
                if (row := self._store.get(prefix + name)) is not None:
                    rows[prefix + name] = row
            offset = submissions.get(text)
            ids[text] = (trimmed_offset(text) if offset is None else offset) * PARTITIONS_MAX + self._partition
            session = self._store.get(SESSIONS.prefix + job.session.encode()) if job.session else None
            workers[text] = attempts.worker(text, SESSIONS.decode(session) if session else None)
        self._tables.write(
            [PartitionChanges(self._partition, rows, submitted=ids, workers=workers, signals=attempts.signals)]
        )

    def _indexed_events(self) -> Iterator[IndexedEvent]:
        for record in self._records():
            yield IndexedEvent(record.key.decode(), record.offset, kind_of(codec.type_of(record.value)))

    def _write_other_rows(self) -> None:
        """Write all rows that are not written with the jobs; among them the position, so that it is written last."""
        skipped = OWNER_PREFIXES + JOBS.prefix + SPECS.prefix + OUTCOMES.prefix + POSITION_KEY
        rows: dict[bytes, bytes | None] = {
            key: value for key, value in self._store.scan(b"", LAST_KEY) if key[0] not in skipped
        }
        rows[POSITION_KEY] = self._store.get(POSITION_KEY) or b""
        self._tables.write([PartitionChanges(self._partition, rows)])


def trimmed_offset(key: str) -> int:
    """Stand-in for the offset of a submission that the log does not have any more: the same in every projection."""
    return TRIMMED_OFFSET + int.from_bytes(sha256(key.encode()).digest()[:6]) % TRIMMED_OFFSET
