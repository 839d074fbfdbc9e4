"""Projections made without a log: as many jobs as a test wants, in seconds."""

from __future__ import annotations

from pathlib import Path

from ftjm.api.tables import PARTITIONS_MAX, Changes, Mention, Tables
from ftjm.core.model import Job, JobSpec, JobState
from ftjm.core.rows import encode

STATES = list(JobState)
BORN = 1_900_000_000_000


def write_jobs(tables: Tables, first: int, count: int, *, queues: int = 10, per_ms: int = 3) -> None:
    """Jobs number `first` and on: every state, `queues` queues, some labels, several submitted in one millisecond."""
    rows: dict[bytes, bytes | None] = {}
    born, mentions = {}, []
    for n in range(first, first + count):
        key = f"q{n % queues}/job-{n}"
        labels = {"team": f"t{n % 7}", "rare": "yes"} if n % 1_000 == 0 else {"team": f"t{n % 7}"}
        job = Job(STATES[n % len(STATES)], submitted_at=BORN + n // per_ms, order=n, priority=n % 101)
        rows[b"j" + key.encode()] = encode(job)
        rows[b"s" + key.encode()] = encode(JobSpec(command=["true"], labels=labels))
        born[key] = n * 4 * PARTITIONS_MAX + 1
        mentions += [Mention(key, n * 4 + i, i == 3) for i in range(4)]
    tables.write([Changes(1, rows, born, (), mentions, {})])


def generated(path: Path | None, count: int, chunk: int = 20_000) -> Tables:
    """A projection of so many jobs."""
    tables = Tables(path)
    for first in range(0, count, chunk):
        write_jobs(tables, first, min(chunk, count - first))
    return tables
