"""What drills have in common: jobs that write down when they ran, a verdict on all of it, and the measured time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftjm.chaos import marks, recorder
from ftjm.chaos.watching import Watch, judged
from ftjm.checker import Evidence, Name
from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core.commands import SubmitJob
from ftjm.core.model import JobSpec
from integration.harness import QUEUES, Batch, Cluster, Load, Process
from integration.waiting import until
from integration.workers import told

SETTLE_SECONDS_MAX = 90.0
LOSSES_MAX = 1_000
"""Workers are lost here; no job may fail because of that."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Ground(Cluster):
    """A cluster to break, whose jobs are judged by what the log and they themselves say."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings, folder)
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.jobs: list[Name] = []
        """All that the log has acknowledged."""

    def spec(self, seconds: float) -> JobSpec:
        """A job that runs for so long, and writes down when."""
        command = [sys.executable, "-I", "-S", recorder.__file__, str(self.marks), str(seconds), "0", "0"]
        return JobSpec(command=command, worker_losses_max=LOSSES_MAX)

    @contextmanager
    def working(self, per_second: float = 10.0) -> Iterator[Load]:
        """Jobs come steadily until the block ends."""
        with self.load(per_second, spec=self.spec(0.05)) as load:
            yield load
        assert len(load.acknowledged) == len(load.tickets)
        self.jobs += load.acknowledged

    def submit(self, name: str, seconds: float, queues: Sequence[str] = QUEUES) -> list[Name]:
        """One job in each queue, which the log has on return."""
        with Client(self.settings, listen=False) as client:
            for queue in queues:
                client.send(SubmitJob(queue=queue, job_id=name, spec=self.spec(seconds)))
            client.confirm()
        found = [(queue, name) for queue in queues]
        self.jobs += found
        return found

    def attempts(self, jobs: Iterable[Name]) -> dict[Name, int]:
        """How many attempts of each job have begun to run."""
        return {(q, j): len(list(self.marks.glob(f"{q}+{j}+*"))) for q, j in jobs}

    def until_running(self, jobs: Sequence[Name]) -> None:
        until(lambda: all(self.attempts(jobs).values()), f"{jobs} to run")

    def until_finished(self, jobs: Sequence[Name]) -> None:
        """Until an attempt of each has come to its own end, whoever knows of it."""

        def finished() -> bool:
            return set(jobs) <= {one.name for one in marks.executions(self.marks) if one.finished}

        until(finished, f"{jobs} to come to their end")

    def back(self, what: str, since_ms: int) -> int:
        """Wait until every partition has decided something from now on; how long the last took since then, ms.

        To be called when the act is done, whose beginning is `since_ms`: what was decided meanwhile tells nothing, nor
        does a new owner's first batch if there is nothing in it.
        """
        done_ms = now_ms()

        def first() -> dict[int, int] | None:
            batches = self.log().batches
            found = {p: first_decision_ms(batches.get(p, ()), done_ms) for p in range(self.settings.partitions)}
            return found if all(found.values()) else None

        longest = max(until(first, f"every partition to decide again after: {what}", 120).values()) - since_ms
        told(f"{what}, to the next decision of every partition", longest)
        return longest

    def judge(self, woken: Mapping[str, Sequence[tuple[float, float]]] | None = None) -> None:
        """All jobs have ended, and nothing was lost, doubled, or ran at the same time: told by the history checker.

        `woken` is when the hosts of workers were frozen, or had just been woken (CLOCK_BOOTTIME, ms).
        """
        began = now_ms()
        self.until_done(self.jobs, SETTLE_SECONDS_MAX)
        told("to the end of the last job", now_ms() - began)
        watch = Watch(self.settings)
        try:
            until(watch.all_decided, "every command to be decided")
        finally:
            watch.close()
        evidence = Evidence(executions=marks.executions(self.marks), woken=woken or {})
        report = judged(self.settings, evidence, set(self.jobs))
        told(
            "judged",
            report.jobs,
            f"jobs in {report.attempts} attempts; {report.attempts_lost} lost, {report.attempts_declined} declined",
        )
        assert report.violations == []
        assert report.succeeded == report.jobs == len(self.jobs)


def first_decision_ms(batches: Iterable[Batch], since_ms: int) -> int:
    """When the log took the first batch since then that holds anything; 0 if there is none."""
    return min((batch.time_ms for batch in batches if batch.time_ms >= since_ms and batch.events), default=0)


def processes_of(process: Process) -> list[int]:
    """A process and everything below it: what a lost host takes along."""
    import psutil

    top = psutil.Process(process.pid)
    return [each.pid for each in (top, *top.children(recursive=True))]
