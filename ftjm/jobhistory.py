"""What the log says of single jobs: their events, and the state that these make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.adapters.memory import MemoryStore
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.core.evolve import evolve
from ftjm.core.identity import partition_for
from ftjm.core.model import TERMINAL, Checkpoint, Job, JobSpec, Outcome, job_key
from ftjm.core.state import State
from ftjm.past import Gap, Past, silent
from ftjm.patience import QUIET, patiently
from ftjm.replay import NOW, Until, replayed

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


def read_jobs(
    settings: Settings, names: Iterable[Name], archive: str | None = None, gap: Gap = silent
) -> dict[Name, list[Recorded]]:
    """The events of each job, in order; an empty list for one that the log does not know.

    Reads the partitions of their queues from where they begin; only records under the jobs' keys are decoded. What was
    trimmed comes from the archive at this URL, or else `gap` is told of it. Raises Unreachable, FtjmError.
    """
    found: dict[Name, list[Recorded]] = {name: [] for name in names}
    keys = {job_key(*name).encode(): name for name in found}
    with open_scan(settings, "events") as scan:
        wanted = {partition_for(queue, scan.partitions) for queue, _ in found}
        for record in Past(settings, archive).records(scan, "events", wanted, gap):
            name = keys.get(record.key)
            if name is not None:
                found[name].append(Recorded(record.partition, record.offset, codec.decode(record.value)))
    return found


def from_snapshot(settings: Settings, name: Name, until: Until = NOW) -> JobView | None:
    """A job whose submission was trimmed from its log, as of then: from a snapshot, and what the log has behind it.

    None where the log was not trimmed, or the state does not know the job (any more).
    Raises Unreachable, FtjmError.
    """
    key = job_key(*name)
    with open_scan(settings, "events") as scan:
        partition = partition_for(name[0], scan.partitions)
        if scan.bounds(partition)[0] == 0:
            return None
        with replayed(scan, partition, until, past=Past(settings)) as folded:
            state = folded.state
            if (job := state.job(key)) is None:
                return None
            return JobView(*name, job, state.spec(key), state.outcome(key), 0, state.checkpoint(key))


def follow_jobs(
    settings: Settings, names: Iterable[Name], unknown: Callable[[Name], None] = lambda _: None
) -> Iterator[e.AttemptSucceeded | e.AttemptFailed]:
    """The events that hold output of the jobs' newest runs, then those that come, until all the jobs have ended.

    `unknown` is told of each job that the log does not know; it is waited for. Raises Unreachable, FtjmError.
    """
    found: dict[Name, list[e.Event]] = {name: [] for name in names}
    keys = {job_key(*name).encode(): name for name in found}
    with open_scan(settings, "events") as scan:
        wanted = {partition_for(queue, scan.partitions) for queue, _ in found}
        ends = {partition: scan.bounds(partition)[1] for partition in wanted}
        for record in scan.read(dict.fromkeys(wanted, 0)):
            ends[record.partition] = max(ends[record.partition], record.offset + 1)
            if name := keys.get(record.key):
                found[name].append(codec.decode(record.value))
        for name, events in found.items():
            newest = max((event.run for event in events), default=0)
            yield from outputs(event for event in events if event.run == newest)
            if not events:
                unknown(name)
        open_jobs = {name for name, events in found.items() if not _ended(events)}
        if not open_jobs:
            return
        for record in scan.read(ends, follow=True):
            if name := keys.get(record.key):
                event = codec.decode(record.value)
                yield from outputs([event])
                found[name].append(event)
                (open_jobs.discard if _ended(found[name]) else open_jobs.add)(name)
            if not open_jobs:
                return


def _ended(events: list[e.Event]) -> bool:
    known = view(events)
    return known is not None and known.job.state in TERMINAL


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
