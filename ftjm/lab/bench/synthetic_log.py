"""Makes a long history in a short time: a real owner on a real log, with clients and workers played by a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.offsets import topic_id
from ftjm.adapters.kafka.partition_log import KafkaLog, KafkaWriter
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide.decision import Policy
from ftjm.core.placement import Offer
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.view import StateView
from ftjm.engine.batch import Lapse
from ftjm.engine.owner import Owner
from ftjm.engine.partition import Partition
from ftjm.engine.ports import CommandRecord, Parcel
from ftjm.lab.bench.options import Progress, WorkKind, spec
from ftjm.runtime.clock import boot_ms, wall_ms
from ftjm.runtime.config import Settings

SUBMITTED_AT_ONCE = 100
"""Jobs that are submitted at once. A batch then has some hundred events, as under load."""
WORKERS = 2
LIVE_AT_ONCE = 250


def log_of(settings: Settings) -> KafkaLog:
    """Return the log of a cluster."""
    kafka = settings.kafka_settings("bench")
    return KafkaLog(kafka, settings.cluster, topic_id(kafka, settings.topic("events")))


def write(settings: Settings, partition: int, queue: str, jobs: int, folder: Path, progress: Progress) -> None:
    """Extend the log of `partition`, to which `queue` belongs, by `jobs` jobs from submission to success."""
    offers = [Offer(f"w{n}.{n:032}", f"w{n}", n, 5_000, (queue,), 1, 10 * SUBMITTED_AT_ONCE) for n in range(WORKERS)]
    waiting: list[c.Command] = []
    submitted, ended = 0, 0
    with owning(settings, partition, folder, offers) as owned:
        while ended < jobs:
            more = range(submitted, min(jobs, submitted + SUBMITTED_AT_ONCE))
            submitted += len(more)
            waiting += [_submission(queue, f"job-{n:012}") for n in more]
            events = owned.step(waiting)
            waiting = []
            ended += sum(isinstance(event, e.AttemptSucceeded) for event in events)
            for event in events:
                if isinstance(event, e.AttemptDispatched):
                    waiting += _reports(event)
            progress.move(ended, jobs)


class Owned(NamedTuple):
    """A partition and its owner."""

    partition: Partition
    owner: Owner
    writer: KafkaWriter

    def step(self, commands: Iterable[c.Command]) -> Sequence[e.Event]:
        """Decide one batch, with these commands behind those that wait. Returns the events that it commits."""
        first = self.partition.position.next_command + self.owner.waiting
        self.owner.receive([CommandRecord(first + n, codec.encode(command)) for n, command in enumerate(commands)])
        return self.owner.step().events


class _BenchPorts:
    """Clocks of this host, workers that always offer the same slots, and a log that takes every message at once."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self._offers = offers
        self.wall_ms = wall_ms
        self.boot_ms = boot_ms

    def lapses(self, _state: StateView, _since: int) -> Sequence[Lapse]:
        """No session lapses."""
        return ()

    def offers(self, _partition: int, _now: int, _declined: Mapping[str, int]) -> Sequence[Offer]:
        """The same offers for every batch."""
        return self._offers

    def send(self, _parcel: Parcel, delivered: Callable[[bool], None]) -> None:
        """Report the parcel as delivered, without sending it."""
        delivered(True)


def own(partition: Partition, writer: KafkaWriter, offers: Sequence[Offer] = ()) -> Owned:
    """Lead a partition that was folded to its end; the writer has fenced the owner before."""
    ports = _BenchPorts(offers)
    return Owned(partition, Owner(partition, writer, "bench", clock=ports, sessions=ports, send=ports.send), writer)


@contextmanager
def owning(settings: Settings, partition: int, folder: Path, offers: Sequence[Offer] = ()) -> Iterator[Owned]:
    """Own the partition, whose log is empty, inside the block, with a new store below `folder`."""
    log = log_of(settings)
    with closing(RocksStore(folder / "history")) as store, closing(log.fence(partition)) as writer:
        yield own(Partition(Policy(partition, settings.partitions), store, codec, log.log_id), writer, offers)


def submit(owned: Owned, queue: str, jobs: int, progress: Progress, prefix: str = "job") -> None:
    """Extend the log by the submissions of `jobs` jobs. They stay ready, since no worker offers slots."""
    submitted = 0
    while submitted < jobs:
        more = range(submitted, min(jobs, submitted + LIVE_AT_ONCE))
        owned.step(_submission(queue, f"{prefix}-{n:012}") for n in more)
        submitted = more.stop
        progress.move(submitted, jobs)
    while owned.owner.waiting:
        owned.step([])


def _submission(queue: str, job_id: str) -> c.SubmitJob:
    return c.SubmitJob(queue=queue, job_id=job_id, spec=spec(WorkKind.NOOP), actor="bench")


def _reports(order: e.AttemptDispatched) -> list[c.Command]:
    """Return the reports of a worker on an attempt that it got."""
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
