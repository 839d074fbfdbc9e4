"""The part of a job's specification that sets times and limits, and the rules on the times of its first events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec, OnWorkerLoss
from ftjm.lab.checker.verdict import Violation, ViolationKind


class JobTerms(NamedTuple):
    """Limits and times of a job: the fields of `JobSpec` that the checker judges by."""

    priority: int = 50
    held: bool = False
    max_attempts: int = 1
    on_worker_loss: str = OnWorkerLoss.REQUEUE
    worker_losses_max: int = 0
    backoff_ms: int = 0
    backoff_factor: float = 1.0
    backoff_max_ms: int = 0
    retention_ms: int = 0
    deadline_ms: int = 0
    deadline_at: int = 0
    continue_for_ms: int = 0
    concurrency_key: str = ""
    share_identifier: str = ""

    @classmethod
    def of(cls, spec: JobSpec) -> JobTerms:
        """Return the terms that a specification sets."""
        return cls(*(getattr(spec, name) for name in cls._fields))

    def backoff(self, failures: int) -> float:
        """Return the longest delay that may follow failure number `failures`, ms. (The product draws a shorter one.)"""
        return min(self.backoff_max_ms, self.backoff_ms * self.backoff_factor ** min(failures - 1, 64))

    @staticmethod
    def loss_backoff(losses: int) -> int:
        """Return the delay after loss number `losses`, ms. The first loss has none: the job did not cause it."""
        return 0 if losses < 2 else min(60_000, 1_000 << min(losses - 2, 16))

    def deadline(self, at: int) -> int:
        """Return the deadline of a run that begins at `at` (both ms since the epoch); 0 if the job has none."""
        return at + self.deadline_ms if self.deadline_ms else self.deadline_at


def check_submission(event: e.JobSubmitted) -> Iterator[Violation]:
    """Judge whether the submission has the delay and the deadline that the specification asks for."""
    spec = event.spec
    due_at = event.at + spec.delay_ms if spec.delay_ms else spec.start_at
    if event.due_at != (due_at := due_at if due_at > event.at else 0):
        yield Violation(ViolationKind.TIMER, f"expected it to wait until {due_at}, but found {event.due_at}")
    if event.deadline_at != (deadline_at := JobTerms.of(spec).deadline(event.at)):
        yield Violation(ViolationKind.TIMER, f"expected the deadline {deadline_at}, but found {event.deadline_at}")


def check_rerun(terms: JobTerms, event: e.JobRerun) -> Iterator[Violation]:
    """Judge the deadline of a further run. An absolute deadline that has passed does not apply to it."""
    deadline_at = terms.deadline(event.at)
    if event.deadline_at != (deadline_at := deadline_at if deadline_at > event.at else 0):
        yield Violation(ViolationKind.TIMER, f"expected the deadline {deadline_at}, but found {event.deadline_at}")
