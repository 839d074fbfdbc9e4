"""Single jobs by the log: their events, and the state that these events make.

A job's state can be had without the rest of its partition: every event has the job's key, and `evolve` needs no other
rows than those of the job. So `read_jobs` reads the partition and decodes only the events of the wanted jobs, and
`view` folds them. A job whose submission was trimmed from the log is read from a snapshot instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.patience import open_scan
from ftjm.adapters.memory import MemoryStore
from ftjm.core.evolve import schedules
from ftjm.core.evolve.handlers import evolve
from ftjm.core.identity import partition_for
from ftjm.core.lifecycle import LIFECYCLE
from ftjm.core.records import events as e
from ftjm.core.records.levels import LEVEL
from ftjm.core.state.model import (
    STATE_VERSION,
    TERMINAL,
    Checkpoint,
    Finalized,
    Job,
    JobSpec,
    JobState,
    Outcome,
    job_key,
)
from ftjm.core.state.state import State
from ftjm.history.newest_attempt import NewestAttempts, newest_attempts
from ftjm.history.replay import NOW, Until, replayed
from ftjm.history.trimmed import Gap, WholeLog, silent
from ftjm.readmodel.documents.job import LoggedJobDocument, job_fields, logged_job_document
from ftjm.runtime.config import Settings

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
    """Time at which its retention ended and the schedulers forgot it, ms; 0 if they have not."""
    checkpoint: Checkpoint = Checkpoint()
    """The newest checkpoint of its run, as its attempts reported it."""
    worker: str = ""
    """Name of the worker that the newest attempt was sent to; empty if there is none."""
    signal: int = 0
    """The signal that ended the newest attempt; 0 for none, and if it is not known."""

    def document(self) -> LoggedJobDocument:
        """The job as the document that users see."""
        key = job_key(self.queue, self.job_id)
        rows = (self.job, self.spec, self.outcome, self.checkpoint)
        return logged_job_document(job_fields(key, *rows, worker=self.worker, signal=self.signal), self.forgotten_at)


def read_jobs(
    settings: Settings, names: Iterable[Name], archive: str | None = None, gap: Gap = silent
) -> dict[Name, list[Recorded]]:
    """Read the events of jobs.

    Args:
        settings: the settings of the cluster.
        names: queue and id of each job.
        archive: URL of an archive with what was trimmed from the log.
        gap: called for each partition that was trimmed, where there is no archive.

    Returns:
        The events of each job, in order; an empty list for a job that the log does not know.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: there are no topics, or the archive does not reach to the log.
    """
    found: dict[Name, list[Recorded]] = {name: [] for name in names}
    keys = {job_key(*name).encode(): name for name in found}
    with open_scan(settings, "events") as scan:
        wanted = {partition_for(queue, scan.partitions) for queue, _ in found}
        for record in WholeLog(settings, archive).records(scan, "events", wanted, gap):
            name = keys.get(record.key)
            if name is not None:
                found[name].append(Recorded(record.partition, record.offset, codec.decode(record.value)))
    return found


def from_snapshot(settings: Settings, name: Name, until: Until = NOW) -> JobView | None:
    """A job whose submission was trimmed from the log: by a snapshot, and the events behind it.

    Args:
        settings: the settings of the cluster.
        name: queue and id of the job.
        until: the offset or time to stop at.

    Returns:
        The job; None if its log was not trimmed, or if the state does not know the job.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: there are no topics, or no snapshot that is old enough.
    """
    key = job_key(*name)
    with open_scan(settings, "events") as scan:
        partition = partition_for(name[0], scan.partitions)
        if scan.bounds(partition)[0] == 0:
            return None
        with replayed(scan, partition, until, whole_log=WholeLog(settings)) as folded:
            state = folded.state
            if (job := state.job(key)) is None:
                return None
            attempts = newest_attempts(scan.read({partition: 0}), folded.position.applied_offset, key)
            worker = attempts.worker(key, state.session(job.session))
            signal = attempts.signals.get(key, 0)
            return JobView(*name, job, state.spec(key), state.outcome(key), 0, state.checkpoint(key), worker, signal)


def follow_jobs(
    settings: Settings, names: Iterable[Name], unknown: Callable[[Name], None] = lambda _: None
) -> Iterator[e.OutputEvent]:
    """Follow the output of jobs: of their newest runs so far, and then until all the jobs have ended.

    Args:
        settings: the settings of the cluster.
        names: queue and id of each job.
        unknown: called with each job that the log does not know; the job is waited for.

    Returns:
        The events that hold output, as they come.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: there are no topics.
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
        open_jobs: set[Name] = set()
        for name, events in found.items():
            newest = max((event.run for event in events), default=0)
            yield from outputs(event for event in events if event.run == newest)
            until = Until(offset=ends[partition_for(name[0], scan.partitions)] - 1)
            known = view(events) or from_snapshot(settings, name, until)
            if known is None:
                unknown(name)
            if known is None or known.job.state not in TERMINAL:
                open_jobs.add(name)
        if not open_jobs:
            return
        for record in scan.read(ends, follow=True):
            if name := keys.get(record.key):
                event = codec.decode(record.value)
                yield from outputs([event])
                if (ended := _ends(type(event))) is not None:
                    (open_jobs.discard if ended else open_jobs.add)(name)
            if not open_jobs:
                return


