"""The projection's tables in SQLite: creating, opening, clearing and writing them.

Everything in them can be made again from the log, so they are never migrated: tables of another layout are cleared.

Rows of the engine that are searched (jobs) or large (specs, outcomes) have tables of their own; all others are kept in
`rows`, as the engine reads them. A job's id is made from the place of its `JobSubmitted` in the log, so it is the same
in every projection, and grows with time.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ftjm.core.state.model import STATE_VERSION, JobState
from ftjm.core.state.tables import JOBS, OUTCOMES, SPECS
from ftjm.runtime import private_files

LAYOUT_VERSION = STATE_VERSION * 1_000 + 4
IDS_MAX = 200_000
"""Ids of jobs that are cached, so that their events need no query."""
BUSY_SECONDS = 10.0

AT_KEY = (JobState.PENDING, JobState.READY, JobState.DISPATCHED, JobState.RUNNING)
"""States in which a job has its concurrency key, or waits for it."""

LAYOUT = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- Rows of the engine that are not searched: positions, queues, sessions, peers, counters.
CREATE TABLE rows (key BLOB, partition INTEGER, value BLOB NOT NULL, PRIMARY KEY (key, partition)) WITHOUT ROWID;
-- The id is the place of the job's JobSubmitted in the log: offset * 4096 + partition.
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, state INTEGER NOT NULL,
  submitted_at INTEGER NOT NULL, score INTEGER NOT NULL, place INTEGER NOT NULL, worker TEXT NOT NULL,
  signal INTEGER NOT NULL, labels TEXT NOT NULL, row BLOB NOT NULL, concurrency_key TEXT,
  share TEXT NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state, submitted_at, id);
CREATE INDEX jobs_by_queue ON jobs (queue, state, submitted_at, id);
CREATE INDEX jobs_in_line ON jobs (queue, score, place) WHERE state = {JobState.READY.value};
CREATE INDEX jobs_in_share ON jobs (queue, share, score, place)
  WHERE state = {JobState.READY.value} AND share != '';
CREATE INDEX jobs_at_key ON jobs (queue, concurrency_key, state, score, place)
  WHERE state IN ({", ".join(str(state.value) for state in AT_KEY)}) AND concurrency_key IS NOT NULL;
CREATE TABLE labels (
  name TEXT, value TEXT, submitted_at INTEGER, job INTEGER, PRIMARY KEY (name, value, submitted_at, job)
) WITHOUT ROWID;
CREATE TABLE specs (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE outcomes (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE events (job INTEGER, offset INTEGER, kind INTEGER NOT NULL, PRIMARY KEY (job, offset)) WITHOUT ROWID;
"""
TABLES = ("meta", "rows", "jobs", "labels", "specs", "outcomes", "events")

PARTITIONS_MAX = 4096
TRIMMED_OFFSET = 1 << 47
"""Offsets from here on mark submissions that the log does not have any more."""
JOB, SPEC, OUTCOME = JOBS.prefix, SPECS.prefix, OUTCOMES.prefix


def submission_place(row_id: int) -> tuple[int, int]:
    """Partition and offset of the `JobSubmitted` from which a job's id was made; offset 0 if it was trimmed."""
    offset = row_id // PARTITIONS_MAX
    return row_id % PARTITIONS_MAX, offset if offset < TRIMMED_OFFSET else 0


class IndexedEvent(NamedTuple):
    """The place of a job's event in the log."""

    key: str
    """`queue/job_id`."""
    offset: int
    kind: int
    """OUTPUT or OTHER of `projection`."""


class PartitionChanges(NamedTuple):
    """The changes of one partition that are written together. Jobs are named by their keys, `queue/job_id`."""

    partition: int
    rows: Mapping[bytes, bytes | None] = {}
    """Rows of the engine by their keys; None for a deleted row."""
    submitted: Mapping[str, int] = {}
    """Ids of the jobs that were submitted."""
    forgotten: Iterable[str] = ()
    """Jobs that were forgotten."""
    events: Iterable[IndexedEvent] = ()
    workers: Mapping[str, str] = {}
    """Names of the workers that jobs were sent to."""
    signals: Mapping[str, int] = {}
    """The signals that ended the jobs' newest attempts; 0 for none."""


