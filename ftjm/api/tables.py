"""The projection's tables in SQLite: laid out, opened, thrown away, and written a batch at a time.

Everything here can be made again from the log, so nothing is ever migrated: another layout is another file.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ftjm.core.model import STATE_VERSION, Job, JobSpec, JobState

LAYOUT_VERSION = STATE_VERSION * 1_000 + 1
IDS_MAX = 200_000
"""Ids of jobs that are remembered, so that their events need no look-up."""
BUSY_SECONDS = 10.0

LAYOUT = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- Rows of the engine that nobody searches: positions, queues, sessions, peers, counters.
CREATE TABLE rows (key BLOB, partition INTEGER, value BLOB NOT NULL, PRIMARY KEY (key, partition)) WITHOUT ROWID;
-- The id is the place of its JobSubmitted in the log (offset * 4096 + partition): the same in every projection.
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, state INTEGER NOT NULL,
  submitted_at INTEGER NOT NULL, priority INTEGER NOT NULL, place INTEGER NOT NULL, worker TEXT NOT NULL,
  labels TEXT NOT NULL, row BLOB NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state, submitted_at, id);
CREATE INDEX jobs_by_queue ON jobs (queue, state, submitted_at, id);
CREATE INDEX jobs_in_line ON jobs (queue, priority, place) WHERE state = {JobState.READY.value};
CREATE TABLE labels (
  name TEXT, value TEXT, submitted_at INTEGER, job INTEGER, PRIMARY KEY (name, value, submitted_at, job)
) WITHOUT ROWID;
CREATE TABLE specs (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE outcomes (id INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE events (job INTEGER, offset INTEGER, kind INTEGER NOT NULL, PRIMARY KEY (job, offset)) WITHOUT ROWID;
"""
TABLES = ("meta", "rows", "jobs", "labels", "specs", "outcomes", "events")

PARTITIONS_MAX = 4096
TRIMMED = 1 << 47
"""In place of an offset: of submissions that the log does not have any more."""
_decode_job = msgspec.msgpack.Decoder(Job).decode
_decode_spec = msgspec.msgpack.Decoder(JobSpec).decode


def place_of(job_id: int) -> tuple[int, int]:
    """Partition and offset of the `JobSubmitted` that a job's id stands for; offset 0 if it was trimmed."""
    offset = job_id // PARTITIONS_MAX
    return job_id % PARTITIONS_MAX, offset if offset < TRIMMED else 0


class Mention(NamedTuple):
    """An event of a job, by its place in the log."""

    key: str
    offset: int
    kind: int


class Changes(NamedTuple):
    """What one partition contributes to a write."""

    partition: int
    rows: Mapping[bytes, bytes | None]
    """Rows of the engine by their keys; None for those that are gone."""
    born: Mapping[str, int]
    """Ids of jobs that were submitted, by their keys."""
    gone: Iterable[str]
    """Keys of jobs that were forgotten."""
    mentions: Iterable[Mention]
    workers: Mapping[str, str]
    """Names of the workers that jobs were given to, by the jobs' keys."""


