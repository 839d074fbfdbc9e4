"""A long history in a short time: a real owner on a real log, with clients and workers that are a loop beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ftjm.adapters import codec
from ftjm.adapters.kafka import topic_id
from ftjm.adapters.kafka_log import KafkaLog, KafkaWriter
from ftjm.adapters.rocks import RocksStore
from ftjm.bench.options import Progress, Work, spec
from ftjm.clock import wall_ms
from ftjm.config import Settings
from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.decide import Policy
from ftjm.core.matching import Offer
from ftjm.engine.partition import Partition
from ftjm.engine.ports import CommandRecord

SUBMITTED_AT_ONCE = 100
"""So that a batch has some hundred events, as under load: of so many jobs that begin, were given away, ran, ended."""
WORKERS = 2
LIVE_AT_ONCE = 250


def log_of(settings: Settings) -> KafkaLog:
    """The log of a cluster."""
    kafka = settings.kafka_settings("bench")
    return KafkaLog(kafka, settings.cluster, topic_id(kafka, settings.topic("events")))


def write(settings: Settings, partition: int, queue: str, jobs: int, folder: Path, progress: Progress) -> None:
    """Extend the log of `partition`, where `queue` lives, by the whole life of so many jobs that succeed."""
    offers = [Offer(f"w{n}.{n:032}", f"w{n}", n, 5_000, (queue,), 1, 10 * SUBMITTED_AT_ONCE) for n in range(WORKERS)]
    waiting: list[c.Command] = []
    submitted, ended = 0, 0
    with owning(settings, partition, folder) as owner:
        while ended < jobs:
            more = range(submitted, min(jobs, submitted + SUBMITTED_AT_ONCE))
            submitted += len(more)
            waiting += [_submission(queue, f"job-{n:012}") for n in more]
            first = owner.position.next_command
            records = [CommandRecord(first + n, codec.encode(command)) for n, command in enumerate(waiting)]
            sent = max((n for n, _ in owner.to_ship), default=0)
            taken = owner.work(wall_ms(), records, offers=offers, outbox_sent=sent)
            waiting = waiting[taken:]
            ended += sum(isinstance(event, e.AttemptSucceeded) for event in owner.committed)
            for event in owner.committed:
                if isinstance(event, e.AttemptDispatched):
                    waiting += _reports(event)
            progress.move(ended, jobs)


@contextmanager
def owning(settings: Settings, partition: int, folder: Path) -> Iterator[Partition]:
    """An owner of the partition, with a store of its own."""
    log = log_of(settings)
    with closing(RocksStore(folder / "history")) as store, closing(log.fence(partition)) as writer:
        owner = Partition(Policy(partition, settings.partitions), store, codec, log.log_id)
        owner.lead(writer, "bench")
        yield owner


def submit(owner: Partition, queue: str, jobs: int, progress: Progress, prefix: str = "job") -> None:
    """Extend the log by the submissions of so many jobs, which then wait: nobody has a slot for them."""
    submitted = 0
    while submitted < jobs:
        more = range(submitted, min(jobs, submitted + LIVE_AT_ONCE))
        commands = [_submission(queue, f"{prefix}-{n:012}") for n in more]
        first = owner.position.next_command
        records = [CommandRecord(first + n, codec.encode(command)) for n, command in enumerate(commands)]
        submitted += owner.work(wall_ms(), records)
        progress.move(submitted, jobs)


def writer_of(owner: Partition) -> KafkaWriter:
    """What the owner commits with."""
    assert owner.leadership is not None
    writer = owner.leadership.writer
    assert isinstance(writer, KafkaWriter)
    return writer


def _submission(queue: str, job_id: str) -> c.SubmitJob:
    return c.SubmitJob(queue=queue, job_id=job_id, spec=spec(Work.NOOP), actor="bench")


def _reports(order: e.AttemptDispatched) -> list[c.Command]:
    """What a worker says of an attempt that it was given."""
    report = {
        "queue": order.queue,
        "job_id": order.job_id,
        "run": order.run,
        "attempt": order.attempt,
        "session": order.session,
        "actor": order.worker,
        "started_at": order.at,
    }
    return [
        c.StartAttempt(**report),  # type: ignore[arg-type]
        c.CompleteAttempt(**report, ended_at=order.at + 5, result=b"%d" % order.at),  # type: ignore[arg-type]
    ]
