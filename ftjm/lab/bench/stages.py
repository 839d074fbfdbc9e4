"""The stages of one job on its way, with their times, read from the logs.

The brokers stamp each record when a log takes it. Workers report when an attempt's process started and ended, and the
submitting client knows when it sent the job and when it saw the result. All processes of a benchmark are on one
machine, so these times are of one clock::

    client ─submit─► commands ─decide─► events ─dispatch─► dispatch ─start─► process ─run─► end
                                                                                             │ report
    client ◄─answer─ events ◄─conclude─ commands ◄───────────────────────────────────────────┘

Stamps are whole milliseconds, and the client's times are cut to such, too. So the time of one stage of one job is up to
1 ms wrong, in either direction. The means over many jobs are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.records import Record
from ftjm.core.identity import partition_for
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records import messages as m
from ftjm.runtime.config import Settings

STAGES = ("submit", "decide", "dispatch", "start", "run", "report", "conclude", "answer")


class Seen(msgspec.Struct, frozen=True):
    """What the submitting client knows of one job. Milliseconds since the Unix epoch."""

    queue: str
    job_id: str
    sent: float
    answered: float


class _Times(msgspec.Struct):
    """When the logs took the records of one job, and what its report says. 0 for what was not found."""

    submitted: int = 0
    decided: int = 0
    dispatched: int = 0
    started: int = 0
    ended: int = 0
    reported: int = 0
    concluded: int = 0


def mean_stages(settings: Settings, jobs: Iterable[Seen]) -> dict[str, float]:
    """Read the logs of a cluster, and return the mean time of each stage of `STAGES` over these jobs, ms.

    Each job must have succeeded in its first attempt.

    Raises:
        LogError: Kafka does not answer.
    """
    seen = {(job.queue, job.job_id): job for job in jobs}
    times = {name: _Times() for name in seen}
    partitions = {partition_for(queue, settings.partitions) for queue, _ in seen}
    for record, value in _records(settings, "commands", partitions, (c.SubmitJob, c.CompleteAttempt)):
        if found := times.get((value.queue, value.job_id)):
            if isinstance(value, c.SubmitJob):
                found.submitted = record.time_ms
            else:
                found.reported = record.time_ms
    for record, value in _records(settings, "events", partitions, (e.JobSubmitted, e.AttemptSucceeded)):
        if found := times.get((value.queue, value.job_id)):
            if isinstance(value, e.JobSubmitted):
                found.decided = record.time_ms
            elif isinstance(value, e.AttemptSucceeded):
                found.started, found.ended, found.concluded = value.started_at, value.ended_at, record.time_ms
    for record, value in _records(settings, "dispatch", range(settings.lanes), (m.RunAttempt,)):
        if found := times.get((value.queue, value.job_id)):
            found.dispatched = record.time_ms
    rows = [list(_durations(job, times[name])) for name, job in seen.items()]
    return {stage: sum(row[n] for row in rows) / len(rows) for n, stage in enumerate(STAGES)}


def _durations(job: Seen, times: _Times) -> Iterator[float]:
    last = int(job.sent)
    for time in (*msgspec.structs.astuple(times), int(job.answered)):
        assert time, f"the logs lack a record of {job.queue}/{job.job_id}"
        yield time - last
        last = time


def _records(
    settings: Settings, topic: str, partitions: Iterable[int], types: tuple[type, ...]
) -> Iterator[tuple[Record, c.SubmitJob | c.CompleteAttempt | e.JobSubmitted | e.AttemptSucceeded | m.RunAttempt]]:
    with Scan(settings.kafka_settings("bench"), settings.topic(topic)) as scan:
        starts: Mapping[int, int] = dict.fromkeys(partitions, 0)
        for record in scan.read(starts):
            if codec.type_of(record.value) in types:
                yield record, codec.decode(record.value)
