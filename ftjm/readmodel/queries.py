"""Queries on the projection.

Every answer is bounded, and costs about the same however many jobs there are: lists are read in the order of an index,
from a cursor on, and never counted or skipped through.
"""

# ruff: noqa: S608  (values are bound; only words of this file are put together)

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from ftjm.core.state.model import Checkpoint, Job, JobSpec, JobState, Outcome
from ftjm.core.state.tables import (
    CHECKPOINTS,
    JOBS,
    OUTCOMES,
    SPECS,
)
from ftjm.readmodel.documents.job import JobSummary, job_fields, job_summary
from ftjm.readmodel.projection import OUTPUT
from ftjm.readmodel.row_queries import PAGE_BYTES_MAX, RowReader
from ftjm.readmodel.tables import AT_KEY

PAGE_MAX = 1_000
AHEAD_MAX = 1_000
"""Jobs ahead of another one are counted up to this number."""
HAVING_SHOWN_MAX = 3
"""Jobs that have a concurrency key and are named to one that waits for it."""
LABEL_WINDOW = 2_000
"""Number of jobs with a label that are filtered for one page."""
TIME_END = 1 << 62


class Filter(msgspec.Struct, frozen=True):
    """The filter of a list of jobs. A job must match every given field."""

    queue: str = ""
    states: tuple[JobState, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    submitted_from: int = 0
    """Wall clock, ms."""
    submitted_before: int = 0
    """Wall clock, ms; 0 for no bound."""


class ListedJob(NamedTuple):
    """A job in a list."""

    id: int
    """The job's number in the projection: see `tables`."""
    key: str
    """`queue/job_id`."""
    worker: str
    """Name of the worker that the newest attempt was sent to; empty if there is none."""
    signal: int
    """The signal that ended the newest attempt; 0 for none."""
    labels: str
    """JSON."""
    job: Job

    @property
    def queue(self) -> str:
        """The name of the job's queue."""
        return self.key.partition("/")[0]

    def summary(self) -> JobSummary:
        """The job as the document of a list."""
        return job_summary(self.key, self.job, msgspec.json.decode(self.labels), self.worker)


class StoredJob(NamedTuple):
    """Everything that the projection holds of a job."""

    listed: ListedJob
    spec: JobSpec
    outcome: Outcome
    checkpoint: Checkpoint

    def fields(self) -> dict[str, Any]:
        """The fields of the job's document."""
        listed = self.listed
        return job_fields(
            listed.key,
            listed.job,
            self.spec,
            self.outcome,
            self.checkpoint,
            worker=listed.worker,
            signal=listed.signal,
        )


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """The last job of a page. The next page begins behind it, whatever was submitted, changed or forgotten since."""

    submitted_at: int
    id: int

    def encode(self) -> str:
        """The cursor as a text that fits into a URL."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(self)).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read what `encode` made. Raises ValueError for any other text."""
        wrong = f"expected a cursor, which is the `next` of an earlier page, but found {text!r}; copy it from there"
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            found = msgspec.msgpack.decode(raw, type=cls)
        except (ValueError, msgspec.MsgspecError) as error:
            raise ValueError(wrong) from error
        if not (0 <= found.submitted_at <= TIME_END and 0 <= found.id <= TIME_END):
            raise ValueError(wrong)
        return found


class AtKey(NamedTuple):
    """How a job stands that waits for its concurrency key."""

    having: list[ListedJob]
    """The first of the jobs that have the key, those with a worker first."""
    ahead: int
    """Jobs that wait for the key and get it before this one, counted up to `AHEAD_MAX`."""


START = Cursor(TIME_END, TIME_END)


class Page(NamedTuple):
    """Jobs, newest first, and the cursor of the next page. A page may be shorter than the limit, even empty."""

    jobs: list[ListedJob]
    next: Cursor | None


class Reader(RowReader):
    """Queries over one connection, which one thread at a time may use."""

    # -- lists of jobs

    def jobs(self, wanted: Filter, limit: int, behind: Cursor = START) -> Page:
        """Read a page of the jobs that match, newest submission first.

        Args:
            wanted: the filter.
            limit: jobs of the page, at most; `PAGE_MAX` bounds it.
            behind: the cursor of the page.
        """
        limit = min(limit, PAGE_MAX)
        if wanted.submitted_before and wanted.submitted_before <= behind.submitted_at:
            behind = min(behind, Cursor(wanted.submitted_before - 1, TIME_END), key=lambda p: (p.submitted_at, p.id))
        return self._labelled(wanted, limit, behind) if wanted.labels else self._by_state(wanted, limit, behind)

    def _by_state(self, wanted: Filter, limit: int, behind: Cursor) -> Page:
        """Merge a range of the index for each state. Ranges have the page's order, so the limit bounds the cost."""
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
        return self._page(f"WHERE id IN ({picked}) ORDER BY submitted_at DESC, id DESC", [*values, limit + 1], limit)

    def _labelled(self, wanted: Filter, limit: int, behind: Cursor) -> Page:
        """Filter the newest `LABEL_WINDOW` jobs that have the first label."""
        (name, value), others = wanted.labels[0], wanted.labels[1:]
        window = (
            "SELECT job, submitted_at FROM labels WHERE name = ? AND value = ? AND (submitted_at, job) < (?, ?) "
            "AND submitted_at >= ? ORDER BY submitted_at DESC, job DESC LIMIT ?"
        )
        bounds = (name, value, behind.submitted_at, behind.id, wanted.submitted_from)
        last = self._db.execute(f"{window} OFFSET ?", (*bounds, 1, LABEL_WINDOW - 1)).fetchone()
        conditions, values = [f"id IN (SELECT job FROM ({window}))"], [*bounds, LABEL_WINDOW]
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
        page = self._page(
            f"WHERE {' AND '.join(conditions)} ORDER BY submitted_at DESC, id DESC LIMIT ?", [*values, limit + 1], limit
        )
        return page if page.next or not last else page._replace(next=Cursor(last[1], last[0]))

    def _page(self, clause: str, values: Iterable[object], limit: int) -> Page:
        """The jobs that a clause picks and orders, bounded in number and bytes. Reads rows once it knows the page."""
        found = self._db.execute(
            f"SELECT id, submitted_at, length(labels) + length(row) FROM jobs {clause}", tuple(values)
        )
        ids: list[int] = []
        cursor, size = START, 0
        for id_, submitted_at, one in found:
            if len(ids) == limit or size >= PAGE_BYTES_MAX:
                break
            ids.append(id_)
            cursor, size = Cursor(submitted_at, id_), size + one
        else:
            cursor = START
        picked = f"WHERE id IN ({', '.join('?' * len(ids))}) ORDER BY submitted_at DESC, id DESC"
        return Page(self._listed(picked, ids), None if cursor == START else cursor)

    def _listed(self, clause: str, values: Iterable[object]) -> list[ListedJob]:
        rows = self._db.execute(f"SELECT id, key, worker, signal, labels, row FROM jobs {clause}", tuple(values))
        return [
            ListedJob(id_, key, worker, signal, labels, JOBS.decode(row))
            for id_, key, worker, signal, labels, row in rows
        ]

    # -- one job

    def job(self, queue: str, job_id: str) -> StoredJob | None:
        """Read a job; None if there is none."""
        found = self._listed("WHERE key = ?", [f"{queue}/{job_id}"])
        if not found:
            return None
        (spec,) = self._db.execute("SELECT value FROM specs WHERE id = ?", (found[0].id,)).fetchone() or (b"",)
        if not spec:  # it was forgotten between the two queries
            return None
        outcome = self._db.execute("SELECT value FROM outcomes WHERE id = ?", (found[0].id,)).fetchone()
        key = CHECKPOINTS.prefix + found[0].key.encode()
        checkpoint = self._db.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        return StoredJob(
            found[0],
            SPECS.decode(spec),
            OUTCOMES.decode(outcome[0]) if outcome else Outcome(),
            CHECKPOINTS.decode(checkpoint[0]) if checkpoint else Checkpoint(),
        )

    def events(self, job: int, behind: int, limit: int) -> list[int]:
        """Offsets of events of a job, oldest first.

        Args:
            job: the job's id.
            behind: only offsets behind this one.
            limit: offsets, at most.
        """
        query = "SELECT offset FROM events WHERE job = ? AND offset > ? ORDER BY offset LIMIT ?"
        return [row[0] for row in self._db.execute(query, (job, behind, limit))]

    def outputs(self, job: int, limit: int = 20_000) -> list[int]:
        """Offsets of the events that hold the output of the newest attempts of the job with this id, oldest first."""
        query = "SELECT offset FROM events WHERE job = ? AND kind = ? ORDER BY offset DESC LIMIT ?"
        return [row[0] for row in self._db.execute(query, (job, OUTPUT, limit))][::-1]

    def ahead(self, queue: str, job: Job, share: str | None = None) -> int:
        """How many READY jobs are served before this one, counted up to `AHEAD_MAX`.

        Args:
            queue: the job's queue.
            job: the job.
            share: count only jobs of this share; None for all of the queue.
        """
        line = f"queue = ? AND state = {JobState.READY.value}"
        of: tuple[str, ...] = (queue,)
        if share is not None:
            line, of = f"{line} AND share {'!=' if share else '='} '' AND share = ?", (queue, share)
        query = (
            f"SELECT count(*) FROM (SELECT 1 FROM jobs WHERE {line} AND score < ? UNION ALL "
            f"SELECT 1 FROM jobs WHERE {line} AND score = ? AND place < ? LIMIT ?)"
        )
        values = (*of, job.score, *of, job.score, job.order, AHEAD_MAX)
        return int(self._db.execute(query, values).fetchone()[0])

    def waits_in_share(self, queue: str, share: str) -> bool:
        """Whether a job of the share is READY."""
        line = f"queue = ? AND state = {JobState.READY.value} AND share {'!=' if share else '='} '' AND share = ?"
        return self._db.execute(f"SELECT 1 FROM jobs WHERE {line} LIMIT 1", (queue, share)).fetchone() is not None

    def at_key(self, queue: str, job: Job) -> AtKey:
        """The jobs that have the concurrency key of a job, and those that get it before this one."""
        of_key = "queue = ? AND concurrency_key = ? AND state"
        having = f"WHERE {of_key} IN (?, ?, ?) ORDER BY state DESC, place LIMIT ?"
        values = (queue, job.concurrency_key, *(state.value for state in AT_KEY if state is not JobState.PENDING))
        before = (
            f"SELECT count(*) FROM (SELECT 1 FROM jobs WHERE {of_key} = {JobState.PENDING.value} "
            "AND (score, place) < (?, ?) LIMIT ?)"
        )
        count = self._db.execute(before, (queue, job.concurrency_key, job.score, job.order, AHEAD_MAX)).fetchone()[0]
        return AtKey(self._listed(having, (*values, HAVING_SHOWN_MAX)), int(count))

    def oldest_ready(self, queue: str) -> int:
        """When the READY job of the queue that waits longest was submitted, ms; 0 if no job is READY."""
        query = "SELECT min(submitted_at) FROM jobs WHERE queue = ? AND state = ?"
        return int(self._db.execute(query, (queue, JobState.READY.value)).fetchone()[0] or 0)
