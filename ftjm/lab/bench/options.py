"""The settings of a benchmark run, and the kinds of jobs that it submits."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from ftjm.core.identity import partition_for
from ftjm.core.state.model import JobSpec
from ftjm.lab.bench.tasks import end_ns, no_op

TEXT = "x" * 198
PAYLOAD = b'"%b"' % TEXT.encode()
"""Payload of every job, also of the bare pipeline: JSON of 200 bytes."""


CURVES = "partitions=1,2,4,8,16", "schedulers=1,2,3,4", "workers=1,10,100,1000"


class WorkKind(StrEnum):
    """Kinds of jobs. Each kind has workers of its own; see `BenchCluster.start_workers`."""

    NOOP = "noop"
    """The job is done when it reaches its worker, by the real protocol: measures the engine alone."""
    COMMAND = "command"
    """Each job is a process, started by the real guard."""
    TASK = "task"
    """Each job is a Python function, called in a process that is running already."""


def spec(work: WorkKind, *, timed: bool = False) -> JobSpec:
    """Return a job of this kind; with `timed`, its result is the time of its end, ns since the Unix epoch."""
    if work is WorkKind.TASK:
        return (end_ns(TEXT) if timed else no_op(TEXT)).job().spec
    if work is WorkKind.COMMAND and timed:
        return JobSpec(command=["sh", "-c", "date +%s%N >$FTJM_RESULT_FILE"], payload=PAYLOAD)
    return JobSpec(command=["true"], payload=PAYLOAD)


def queue_on(partition: int, partitions: int, prefix: str) -> str:
    """A queue of this partition, whose name begins so."""
    names = (f"{prefix}{number}" for number in range(100 * partitions))
    return next(name for name in names if partition_for(name, partitions) == partition)


class Options(msgspec.Struct, kw_only=True, frozen=True):
    """The settings of a run. The report repeats them."""

    jobs: int
    partitions: int = 2
    schedulers: int = 2
    workers: int = 2
    slots: int = 500
    """Slots of each worker, for jobs that start no process."""
    command_jobs: int = 2_000
    """Number of commands, and of Python tasks, of `throughput`."""
    command_slots: int = 4
    """Slots of each worker that runs commands or tasks."""
    clients: int = 2
    work: WorkKind = WorkKind.TASK
    """Kind of the jobs of `latency`."""
    backlog: int = 500_000
    """Number of jobs that wait in `backlog`."""
    curves: Sequence[str] = CURVES
    """The curves of `scale`, each `NAME=N,N,…`."""
    kills: int = 50
    """Number of schedulers that `failover` kills."""
    minutes: float = 60.0
    """Duration of `soak`."""
    stock: bool = False
    """Whether sessions and leases have the lengths that brokers with default settings need."""
    brokers: int = 1
    bootstrap: str = ""
    """Address of a running Kafka; empty to start an embedded one."""
    port: int = 0
    sign_on: bool = False
    """Whether the embedded Kafka asks for a password, as that of `ftjm up` does."""

    @property
    def queues(self) -> list[str]:
        """One queue on each partition, in the order of partitions."""
        return [queue_on(partition, self.partitions, "q") for partition in range(self.partitions)]


class Progress(Protocol):
    """Shows the progress of a run."""

    def step(self, text: str) -> None:
        """Begin a step of the run."""

    def move(self, done: int, total: int) -> None:
        """Show how far the step is."""
