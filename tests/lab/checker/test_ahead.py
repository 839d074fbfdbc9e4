"""The checker's rules about attempts that are sent ahead of a free slot."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records import events as e
from ftjm.core.records.levels import AHEAD_LEVEL
from ftjm.core.state.model import FailureReason, JobSpec, OnWorkerLoss, StopReason
from ftjm.lab.checker.evidence import Evidence
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.partition_rules import PartitionRules
from ftjm.lab.checker.verdict import Violation, ViolationKind

NAME = ("q", "a")
ABOUT: dict[str, Any] = {"queue": "q", "job_id": "a", "run": 1, "at": 1_000}
ATTEMPT: dict[str, Any] = {**ABOUT, "attempt": 1, "session": "s1"}


class Judged:
    """One job, whose events are judged one after the other."""

    def __init__(self, level: int = AHEAD_LEVEL, **spec: Any) -> None:
        self.rules = PartitionRules(0, Evidence(offers=None), {})
        self.job = CheckedJob(0)
        self.attempts = 0
        list(self.rules.take_other_event(e.UpgradeFinalized(level=level, state_version=6)))
        assert not self.take(e.JobSubmitted(**ABOUT, spec=JobSpec(command=["true"], **spec)))

    def take(self, event: e.Event) -> list[Violation]:
        return list(self.rules.take_job_event(NAME, self.job, event))

    def dispatch(self, *, ahead: bool) -> list[Violation]:
        self.attempts += 1
        return self.take(
            e.AttemptDispatched(
                **{**ATTEMPT, "attempt": self.attempts}, worker="w", lane=0, lease_ms=5_000, offer=1, ahead=ahead
            )
        )

    def lose(self, reason: str, retry_at: int = 1_000) -> list[Violation]:
        list(self.rules.take_other_event(e.WorkerLost(session="s1", at=1_000)))
        cause: dict[str, Any] = {"cause": e.Cause.LAPSE, "cause_ref": "s1"}
        return self.take(
            e.AttemptLost(**{**ATTEMPT, "attempt": self.attempts}, **cause, reason=reason, retry_at=retry_at)
        )


def test_a_paused_queues_job_is_not_sent_to_a_worker():
    judged = Judged()
    list(judged.rules.take_other_event(e.QueuePaused(queue="q")))
    (violation,) = judged.dispatch(ahead=False)
    assert violation.kind is ViolationKind.LIMIT
    assert "q, which is paused" in violation.text
    judged = Judged()
    for event in (e.QueuePaused(queue="q"), e.QueueResumed(queue="q"), e.QueuePaused(queue="other")):
        list(judged.rules.take_other_event(event))
    assert not judged.dispatch(ahead=False)


def test_a_job_may_go_ahead_once_the_level_is_final():
    assert not Judged().dispatch(ahead=True)
    (violation,) = Judged(level=1).dispatch(ahead=True)
    assert violation.kind is ViolationKind.LIMIT
    assert "its partition's level" in violation.text


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"on_worker_loss": OnWorkerLoss.FAIL}, "on_worker_loss fail"),
        ({"on_worker_loss": OnWorkerLoss.HOLD}, "on_worker_loss hold"),
        ({"continue_for_ms": 1}, "continue_for"),
    ],
)
def test_jobs_that_never_go_ahead(spec, reason):
    (violation,) = Judged(**spec).dispatch(ahead=True)
    assert reason in violation.text
    assert not Judged(**spec).dispatch(ahead=False)


def test_a_job_that_came_back_does_not_go_ahead_again():
    judged = Judged()
    judged.dispatch(ahead=True)
    assert not judged.take(e.AttemptDeclined(**ATTEMPT))
    (violation,) = judged.dispatch(ahead=True)
    assert "came back" in violation.text


@pytest.mark.parametrize("reason", ["LAPSED", "CLOSED"])
def test_a_loss_is_not_charged_while_nobody_knows_whether_the_attempt_has_started(reason):
    judged = Judged(worker_losses_max=1)
    judged.dispatch(ahead=True)
    assert not judged.lose(reason)
    assert any("came back" in violation.text for violation in judged.dispatch(ahead=True))


def test_a_loss_of_an_attempt_that_has_started_is_charged():
    judged = Judged(worker_losses_max=0)
    judged.dispatch(ahead=True)
    assert not judged.take(e.AttemptStarted(**ATTEMPT, started_at=1))
    found = judged.lose("LAPSED")
    assert [violation.kind for violation in found] == [ViolationKind.END]
    judged = Judged(worker_losses_max=0)
    judged.dispatch(ahead=True)
    assert judged.lose(FailureReason.GUARD_LOST)


def test_a_new_run_may_go_ahead_again():
    judged = Judged()
    judged.dispatch(ahead=True)
    judged.take(e.JobStopRequested(**ABOUT, attempt=1, reason=StopReason.CANCELLED, cause=e.Cause.COMMAND))
    judged.take(e.AttemptDeclined(**ATTEMPT))
    assert judged.job.not_ahead
    judged.take(e.JobCancelled(**ABOUT))
    judged.take(e.JobRerun(**{**ABOUT, "run": 2}, command_id="r"))
    assert not judged.job.not_ahead
