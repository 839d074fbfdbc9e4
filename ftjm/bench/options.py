"""What a benchmark is run with, and the kinds of work that it gives to the workers."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from ftjm.bench.tasks import end_ns
from ftjm.core.identity import partition_for
from ftjm.core.model import JobSpec

PAYLOAD = b'"%b"' % (b"x" * 198)
"""JSON of 200 bytes, the same for us and for the bare pipeline."""


class Work(StrEnum):
    """What a job does. Each kind has workers of its own, see `Cluster.start_workers`."""

    NOOP = "noop"
    """Over the moment it reaches its worker, by the real protocol: what is measured is the engine."""
    COMMAND = "command"
    """A process each, by the real guard."""
    TASK = "task"
    """A Python function, in a process that is warm."""


def spec(work: Work, *, timed: bool = False) -> JobSpec:
    """A job of this kind; `timed` makes its result the time of its end, ns since the Unix epoch."""
    if work is Work.TASK:
        return end_ns().job().spec
    if work is Work.COMMAND and timed:
        return JobSpec(command=["sh", "-c", "date +%s%N >$FTJM_RESULT_FILE"], payload=PAYLOAD)
    return JobSpec(command=["true"], payload=PAYLOAD)


class Options(msgspec.Struct, kw_only=True, frozen=True):
    """The settings of a run, as the report repeats them."""

    jobs: int
    partitions: int = 2
    schedulers: int = 2
    workers: int = 2
    slots: int = 500
    """Of each worker, for work that costs no process."""
    command_jobs: int = 500
    command_slots: int = 4
    clients: int = 2
    work: Work = Work.TASK
    """What the jobs of `latency` do."""
    kills: int = 50
    """Of schedulers, by `failover`."""
    minutes: float = 60.0
    """How long `soak` takes."""
    stock: bool = False
    """Whether sessions and leases are as on brokers with stock settings."""
    brokers: int = 1
    bootstrap: str = ""
    """A Kafka that is there; by default one of our own is started."""
    port: int = 0

    @property
    def queues(self) -> list[str]:
        """One on each partition."""
        found: dict[int, str] = {}
        for number in range(100 * self.partitions):
            found.setdefault(partition_for(f"q{number}", self.partitions), f"q{number}")
        return [found[partition] for partition in sorted(found)]


class Progress(Protocol):
    """Tells people how far a run is."""

    def step(self, text: str) -> None:
        """What happens now."""

    def move(self, done: int, total: int) -> None:
        """How far the step is."""