def connect(path: Path | None, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the file; without one, to a database in memory."""
    name = f"file:{path}?mode={'ro' if read_only else 'rwc'}" if path else ":memory:"
    connection = sqlite3.connect(
        name, uri=path is not None, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS
    )
    connection.execute("PRAGMA temp_store = MEMORY")
    if not read_only:
        connection.execute("PRAGMA cache_size = -65536")
    return connection


class Tables:
    """The one writer of the projection's file."""

    def __init__(self, path: Path | None) -> None:
        """Opens what is there if its layout is ours and it is sound; makes it anew otherwise."""
        self.path = path
        self._ids: dict[str, int] = {}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            self._open()

    def _open(self) -> None:
        self._db = connect(self.path)
        try:
            self._lay_out()
        except BaseException:
            self._db.close()
            raise

    def _lay_out(self) -> None:
        if self.path is not None:
            self._db.execute("PRAGMA journal_mode = WAL")
            # A power loss may cost the newest rows, which the log gives again; never the file's soundness.
            self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != LAYOUT_VERSION:
            self.clear()

    def clear(self) -> None:
        """Throw everything away."""
        self._ids.clear()
        with self._transaction():
            for table in TABLES:
                self._db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in LAYOUT.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")

    def drop(self, partition: int) -> None:
        """Throw away what there is of one partition."""
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
        self._db.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """For reading what was written, where there is no file that others could open."""
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

    # -- what the fold asks for

    def meta(self, name: str) -> str:
        """A text that was kept under this name; empty if there is none."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def set_meta(self, **values: str) -> None:
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def get(self, partition: int, key: bytes) -> bytes | None:
        """A row of the engine."""
        match key[:1]:
            case b"j":
                found = self._one("SELECT row FROM jobs WHERE key = ?", key[1:].decode())
            case b"s":
                found = self._one("SELECT value FROM specs WHERE id = ?", self.id_of(key[1:].decode()))
            case b"v":
                found = self._one("SELECT value FROM outcomes WHERE id = ?", self.id_of(key[1:].decode()))
            case _:
                found = self._one("SELECT value FROM rows WHERE key = ? AND partition = ?", key, partition)
        return found

    def _one(self, query: str, *values: object) -> bytes | None:
        found = self._db.execute(query, values).fetchone()
        return found[0] if found else None

    def id_of(self, key: str) -> int | None:
        """The id of the job that has this key now."""
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

    def write(self, everything: Iterable[Changes]) -> None:
        """Rows and positions of some partitions in one transaction."""
        try:
            with self._transaction():
                for changes in everything:
                    self._forget(changes.gone)
                    self._bear(changes)
                    self._change(changes)
                    self._mention(changes)
        except BaseException:
            self._ids.clear()  # among them may be some that were not written
            raise

    def _forget(self, gone: Iterable[str]) -> None:
        for key in gone:
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

    def _bear(self, changes: Changes) -> None:
        jobs, specs, labels = [], [], []
        for key, job_id in changes.born.items():
            row = changes.rows.get(b"j" + key.encode())
            if row is None:  # forgotten since
                continue
            job: Job = _decode_job(row)
            raw = changes.rows[b"s" + key.encode()]
            assert raw is not None
            spec: JobSpec = _decode_spec(raw)
            queue = key.partition("/")[0]
            worker = changes.workers.get(key, "")
            shown = json.dumps(spec.labels, ensure_ascii=False) if spec.labels else "{}"
            about = (job.state.value, job.submitted_at, job.priority, job.order, worker, shown, row)
            jobs.append((job_id, key, queue, *about))
            specs.append((job_id, raw))
            labels += [(name, value, job.submitted_at, job_id) for name, value in spec.labels.items()]
            self._remember(key, job_id)
        self._db.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", jobs)
        self._db.executemany("INSERT INTO specs VALUES (?, ?)", specs)
        self._db.executemany("INSERT INTO labels VALUES (?, ?, ?, ?)", labels)

    def _change(self, changes: Changes) -> None:
        jobs, kept, dropped = [], [], []
        outcomes: list[tuple[int, bytes]] = []
        undone: list[tuple[int]] = []
        for key, value in changes.rows.items():
            name = key[1:].decode() if key[:1] in b"jsv" else ""
            match key[:1]:
                case b"j" if value is not None and name not in changes.born:
                    job = _decode_job(value)
                    worker = changes.workers.get(name)
                    jobs.append((job.state.value, job.priority, job.order, worker, value, self.id_of(name)))
                case b"v" if (job_id := self.id_of(name)) is not None:
                    if value is not None:
                        outcomes.append((job_id, value))
                    else:
                        undone.append((job_id,))
                case b"j" | b"s" | b"v":
                    pass
                case _ if value is not None:
                    kept.append((key, changes.partition, value))
                case _:
                    dropped.append((key, changes.partition))
        self._db.executemany(
            "UPDATE jobs SET state = ?, priority = ?, place = ?, worker = coalesce(?, worker), row = ? WHERE id = ?",
            jobs,
        )
        self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", kept)
        self._db.executemany("DELETE FROM rows WHERE key = ? AND partition = ?", dropped)
        self._db.executemany("INSERT OR REPLACE INTO outcomes VALUES (?, ?)", outcomes)
        self._db.executemany("DELETE FROM outcomes WHERE id = ?", undone)

    def _mention(self, changes: Changes) -> None:
        found = []
        for key, offset, kind in changes.mentions:
            job_id = self.id_of(key)
            # Of a job's earlier life, which was forgotten in the same write, nothing is kept.
            if job_id is not None and offset >= place_of(job_id)[1]:
                found.append((job_id, offset, kind))
        self._db.executemany("INSERT INTO events VALUES (?, ?, ?)", found)