def find_jobs(
    settings: Settings, names: Sequence[Name], until: Until = NOW, archive: str | None = None, gap: Gap = silent
) -> dict[Name, JobView | None]:
    """Find jobs as they are now, or were at some time.

    A job whose submission was trimmed from the log is found by a snapshot, unless there is an archive.

    Args:
        settings: the settings of the cluster.
        names: queue and id of each job.
        until: the offset or time to stop at.
        archive: URL of an archive with what was trimmed from the log.
        gap: called for each partition that was trimmed, where there is no archive.

    Returns:
        Each job; None for a job that is not known.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: there are no topics; or neither the archive nor a snapshot has what was trimmed.
    """
    found = read_jobs(settings, names, archive, gap)
    views = {name: view(each.event for each in found[name] if _is_within(each, until)) for name in names}
    if archive is None:
        views |= {name: from_snapshot(settings, name, until) for name, known in views.items() if known is None}
    return views


def _is_within(recorded: Recorded, until: Until) -> bool:
    return (until.offset is None or recorded.offset <= until.offset) and (
        until.time_ms is None or recorded.event.at <= until.time_ms
    )


def _ends(event: type[e.Event]) -> bool | None:
    """Whether a job has ended after an event of this type; None if the event does not tell."""
    states: frozenset[JobState] = frozenset().union(*LIFECYCLE.get(event, {}).values())
    if not states & TERMINAL:
        return False if states else None
    return True if states <= TERMINAL else None


def view(events: Iterable[e.Event]) -> JobView | None:
    """Fold the events of one job, which must be in order; None if they hold no submission."""
    state, attempts = State(MemoryStore()), NewestAttempts()
    # `Job.eligible_at` depends on the level that is final, and no event of the job has that: this build's is assumed.
    state.finalized = Finalized(LEVEL, STATE_VERSION)
    forgotten: e.JobForgotten | None = None
    name: Name | None = None
    for event in events:
        if isinstance(event, e.JobSubmitted):
            if forgotten is not None:
                evolve(state, forgotten)
            forgotten, name = None, (event.queue, event.job_id)
        attempts.fold(job_key(event.queue, event.job_id), event)
        if isinstance(event, e.JobForgotten):
            # The event is folded only if the job is submitted once more: until then, users want to see its outcome.
            forgotten = event
        elif isinstance(event, e.ScheduleFired) and name is not None:
            schedules.made(state, event, job_key(*name))  # the schedule's own row is not of the job
        elif name is not None:
            evolve(state, event)
    if name is None:
        return None
    key = job_key(*name)
    job = state.job(key)
    assert job is not None
    return JobView(
        *name,
        job,
        state.spec(key),
        state.outcome(key),
        forgotten.at if forgotten else 0,
        state.checkpoint(key),
        attempts.worker(key, None),
        attempts.signals.get(key, 0),
    )


def outputs(events: Iterable[e.Event]) -> Iterator[e.OutputEvent]:
    """The events that hold an attempt's output, oldest first."""
    return (event for event in events if isinstance(event, e.OutputEvent))
