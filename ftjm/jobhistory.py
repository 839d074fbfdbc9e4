"""What the log says of single jobs: their events, and the state that these make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.adapters.memory import MemoryStore
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.core.evolve import evolve
from ftjm.core.identity import partition_for
from ftjm.core.model import Checkpoint, Job, JobSpec, Outcome, job_key
from ftjm.core.state import State
from ftjm.patience import QUIET, patiently

READ_PATIENCE_SECONDS = 15.0

Name = tuple[str, str]
"""Queue and job id."""


class Recorded(msgspec.Struct, frozen=True):
    """An event with its place in the log."""

    partition: int
    offset: int
    event: e.Event


class JobView(msgspec.Struct, frozen=True):
    """A job as of its newest event."""

    queue: str
    job_id: str
    job: Job
    spec: JobSpec
    outcome: Outcome
    forgotten_at: int = 0
    """When its retention ended and it left the schedulers' state, ms; 0 if it has not."""
    checkpoint: Checkpoint = Checkpoint()
    """How far its run has come, by its attempts' own word."""


def read_jobs(settings: Settings, names: Iterable[Name]) -> dict[Name, list[Recorded]]:
    """The events of each job, in order; an empty list for one that the log does not know.

    Reads the partitions of their queues from the beginning; only records under the jobs' keys are decoded.
    Raises Unreachable, FtjmError.
    """
    found: dict[Name, list[Recorded]] = {name: [] for name in names}
    keys = {job_key(*name).encode(): name for name in found}
    with open_scan(settings, "events") as scan:
        starts = {partition_for(queue, scan.partitions): 0 for queue, _ in found}
        for record in scan.read(starts):
            name = keys.get(record.key)
            if name is not None:
                found[name].append(Recorded(record.partition, record.offset, codec.decode(record.value)))
    return found


def open_scan(settings: Settings, kind: str, *, committed: bool = True) -> Scan:
    """A look at one of the cluster's topics. Raises Unreachable, or FtjmError where there is no such topic."""
    return patiently(
        lambda: Scan(QUIET | settings.kafka_settings("reader"), settings.topic(kind), committed=committed),
        settings,
        READ_PATIENCE_SECONDS,
    )


def view(events: Iterable[e.Event]) -> JobView | None:
    """The job that these events (of one job, in order) make; None if it was never submitted."""
    state = State(MemoryStore())
    forgotten: e.JobForgotten | None = None
    name: Name | None = None
    for event in events:
        if isinstance(event, e.JobSubmitted):
            if forgotten is not None:
                evolve(state, forgotten)
            forgotten, name = None, (event.queue, event.job_id)
        if isinstance(event, e.JobForgotten):
            # People still want to see how it ended.
            forgotten = event
        elif name is not None:
            evolve(state, event)
    if name is None:
        return None
    key = job_key(*name)
    job = state.job(key)
    assert job is not None
    forgotten_at = forgotten.at if forgotten else 0
    return JobView(*name, job, state.spec(key), state.outcome(key), forgotten_at, state.checkpoint(key))


def outputs(events: Iterable[e.Event]) -> Iterator[e.AttemptSucceeded | e.AttemptFailed]:
    """The events that hold an attempt's output, oldest first."""
    return (event for event in events if isinstance(event, e.AttemptSucceeded | e.AttemptFailed))


def details(event: e.Event) -> dict[str, Any]:
    """What an event says beyond its envelope, without what is empty; of a spec, what is not the default."""
    said = {name: getattr(event, name) for name in event.__struct_fields__ if name not in _ENVELOPE}
    if isinstance(event, e.JobSubmitted):
        said["spec"] = {n: v for n, v in msgspec.structs.asdict(event.spec).items() if v != getattr(_DEFAULTS, n)}
    return {name: value for name, value in said.items() if value not in ("", b"", 0)}


_ENVELOPE = frozenset((*e.Event.__struct_fields__, "content"))
_DEFAULTS = JobSpec()
