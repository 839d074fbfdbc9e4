"""What is asked of the projection. Every answer is bounded, and costs the same however many jobs there are."""

# ruff: noqa: S608  (values are bound; what is put together are words of our own)

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ftjm.api.projection import OUTPUT
from ftjm.core.keys import POSITION_KEY
from ftjm.core.model import Checkpoint, Job, JobSpec, JobState, Outcome, Position, Queue

PAGE_MAX = 1_000
AHEAD_MAX = 1_000
"""Jobs ahead of another are counted up to here."""
WINDOW = 2_000
"""Of the jobs with a label, so many are looked at for one page."""
TIME_END = 1 << 62

_job = msgspec.msgpack.Decoder(Job).decode
_spec = msgspec.msgpack.Decoder(JobSpec).decode
_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
_outcome = msgspec.msgpack.Decoder(Outcome).decode
_queue = msgspec.msgpack.Decoder(Queue).decode
_position = msgspec.msgpack.Decoder(Position).decode


class Filter(msgspec.Struct, frozen=True):
    """Which jobs; all that is given must hold."""

    queue: str = ""
    states: tuple[JobState, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    submitted_from: int = 0
    """ms."""
    submitted_before: int = 0
    """ms; 0 is no bound."""


class Listed(NamedTuple):
    """A job in a list."""

    id: int
    key: str
    worker: str
    labels: str
    """JSON."""
    job: Job


class Found(NamedTuple):
    """All that is kept of a job."""

    listed: Listed
    spec: JobSpec
    outcome: Outcome
    checkpoint: Checkpoint


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a list was left: behind this job. It stays true whatever is submitted, changed or forgotten since."""

    submitted_at: int
    id: int

    def encode(self) -> str:
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Place:
        """Raises ValueError for what `encode` did not make."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            found = msgspec.msgpack.decode(raw, type=cls)
        except (ValueError, msgspec.MsgspecError) as error:
            raise ValueError("expected a cursor as an earlier page gave it") from error
        if not (0 <= found.submitted_at <= TIME_END and 0 <= found.id <= TIME_END):
            raise ValueError("expected a cursor as an earlier page gave it")
        return found


START = Place(TIME_END, TIME_END)


class Page(NamedTuple):
    """Some jobs, newest first, and where the next page begins; it may be short of the limit, even empty."""

    jobs: list[Listed]
    next: Place | None


class Reader:
    """Queries over one connection; to be used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    # -- lists of jobs

    def jobs(self, wanted: Filter, limit: int, behind: Place = START) -> Page:
        """A page of jobs, newest submission first."""
        limit = min(limit, PAGE_MAX)
        if wanted.submitted_before and wanted.submitted_before <= behind.submitted_at:
            behind = min(behind, Place(wanted.submitted_before - 1, TIME_END), key=lambda p: (p.submitted_at, p.id))
        return self._labelled(wanted, limit, behind) if wanted.labels else self._by_state(wanted, limit, behind)

    def _by_state(self, wanted: Filter, limit: int, behind: Place) -> Page:
        """One seek for each state, each in the order of the page: no number of jobs makes it slower."""
        queue, names = ("queue = ? AND ", [wanted.queue]) if wanted.queue else ("", [])
        one = (
            f"SELECT * FROM (SELECT id, submitted_at FROM jobs WHERE {queue}state = ? "
            "AND (submitted_at, id) < (?, ?) AND submitted_at >= ? ORDER BY submitted_at DESC, id DESC LIMIT ?)"
        )
        states = sorted(set(wanted.states)) or list(JobState)
        bounds = (behind.submitted_at, behind.id, wanted.submitted_from, limit + 1)
        values = [value for state in states for value in (*names, state.value, *bounds)]
        picked = (
            f"SELECT id FROM ({' UNION ALL '.join([one] * len(states))}) ORDER BY submitted_at DESC, id DESC LIMIT ?"
        )
        found = self._listed(
            f"WHERE id IN ({picked}) ORDER BY submitted_at DESC, id DESC",
            [*values, limit + 1],
        )
        jobs = found[:limit]
        return Page(jobs, _place(jobs[-1]) if len(found) > limit else None)

    def _labelled(self, wanted: Filter, limit: int, behind: Place) -> Page:
        """Those with the first label, newest first, of which a bounded number is looked at."""
        (name, value), others = wanted.labels[0], wanted.labels[1:]
        window = (
            "SELECT job, submitted_at FROM labels WHERE name = ? AND value = ? AND (submitted_at, job) < (?, ?) "
            "AND submitted_at >= ? ORDER BY submitted_at DESC, job DESC LIMIT ?"
        )
        bounds = (name, value, behind.submitted_at, behind.id, wanted.submitted_from)
        last = self._db.execute(f"{window} OFFSET ?", (*bounds, 1, WINDOW - 1)).fetchone()
        conditions, values = [f"id IN (SELECT job FROM ({window}))"], [*bounds, WINDOW]
        if wanted.queue:
            conditions.append("queue = ?")
            values.append(wanted.queue)
        if wanted.states:
            conditions.append(f"+state IN ({', '.join('?' * len(wanted.states))})")
            values += [state.value for state in wanted.states]
        for other in others:
            conditions.append(
                "EXISTS (SELECT 1 FROM labels l WHERE (l.name, l.value, l.submitted_at, l.job) "
                "= (?, ?, jobs.submitted_at, jobs.id))"
            )
            values += other
        found = self._listed(
            f"WHERE {' AND '.join(conditions)} ORDER BY submitted_at DESC, id DESC LIMIT ?", [*values, limit + 1]
        )
        jobs = found[:limit]
        if len(found) > limit:
            return Page(jobs, _place(jobs[-1]))
        return Page(jobs, Place(last[1], last[0]) if last else None)

    def _listed(self, clause: str, values: Iterable[object]) -> list[Listed]:
        rows = self._db.execute(f"SELECT id, key, worker, labels, row FROM jobs {clause}", tuple(values))
        return [Listed(id_, key, worker, labels, _job(row)) for id_, key, worker, labels, row in rows]

    # -- one job

    def job(self, queue: str, job_id: str) -> Found | None:
        """A job with what was asked for and what came of it."""
        found = self._listed("WHERE key = ?", [f"{queue}/{job_id}"])
        if not found:
            return None
        (spec,) = self._db.execute("SELECT value FROM specs WHERE id = ?", (found[0].id,)).fetchone() or (b"",)
        if not spec:  # it was forgotten between the two
            return None
        outcome = self._db.execute("SELECT value FROM outcomes WHERE id = ?", (found[0].id,)).fetchone()
        key = b"k" + found[0].key.encode()
        left = self._db.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        return Found(
            found[0],
            _spec(spec),
            _outcome(outcome[0]) if outcome else Outcome(),
            _checkpoint(left[0]) if left else Checkpoint(),
        )

    def events(self, job: int, behind: int, limit: int) -> list[int]:
        """Offsets of the job's events behind one, oldest first."""
        query = "SELECT offset FROM events WHERE job = ? AND offset > ? ORDER BY offset LIMIT ?"
        return [row[0] for row in self._db.execute(query, (job, behind, limit))]

    def outputs(self, job: int, limit: int = 20_000) -> list[int]:
        """Offsets of the events that hold output of the job's newest attempts, oldest first."""
        query = "SELECT offset FROM events WHERE job = ? AND kind = ? ORDER BY offset DESC LIMIT ?"
        return [row[0] for row in self._db.execute(query, (job, OUTPUT, limit))][::-1]

    def ahead(self, queue: str, job: Job) -> int:
        """How many READY jobs of the queue come before it, counted up to `AHEAD_MAX`."""
        line = f"queue = ? AND state = {JobState.READY.value}"
        query = (
            f"SELECT count(*) FROM (SELECT 1 FROM jobs WHERE {line} AND priority > ? UNION ALL "
            f"SELECT 1 FROM jobs WHERE {line} AND priority = ? AND place < ? LIMIT ?)"
        )
        values = (queue, job.priority, queue, job.priority, job.order, AHEAD_MAX)
        return int(self._db.execute(query, values).fetchone()[0])

    # -- queues and partitions

    def queues(self, behind: str, limit: int) -> list[tuple[str, dict[str, int]]]:
        """Queues by name, with the number of their jobs by state, without zeros."""
        query = "SELECT key, value FROM rows WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
        rows = self._db.execute(query, (b"q" + behind.encode(), b"r", limit))
        return [(key[1:].decode(), _counts(_queue(value))) for key, value in rows]

    def positions(self) -> dict[int, Position]:
        """Where each partition stands."""
        rows = self._db.execute("SELECT partition, value FROM rows WHERE key = ?", (POSITION_KEY,))
        return {partition: _position(value) for partition, value in rows}

    def oldest_ready(self, queue: str) -> int:
        """When the queue's longest waiting READY job was submitted, ms; 0 if none waits."""
        query = "SELECT min(submitted_at) FROM jobs WHERE queue = ? AND state = ?"
        return int(self._db.execute(query, (queue, JobState.READY.value)).fetchone()[0] or 0)


def _place(listed: Listed) -> Place:
    return Place(listed.job.submitted_at, listed.id)


def _counts(queue: Queue) -> dict[str, int]:
    return {state.name: queue.counts[state] for state in JobState if queue.counts[state]}
