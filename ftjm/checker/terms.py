"""What of a job's specification says how it must go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ftjm.checker.report import Found, Kind
from ftjm.core import events as e
from ftjm.core.model import JobSpec, OnWorkerLoss


class Terms(NamedTuple):
    """Shared by all jobs that have the same."""

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

    @classmethod
    def of(cls, spec: JobSpec) -> Terms:
        return cls(*(getattr(spec, name) for name in cls._fields))

    def backoff(self, failures: int) -> float:
        """The longest delay after so many failures, ms."""
        return min(self.backoff_max_ms, self.backoff_ms * self.backoff_factor ** min(failures - 1, 64))

    @staticmethod
    def loss_backoff(losses: int) -> int:
        """The delay after so many losses, ms: none after the first, since the job is not to blame."""
        return 0 if losses < 2 else min(60_000, 1_000 << min(losses - 2, 16))

    def deadline(self, at: int) -> int:
        """Of a run that begins then; 0 for none."""
        return at + self.deadline_ms if self.deadline_ms else self.deadline_at


def birth(event: e.JobSubmitted) -> Iterator[Found]:
    """Whether a job waits, and may take, as long as its specification says."""
    spec = event.spec
    due_at = event.at + spec.delay_ms if spec.delay_ms else spec.start_at
    if event.due_at != (due_at := due_at if due_at > event.at else 0):
        yield Found(Kind.TIMER, f"expected it to wait until {due_at}, but found {event.due_at}")
    if event.deadline_at != (deadline_at := Terms.of(spec).deadline(event.at)):
        yield Found(Kind.TIMER, f"expected the deadline {deadline_at}, but found {event.deadline_at}")


def rebirth(terms: Terms, event: e.JobRerun) -> Iterator[Found]:
    """The same of a further run, which an absolute deadline that has passed does not concern."""
    deadline_at = terms.deadline(event.at)
    if event.deadline_at != (deadline_at := deadline_at if deadline_at > event.at else 0):
        yield Found(Kind.TIMER, f"expected the deadline {deadline_at}, but found {event.deadline_at}")