def connect(path: Path | None, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection to the file, or to a database in memory if there is no path."""
    name = f"file:{path}?mode={'ro' if read_only else 'rwc'}" if path else ":memory:"
    connection = sqlite3.connect(
        name, uri=path is not None, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    connection.execute("PRAGMA temp_store = MEMORY")
    if not read_only:
        connection.execute("PRAGMA cache_size = -65536")
    return connection


class Tables:
    """The projection's file, as its one writer uses it."""

    def __init__(self, path: Path | None) -> None:
        """Open the file; clear it if its layout is another one, and delete it if it is damaged."""
        self.path = path
        self._ids: dict[str, int] = {}
        if path is not None:
            private_files.make_directory(path.parent)
        try:
            self._open()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            self._open()

    def _open(self) -> None:
        self._db = connect(self.path)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        if self.path is not None:
            self._db.execute("PRAGMA journal_mode = WAL")
            # A power loss may cost the newest rows, which the log gives again; it does not damage the file.
            self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != LAYOUT_VERSION:
            self.clear()

    def clear(self) -> None:
        """Delete everything."""
        self._ids.clear()
        with self._transaction():
            for table in TABLES:
                self._db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in LAYOUT.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")

    def drop(self, partition: int) -> None:
        """Delete everything of one partition."""
        self._ids.clear()
        with self._transaction():
            for table, name in (
                ("labels", "job"),
                ("events", "job"),
                ("specs", "id"),
                ("outcomes", "id"),
                ("jobs", "id"),
            ):
                self._db.execute(f"DELETE FROM {table} WHERE {name} % {PARTITIONS_MAX} = ?", (partition,))  # noqa: S608
            self._db.execute("DELETE FROM rows WHERE partition = ?", (partition,))

    def close(self) -> None:
        """Close the writer's connection."""
        self._db.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The writer's own connection, for readers of a database in memory."""
        return self._db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- reading, for folding

    def meta(self, name: str) -> str:
        """The text that was stored under this name; empty if there is none."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def set_meta(self, **values: str) -> None:
        """Store texts by their names."""
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def get(self, partition: int, key: bytes) -> bytes | None:
        """Read a row of the engine."""
        prefix = key[:1]
        if prefix == JOB:
            return self._one("SELECT row FROM jobs WHERE key = ?", key[1:].decode())
        if prefix == SPEC:
            return self._one("SELECT value FROM specs WHERE id = ?", self.id_of(key[1:].decode()))
        if prefix == OUTCOME:
            return self._one("SELECT value FROM outcomes WHERE id = ?", self.id_of(key[1:].decode()))
        return self._one("SELECT value FROM rows WHERE key = ? AND partition = ?", key, partition)

    def _one(self, query: str, *values: object) -> bytes | None:
        found = self._db.execute(query, values).fetchone()
        return found[0] if found else None

    def id_of(self, key: str) -> int | None:
        """The id of the job that has this key now; None if there is none."""
        known = self._ids.get(key)
        if known is None:
            found = self._db.execute("SELECT id FROM jobs WHERE key = ?", (key,)).fetchone()
            if found is None:
                return None
            known = self._remember(key, found[0])
        return known

    def _remember(self, key: str, job_id: int) -> int:
        if len(self._ids) >= IDS_MAX:
            self._ids.clear()
        self._ids[key] = job_id
        return job_id

    # -- writing

    def write(self, everything: Iterable[PartitionChanges]) -> None:
        """Write changes of some partitions in one transaction."""
        try:
            with self._transaction():
                for changes in everything:
                    self._delete_forgotten(changes.forgotten)
                    self._insert_submitted(changes)
                    self._update_rows(changes)
                    self._insert_events(changes)
        except BaseException:
            self._ids.clear()  # some of them may be of jobs that were not written
            raise

    def _delete_forgotten(self, forgotten: Iterable[str]) -> None:
        for key in forgotten:
            job_id = self.id_of(key)
            if job_id is None:  # submitted and forgotten since the last write
                continue
            submitted_at, labels = self._db.execute(
                "SELECT submitted_at, labels FROM jobs WHERE id = ?", (job_id,)
            ).fetchone()
            for name, value in json.loads(labels).items():
                self._db.execute(
                    "DELETE FROM labels WHERE (name, value, submitted_at, job) = (?, ?, ?, ?)",
                    (name, value, submitted_at, job_id),
                )
            self._db.execute("DELETE FROM events WHERE job = ?", (job_id,))
            for table in ("specs", "outcomes", "jobs"):
                self._db.execute(f"DELETE FROM {table} WHERE id = ?", (job_id,))  # noqa: S608  (our own names)
            del self._ids[key]

    def _insert_submitted(self, changes: PartitionChanges) -> None:
        jobs, specs, labels = [], [], []
        for key, job_id in changes.submitted.items():
            row = changes.rows.get(JOB + key.encode())
            if row is None:  # forgotten since the last write
                continue
            job = JOBS.decode(row)
            raw = changes.rows[SPEC + key.encode()]
            assert raw is not None
            spec = SPECS.decode(raw)
            queue = key.partition("/")[0]
            worker, signal = changes.workers.get(key, ""), changes.signals.get(key, 0)
            label_text = json.dumps(spec.labels, ensure_ascii=False) if spec.labels else "{}"
            fields = (job.state.value, job.submitted_at, job.score, job.order, worker, signal, label_text, row)
            jobs.append((job_id, key, queue, *fields, job.concurrency_key or None, job.share))
            specs.append((job_id, raw))
            labels += [(name, value, job.submitted_at, job_id) for name, value in spec.labels.items()]
            self._remember(key, job_id)
        self._db.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", jobs)
        self._db.executemany("INSERT INTO specs VALUES (?, ?)", specs)
        self._db.executemany("INSERT INTO labels VALUES (?, ?, ?, ?)", labels)

    def _update_rows(self, changes: PartitionChanges) -> None:
        jobs, written, deleted = [], [], []
        outcomes: list[tuple[int, bytes]] = []
        deleted_outcomes: list[tuple[int]] = []
        for key, value in changes.rows.items():
            prefix = key[:1]
            if prefix == JOB:
                name = key[1:].decode()
                if value is not None and name not in changes.submitted:
                    job = JOBS.decode(value)
                    read = (changes.workers.get(name), changes.signals.get(name))
                    jobs.append((job.state.value, job.score, job.order, *read, value, self.id_of(name)))
            elif prefix == OUTCOME:
                if (job_id := self.id_of(key[1:].decode())) is None:
                    continue
                if value is not None:
                    outcomes.append((job_id, value))
                else:
                    deleted_outcomes.append((job_id,))
            elif prefix != SPEC:  # a spec never changes: it was written with its job
                if value is not None:
                    written.append((key, changes.partition, value))
                else:
                    deleted.append((key, changes.partition))
        self._db.executemany(
            "UPDATE jobs SET state = ?, score = ?, place = ?, worker = coalesce(?, worker), "
            "signal = coalesce(?, signal), row = ? WHERE id = ?",
            jobs,
        )
        self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", written)
        self._db.executemany("DELETE FROM rows WHERE key = ? AND partition = ?", deleted)
        self._db.executemany("INSERT OR REPLACE INTO outcomes VALUES (?, ?)", outcomes)
        self._db.executemany("DELETE FROM outcomes WHERE id = ?", deleted_outcomes)

    def _insert_events(self, changes: PartitionChanges) -> None:
        found = []
        for key, offset, kind in changes.events:
            job_id = self.id_of(key)
            # A job of the same key that was forgotten before this one was submitted has no events any more.
            if job_id is not None and offset >= submission_place(job_id)[1]:
                found.append((job_id, offset, kind))
        self._db.executemany("INSERT INTO events VALUES (?, ?, ?)", found)
