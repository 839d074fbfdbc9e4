"""Projections that are made without a log: any number of jobs within seconds."""

from __future__ import annotations

from pathlib import Path

from ftjm.core.state.model import Job, JobSpec, JobState
from ftjm.core.state.row_cache import encode
from ftjm.readmodel.tables import PARTITIONS_MAX, IndexedEvent, PartitionChanges, Tables

STATES = list(JobState)
BORN = 1_900_000_000_000


def write_jobs(tables: Tables, first: int, count: int, *, queues: int = 10, per_ms: int = 3) -> None:
    """Jobs number `first` and on: every state, `queues` queues, some labels, several submitted in one millisecond."""
    rows: dict[bytes, bytes | None] = {}
    submitted, events = {}, []
    for n in range(first, first + count):
        key = f"q{n % queues}/job-{n}"
        labels = {"team": f"t{n % 7}", "rare": "yes"} if n % 1_000 == 0 else {"team": f"t{n % 7}"}
        job = Job(STATES[n % len(STATES)], submitted_at=BORN + n // per_ms, order=n, priority=n % 101)
        rows[b"j" + key.encode()] = encode(job)
        rows[b"s" + key.encode()] = encode(JobSpec(command=["true"], labels=labels))
        submitted[key] = n * 4 * PARTITIONS_MAX + 1
        events += [IndexedEvent(key, n * 4 + i, i == 3) for i in range(4)]
    tables.write([PartitionChanges(1, rows, submitted=submitted, events=events)])


def generated(path: Path | None, count: int, chunk: int = 20_000) -> Tables:
    """Make a projection of `count` jobs."""
    tables = Tables(path)
    for first in range(0, count, chunk):
        write_jobs(tables, first, min(chunk, count - first))
    return tables
