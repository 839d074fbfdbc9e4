"""Shared parts of the drills: jobs that record when they ran, the check of the history, and the measured times."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ftjm.client.command_client import Client
from ftjm.core.records.commands import SubmitJob
from ftjm.core.state.model import JobSpec
from ftjm.lab.chaos import execution_marks, recorder
from ftjm.lab.chaos.log_watch import LogWatch, judge_topics
from ftjm.lab.checker import Evidence, JobName
from ftjm.runtime.config import Settings
from integration.harness import QUEUES, Batch, Cluster, Load, LogTail
from integration.waiting import until
from integration.workers import print_figure

SETTLE_SECONDS_MAX = 400.0
LOSSES_MAX = 1_000
"""Workers are lost here; no job may fail because of that."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Ground(Cluster):
    """A cluster for a drill to break. `check` judges its jobs by the log and by the records that the jobs write."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        super().__init__(settings, folder)
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.jobs: list[JobName] = []
        """All that the log has acknowledged."""

    def spec(self, seconds: float) -> JobSpec:
        """A job that runs for `seconds` and records when it ran."""
        command = [sys.executable, "-I", "-S", recorder.__file__, str(self.marks), str(seconds), "0", "0"]
        return JobSpec(command=command, worker_losses_max=LOSSES_MAX)

    @contextmanager
    def working(self, per_second: float = 10.0) -> Iterator[Load]:
        """Submit jobs steadily until the block ends."""
        with self.load(per_second, spec=self.spec(0.05)) as load:
            yield load
        assert len(load.acknowledged) == len(load.tickets)
        self.jobs += load.acknowledged

    def submit(self, name: str, seconds: float, queues: Sequence[str] = QUEUES) -> list[JobName]:
        """Submit one job to each queue. The log has them on return."""
        with Client(self.settings, listen=False) as client:
            for queue in queues:
                client.send(SubmitJob(queue=queue, job_id=name, spec=self.spec(seconds)))
            client.confirm()
        found = [(queue, name) for queue in queues]
        self.jobs += found
        return found

    def attempts(self, jobs: Iterable[JobName]) -> dict[JobName, int]:
        """Return how many attempts of each job have begun to run."""
        return {(q, j): len(list(self.marks.glob(f"{q}+{j}+*"))) for q, j in jobs}

    def until_running(self, jobs: Sequence[JobName]) -> None:
        until(lambda: all(self.attempts(jobs).values()), f"{jobs} to run")

    def until_finished(self, jobs: Sequence[JobName]) -> None:
        """Wait until an attempt of each job has finished, by the jobs' own records: the log may not know it yet."""

        def finished() -> bool:
            return set(jobs) <= {one.name for one in execution_marks.executions(self.marks) if one.finished}

        until(finished, f"{jobs} to come to their end")

    def until_decided_again(self, what: str, since_ms: int) -> int:
        """Wait until every partition has decided something after this call. Return the longest pause, in ms.

        Call it when the disturbance that began at `since_ms` is over. Earlier decisions prove nothing, nor does a new
        owner's first batch if that batch is empty.
        """
        done_ms = now_ms()

        def first() -> dict[int, int] | None:
            found = {p: first_decision_ms(batches, done_ms) for p, batches in tail.read_on().batches.items()}
            return found if all(found.values()) else None

        with LogTail(self.settings) as tail:
            found = until(first, f"every partition to decide again after: {what}", SETTLE_SECONDS_MAX)
        longest = max(found.values()) - since_ms
        print_figure(f"{what}, to the next decision of every partition", longest)
        return longest

    def check(
        self,
        woken: Mapping[str, Sequence[tuple[float, float]]] | None = None,
        *,
        answered_by_newer_build: bool = False,
    ) -> None:
        """Check with the history checker that all jobs have ended and that none was lost, doubled or run twice at once.

        Args:
            woken: For each worker, the intervals in which its host was frozen or had just been woken
                (CLOCK_BOOTTIME, ms).
            answered_by_newer_build: Ignore complaints about answers: the checker cannot decode the commands of a
                newer build.
        """
        began = now_ms()
        self.until_done(self.jobs, SETTLE_SECONDS_MAX)
        print_figure("to the end of the last job", now_ms() - began)
        watch = LogWatch(self.settings)
        try:
            until(watch.has_decided_all, "every command to be decided")
        finally:
            watch.close()
        evidence = Evidence(executions=execution_marks.executions(self.marks), woken=woken or {})
        report = judge_topics(self.settings, evidence, set(self.jobs))
        print_figure(
            "judged",
            report.jobs,
            f"jobs in {report.attempts} attempts; {report.attempts_lost} lost, {report.attempts_declined} declined",
        )
        unknown = "expected an answer to the unreadable command" if answered_by_newer_build else None
        assert [str(one) for one in report.violations if not unknown or unknown not in str(one)] == []
        assert report.succeeded == report.jobs == len(self.jobs)


def first_decision_ms(batches: Iterable[Batch], since_ms: int) -> int:
    """Time of the first batch since `since_ms` that is not empty, in ms; 0 if there is none."""
    return min((batch.time_ms for batch in batches if batch.time_ms >= since_ms and batch.events), default=0)
