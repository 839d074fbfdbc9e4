"""The checker's rules about queues: pauses, limits, rates, and the order of waiting jobs."""

from __future__ import annotations

from typing import Any

from ftjm.core.records import events as e
from ftjm.core.records.levels import FIRST_LEVEL, QUEUE_LEVEL
from ftjm.core.state.model import JobSpec
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.core.state.queues import QueueSpec
from ftjm.lab.checker.evidence import Evidence
from ftjm.lab.checker.job import CheckedJob
from ftjm.lab.checker.partition_rules import PartitionRules
from ftjm.lab.checker.verdict import Violation, ViolationKind
from ftjm.lab.checker.waiting_jobs import STALLED_BATCHES


class Judged:
    """The jobs of one queue, whose events are judged one after the other."""

    def __init__(self, level: int = QUEUE_LEVEL, **spec: int) -> None:
        self.rules = PartitionRules(0, Evidence(offers=None), {})
        self.jobs: dict[str, CheckedJob] = {}
        self.revision = 0
        self.other(e.UpgradeFinalized(level=level, state_version=7))
        if spec:
            self.declare(**spec)

    def other(self, event: e.Event) -> list[Violation]:
        return list(self.rules.take_other_event(event))

    def declare(self, **spec: Any) -> list[Violation]:
        self.revision += 1
        return self.other(e.QueueApplied(queue="q", revision=self.revision, spec=QueueSpec(**spec), labels={}))

    def take(self, kind: type[e.Event], job_id: str, at: int, **fields: Any) -> list[Violation]:
        job = self.jobs.setdefault(job_id, CheckedJob(0))
        event = kind(**{"queue": "q", "job_id": job_id, "run": job.run, "at": at, **fields})
        return list(self.rules.take_job_event(("q", job_id), job, event))

    def submit(self, job_id: str, at: int = 1_000, **spec: Any) -> None:
        assert not self.take(e.JobSubmitted, job_id, at, spec=JobSpec(command=["true"], **spec))

    def dispatch(self, job_id: str, at: int = 1_000) -> list[Violation]:
        attempt = {"attempt": self.jobs[job_id].attempt + 1, "session": "s"}
        return self.take(e.AttemptDispatched, job_id, at, **attempt, worker="w", lane=0, lease_ms=5_000, offer=1)

    def succeed(self, job_id: str, at: int = 1_000) -> list[Violation]:
        attempt = {"attempt": self.jobs[job_id].attempt, "session": "s"}
        return self.take(e.AttemptSucceeded, job_id, at, **attempt, started_at=at, ended_at=at)

    def reorder(self, *jobs: str, next_key: bytes = b"") -> list[Violation]:
        return self.other(e.QueueReordered(queue="q", jobs=[f"q/{job_id}" for job_id in jobs], next_key=next_key))


def kinds(violations: list[Violation]) -> list[ViolationKind]:
    return [violation.kind for violation in violations]


def test_no_more_jobs_have_a_worker_than_the_queue_allows():
    judged = Judged(concurrency=1)
    for job_id in "abc":
        judged.submit(job_id)
    assert not judged.dispatch("a")
    (violation,) = judged.dispatch("b")
    assert violation == (ViolationKind.LIMIT, "expected at most 1 attempts of q at a time, but found 2")
    judged = Judged(concurrency=1)
    for job_id in "abc":
        judged.submit(job_id)
    assert not judged.dispatch("a")
    assert not judged.succeed("a")
    assert not judged.dispatch("b")
    assert not judged.other(e.QueueDeleted(queue="q"))
    assert not judged.dispatch("c")


def test_no_more_jobs_start_than_the_rate_allows():
    judged = Judged(rate_limit=2, rate_per_ms=1_000, rate_burst=2)
    for job_id in "abcde":
        judged.submit(job_id)
    assert not judged.dispatch("a", 1_000)
    assert not judged.dispatch("b", 1_000)
    assert not judged.declare(rate_limit=2, rate_per_ms=1_000, rate_burst=2, concurrency=9)
    assert not judged.dispatch("c", 1_500)
    assert kinds(judged.dispatch("d", 1_999)) == [ViolationKind.LIMIT]
    assert not judged.declare(rate_limit=9)
    assert not judged.dispatch("e", 1_999)


def test_a_job_that_failed_is_kept_as_long_as_its_queue_says():
    judged = Judged(dead_letter_ms=5_000)
    assert not judged.take(
        e.JobSubmitted, "a", 1_000, spec=JobSpec(command=["true"], retention_ms=9, deadline_at=2_000), deadline_at=2_000
    )
    assert not judged.take(e.JobFailed, "a", 2_000, reason="DEADLINE", cause=e.Cause.TIMER, cause_ref="2000")
    assert judged.jobs["a"].forget_at == 7_000


def test_a_revision_is_never_given_out_twice():
    judged = Judged(concurrency=1)
    judged.revision = 0
    assert kinds(judged.declare(concurrency=2)) == [ViolationKind.CHAIN]


def test_a_point_of_priority_is_worth_the_ageing_of_the_queue():
    for submitted_at, right in ((10_999, "new"), (11_001, "old")):
        wrong = "old" if right == "new" else "new"
        for job_id, found in ((right, []), (wrong, [ViolationKind.ORDER])):
            judged = Judged(ageing_ms=100)
            judged.submit("old", 1_000, priority=0)
            judged.submit("new", submitted_at, priority=100)
            assert kinds(judged.dispatch(job_id, 12_000)) == found


