"""A partition's runner, as it is, on a log in memory: the reader, the fence and the group are the test's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LostPosition
from ftjm.adapters.memory import MemoryLog, MemoryWriter
from ftjm.core.records import commands as c
from ftjm.core.state.model import JobSpec, LogPosition
from ftjm.engine.liveness import Liveness
from ftjm.engine.member_versions import MemberVersions
from ftjm.runtime import config
from ftjm.scheduler.context import Context
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.scheduler.overload import Overload
from ftjm.scheduler.partition_runner import Runner
from ftjm.scheduler.status import SchedulerStatus
from integration.waiting import until
from tests.engine.world import PARTITIONS, QUEUE

PARTITION = 0
AT_ONCE = 5
"""Records that a channel hands out: less than the log has, as if it were long."""


class Lane:
    """Records of the log from an offset on, as a channel hands them out, some at a time."""

    trouble = None

    def __init__(self, read: Callable[[int], Sequence[Any]], last: Callable[[], int], start: int) -> None:
        self._read, self._last = read, last
        self._next = start

    def take(self, most: int) -> list[Any]:
        found = list(self._read(self._next)[: min(most, AT_ONCE)])
        if found:
            self._next = found[-1].offset + 1
        return found

    def __len__(self) -> int:
        return len(self._read(self._next))

    @property
    def end(self) -> int:
        return self._last()

    @property
    def reached(self) -> int:
        return self._last()

    ended = False


class Commands(Lane):
    """Those of a log that may lose its tail, which Kafka is asked about with every new leader."""

    def __init__(self, log: MemoryLog, start: int, epoch: int) -> None:
        super().__init__(lambda at: log.commands(PARTITION, at), lambda: len(log.commands(PARTITION, 0)), start)
        self._log, self._epoch = log, epoch

    def take(self, most: int) -> list[Any]:
        if self._log.resume_position(PARTITION, LogPosition(self._next, self._epoch)).offset < self._next:
            raise LostPosition("the log has lost its tail")
        records = self._log.commands(PARTITION, self._next)[: min(most, AT_ONCE)]
        if records:
            self._next, self._epoch = records[-1].offset + 1, records[-1].epoch
        return list(records)


class Log(MemoryLog):
    """Notes how far each one had folded that fenced."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.folded: Callable[[], int] = lambda: -1
        self.fenced_at: list[int] = []

    def fence(self, partition: int) -> MemoryWriter:
        self.fenced_at.append(self.folded())
        writer: Any = super().fence(partition)
        writer.spent = writer.seconds = 0.0
        return writer  # type: ignore[no-any-return]

    def begin(self, _partition: int) -> int:
        return 0


class Seat:
    """The runner of partition 0 in a process of its own. Whoever else writes does so to the same log."""

    def __init__(self, log: Log, folder: Path) -> None:
        self.log = log
        log.folded = lambda: self.applied
        reader: Any = SimpleNamespace(
            follow=lambda kind, _number, start, _wake, epoch=-1: self._lane(kind, start, epoch), drop=lambda *_: None
        )
        self.context = Context(
            settings=config.load(),
            instance="here",
            stores=folder,
            codec=codec,
            log=log,  # type: ignore[arg-type]
            reader=reader,
            producer=SimpleNamespace(send=lambda *_, **__: None),  # type: ignore[arg-type]
            members=MemberVersions(0),
            liveness=Liveness(0),
            partitions=PARTITIONS,
            lanes=1,
            metrics=SchedulerMetrics(CollectorRegistry(), SchedulerStatus()),
            repository=SimpleNamespace(restore=lambda *_, **__: None),  # type: ignore[arg-type]
            snapshotter=SimpleNamespace(order=lambda *_: None),  # type: ignore[arg-type]
            overload=Overload(config.load(), lambda _: 0.0, lambda: 0.0),
            membership=SimpleNamespace(prove=lambda *_: True),  # type: ignore[arg-type]
        )
        self.context.clock = SimpleNamespace(right=True, error_ms=0, error_of=lambda _ahead: 0)  # type: ignore[assignment]
        self.runner = Runner(self.context, PARTITION)
        self.runner.follow(True)

    def _lane(self, kind: str, start: int, epoch: int) -> Lane:
        log = self.log
        if kind == "events":
            return Lane(lambda at: list(log.events(PARTITION, at)), lambda: log.end(PARTITION), start)
        return Commands(log, start, epoch)

    @property
    def applied(self) -> int:
        """The offset that the runner has told to stand at."""
        return self.runner.report.applied_offset

    def submit(self, job_id: str) -> None:
        command = c.SubmitJob(queue=QUEUE, job_id=job_id, spec=JobSpec(command=["true"]))
        self.log.send(PARTITION, codec.encode(command))
        self.runner.wake()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def reached() -> bool:
            self.runner.wake()
            return condition()

        until(reached, what, 60.0)

    def until_role(self, role: str) -> None:
        self.until(lambda: self.runner.role == role, f"the runner to be {role}")


@contextmanager
def seated(log: Log, folder: Path) -> Iterator[Seat]:
    """The runner's thread runs until the block ends."""
    seat = Seat(log, folder)
    seat.runner.start()
    try:
        yield seat
    finally:
        seat.context.stopping.set()
        seat.runner.wake()
        assert seat.runner.join(60.0)
