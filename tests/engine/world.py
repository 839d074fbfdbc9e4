"""One partition, its owner, its log and its followers: what tests of the engine play with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ftjm.adapters.avro import codec
from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.memory import MemoryLog, MemoryStore, MemoryWriter
from ftjm.core.decide.decision import Policy
from ftjm.core.identity import partition_for
from ftjm.core.placement import Offer
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import Job, JobSpec
from ftjm.engine.batch import BatchResult, Lapse
from ftjm.engine.partition import Partition
from ftjm.engine.ports import CommandRecord, Store
from tests.core.consistency import all_rows, check_history, check_state

NOW = 1_700_000_000_000
PARTITIONS = 4


def queue_in(partition: int) -> str:
    """A queue that lives in `partition`."""
    return next(name for i in range(1_000) if partition_for(name := f"q{i}", PARTITIONS) == partition)


QUEUE, OTHER_QUEUE = queue_in(0), queue_in(3)


class Broken(Exception):
    """What a commit raises whose outcome is not known."""


class BrokenWriter:
    """A writer whose next commit raises, before or after the log has it."""

    def __init__(self, writer: MemoryWriter) -> None:
        self._writer = writer
        self.breaks: str = ""

    def commit(self, records: Sequence[tuple[str, bytes]]) -> int:
        if self.breaks == "before":
            raise Broken
        offset = self._writer.commit(records)
        if self.breaks == "after":
            raise Broken
        return offset


class World:
    """Partition 0 of four, led, with a log and commands that can be sent to it."""

    def __init__(self, make_store: Callable[[], Store] = MemoryStore, log: MemoryLog | None = None) -> None:
        self.make_store = make_store
        self.log = log or MemoryLog(PARTITIONS)
        self.policy = Policy(
            partition=0,
            partitions=PARTITIONS,
            retention_ms=1_000_000,
            inline_bytes_max=1_000,
            calendar=LocalCalendar(),
        )
        self.now = NOW
        self.last = BatchResult()
        self.alarms: list[str] = []
        """Alarms of all batches."""
        self.owner = self.partition()
        self.lead()

    def partition(self) -> Partition:
        return Partition(self.policy, self.make_store(), codec, self.log.log_id)

    def lead(self) -> None:
        """Take over: fence, fold to the end, decide."""
        self.writer = BrokenWriter(self.log.fence(0))
        self.catch_up(self.owner)
        self.owner.lead(self.writer, "owner")

    def catch_up(self, follower: Partition) -> Partition:
        for record in self.log.events(0, follower.position.applied_offset + 1):
            follower.fold(record)
        return follower

    # -- what comes

    def send(self, command: c.Command, reply_to: str = "") -> int:
        return self.log.send(0, codec.encode(command), reply_to=reply_to)

    def submit(self, job_id: str, queue: str = QUEUE, reply_to: str = "", awaits: bool = False, **fields: Any) -> int:
        spec = JobSpec(**{"command": ["true"], **fields})
        return self.send(c.SubmitJob(queue=queue, job_id=job_id, spec=spec, awaits=awaits), reply_to)

    @property
    def waiting(self) -> list[CommandRecord]:
        return self.log.commands(0, self.owner.position.next_command)

    def work(self, offers: Sequence[Offer] = (), lapses: Sequence[Lapse] = (), outbox_sent: int = 0) -> int:
        """Decide one batch, whose result is in `last` then. Returns how many commands it consumed."""
        self.last = BatchResult()
        self.last = self.owner.work(self.now, self.waiting, lapses, offers, outbox_sent)
        self.alarms += self.last.alarms
        return self.last.consumed

    def work_all(self) -> None:
        """Until no command waits."""
        while self.waiting:
            assert self.work() > 0

    # -- what is there

    def events(self) -> list[e.Event | e.BatchClosed]:
        return [codec.decode(record.value) for record in self.log.events(0, 0)]

    def of(self, offset: int) -> list[e.Event]:
        """The events that answer the command at `offset`."""
        return [
            event
            for event in self.events()
            if isinstance(event, e.Event) and event.cause is e.Cause.COMMAND and event.cause_ref == str(offset)
        ]

    def job(self, job_id: str) -> Job:
        job = self.owner.state.job(f"{QUEUE}/{job_id}")
        assert job is not None
        return job

    def rows(self) -> dict[bytes, bytes]:
        return all_rows(self.owner.store)

    def check(self) -> None:
        """Rows agree with each other, with those of a fresh follower, and with the history."""
        check_state(self.owner.store)
        assert all_rows(self.catch_up(self.partition()).store) == self.rows()
        check_history(self.events(), self.owner.position.next_command)


def offer(session: str = "s1", slots: int = 2, number: int = 1, ahead: int = 0) -> Offer:
    return Offer(session, f"worker-{session}", 0, 5_000, (QUEUE,), number, slots, ahead)