def test_before_the_level_is_final_priority_comes_before_age():
    judged = Judged(FIRST_LEVEL)
    judged.submit("old", 1_000, priority=1)
    judged.submit("new", 10**9, priority=2)
    assert kinds(judged.dispatch("old")) == [ViolationKind.ORDER]


def test_waiting_jobs_have_their_new_places_when_all_are_reordered():
    judged = Judged()
    judged.submit("old", 1_000, priority=1)
    judged.submit("new", 5_000, priority=100)
    assert kinds(judged.reorder()) == [ViolationKind.CAUSE]
    judged.declare(ageing_ms=10)
    assert not judged.reorder("new", next_key=b"x")
    (violation,) = judged.reorder()
    assert "expected q/old to have its new place" in violation.text
    judged.declare(ageing_ms=20)
    assert not judged.reorder("new", "old")
    assert kinds(judged.dispatch("new", 6_000)) == [ViolationKind.ORDER]


def test_only_waiting_jobs_are_reordered():
    judged = Judged()
    for job_id in "ab":
        judged.submit(job_id, priority=0)
    judged.declare(ageing_ms=10)
    assert not judged.dispatch("a")
    assert kinds(judged.reorder("a", next_key=b"x")) == [ViolationKind.ORDER]
    assert kinds(judged.reorder("none", next_key=b"x")) == [ViolationKind.ORDER]
    assert not judged.reorder("b")


def test_reordering_ends():
    judged = Judged()
    judged.submit("a")
    judged.declare(ageing_ms=10)
    found = [violation for _ in range(STALLED_BATCHES + 1) for violation in judged.rules._waiting.close_batch()]
    assert kinds(found) == [ViolationKind.ORDER]
    assert "no slice in 300 batches" in found[0].text


def test_a_queue_that_is_reordered_itself_is_left_out_where_all_are():
    judged = Judged(FIRST_LEVEL)
    judged.submit("a", 1_000, priority=1)
    judged.other(e.UpgradeFinalized(level=QUEUE_LEVEL, state_version=7))
    judged.other(e.QueueReordered(queue="", jobs=["q/a"], next_key=b"x"))
    judged.declare(ageing_ms=10)
    assert not judged.other(e.QueueReordered(queue="", jobs=[], next_key=b""))
    assert not judged.reorder("a")


def test_a_job_whose_deadline_has_passed_is_reordered_too():
    judged = Judged()
    judged.submit("late")
    judged.jobs["late"].deadline_at = 2_000  # its timer is late
    judged.submit("a")
    judged.declare(ageing_ms=10)
    judged.dispatch("a", 3_000)
    assert not judged.reorder("late")


def test_another_priority_is_another_place_of_the_same_age():
    judged = Judged(ageing_ms=100)
    judged.submit("a", 1_000, priority=10)
    judged.submit("b", 1_001, priority=10)
    assert not judged.take(e.JobPrioritized, "a", 90_000, priority=9)
    assert kinds(judged.dispatch("a", 90_000)) == [ViolationKind.ORDER]
    assert judged.jobs["a"].eligible_at == 1_000


def test_a_request_to_cancel_all_leaves_none_waiting():
    judged = Judged()
    for job_id in "ab":
        judged.submit(job_id)
    begun = e.BulkBegun(queue="q", bulk="b1", action=BulkAction.CANCEL, filter=JobFilter(), reason="", priority=0)
    assert not judged.other(begun)
    judged.submit("later")
    cause = {"cause": e.Cause.CONTINUATION, "cause_ref": "BULK/q/b1"}
    assert not judged.take(e.JobCancelled, "a", 1_000, **cause)
    (violation,) = judged.other(e.BulkAdvanced(queue="q", bulk="b1", next_job="", looked=2, changed=1, refused=0))
    assert violation == (ViolationKind.LOST, "expected BULK/q/b1 to cancel q/b, but found it waiting")


def test_what_is_done_in_the_name_of_a_request_belongs_to_it():
    judged = Judged()
    judged.submit("a")
    judged.submit("b")
    cause = {"cause": e.Cause.CONTINUATION, "cause_ref": "BULK/q/b1"}
    assert ViolationKind.CAUSE in kinds(judged.take(e.JobHeld, "a", 1_000, **cause))
    begun = e.BulkBegun(queue="q", bulk="b1", action=BulkAction.CANCEL, filter=JobFilter(), reason="", priority=0)
    assert not judged.other(begun)
    assert ViolationKind.DOUBLED in kinds(judged.other(begun))
    judged.submit("later")
    assert kinds(judged.take(e.JobHeld, "b", 1_000, **cause)) == [ViolationKind.CAUSE]
    assert kinds(judged.take(e.JobCancelled, "later", 1_000, **cause)) == [ViolationKind.CAUSE]
    wrong = e.BulkAdvanced(queue="q", bulk="b1", next_job="x", looked=2, changed=7, refused=0)
    assert kinds(judged.other(wrong)) == [ViolationKind.ANSWER]
    assert not judged.other(e.BulkStopped(queue="q", bulk="b1"))
    assert kinds(judged.other(e.BulkStopped(queue="q", bulk="b1"))) == [ViolationKind.CAUSE]


def test_all_waiting_jobs_get_their_places_when_a_level_is_final():
    judged = Judged(FIRST_LEVEL)
    judged.submit("old", 1_000, priority=1)
    judged.submit("new", 10**7, priority=2)
    judged.other(e.UpgradeFinalized(level=QUEUE_LEVEL, state_version=7))
    event = e.QueueReordered(queue="", jobs=["q/new", "q/old"], next_key=b"")
    assert not judged.other(event)
    assert kinds(judged.dispatch("new", 10**7)) == [ViolationKind.ORDER]
