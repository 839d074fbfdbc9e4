"""The checker's rules about shares: which job a dispatch goes past, and whether it had to."""

from __future__ import annotations

from typing import Any

from ftjm.core.records import events as e
from ftjm.core.records.levels import SHARING_LEVEL
from ftjm.core.state.model import JobSpec
from ftjm.core.state.queues import Share
from ftjm.lab.checker.verdict import Violation, ViolationKind
from tests.lab.checker.test_queues import Judged, kinds


class Shared(Judged):
    """A queue whose jobs belong to shares, which have the first letter of the job's id; `-` is none."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(SHARING_LEVEL)
        self.declare(**spec)

    def wait(self, *names: str, at: int = 1_000, **spec: Any) -> None:
        for name in names:
            self.submit(name, at, share_identifier=name[0].strip("-"), **spec)

    def start(self, job_id: str, passed: str = "", reason: str = "", at: int = 1_000) -> list[Violation]:
        attempt = {"attempt": self.jobs[job_id].attempt + 1, "session": "s", "worker": "w", "lane": 0, "lease_ms": 1}
        return self.take(e.AttemptDispatched, job_id, at, **attempt, offer=1, passed=passed, passed_reason=reason)

    def end(self, kind: type[e.Event], job_id: str, at: int, **fields: Any) -> None:
        assert not self.take(kind, job_id, at, attempt=self.jobs[job_id].attempt, session="s", **fields)


WRONG = [ViolationKind.ORDER]


def test_a_dispatch_names_the_first_of_the_queue_and_goes_past_it_for_its_share_alone():
    judged = Shared(shares=[Share("b", 2)])
    judged.wait("a1", "a2", "a3", "b1", "b2", "b3")
    assert not judged.start("a1")
    assert kinds(judged.start("b1")) == WRONG, "it does not say that it goes past a2"
    assert not judged.start("b2", "a2", "Share"), "half of one second is no more than that of a"
    assert not judged.start("b3", "a2", "Share"), "they are equal, so rounding may decide"
    judged.wait("b4")
    assert kinds(judged.start("b4", "a2", "Share")) == WRONG * 2, "it is not true, and it is the turn of a"
    assert kinds(judged.start("a2", "a3", "Share")) == WRONG, "a2 comes first"


def test_the_turn_is_judged_also_where_no_better_job_is_gone_past():
    judged = Shared()
    judged.wait("a1", "a2", "b1")
    assert not judged.start("a1")
    assert kinds(judged.start("a2")) == WRONG


def test_within_a_share_the_order_is_that_of_the_score():
    judged = Shared()
    judged.wait("a1", "b1", "a2")
    judged.start("a1")
    assert ViolationKind.ORDER in kinds(judged.start("a2", "b1", "Share"))


def test_a_reason_that_is_none_is_found():
    judged = Shared()
    judged.wait("a1", "b1", "b2")
    assert kinds(judged.start("b1", "a1", "Whim")) == WRONG
    judged = Shared()
    judged.wait("a1", "b1")
    assert kinds(judged.start("b1", "a1", "Deadline")) == WRONG, "it has no deadline"


def test_a_job_whose_deadline_has_passed_is_gone_past():
    judged = Shared()
    spec = JobSpec(command=["true"], share_identifier="a", deadline_at=2_000)
    assert not judged.take(e.JobSubmitted, "a1", 1_000, spec=spec, deadline_at=2_000)
    judged.wait("a2", "b1", "b2")
    assert not judged.start("a2", "a1", "Deadline", at=2_000)
    assert not judged.start("b1", "a1", "Deadline", at=2_000)
    assert not judged.start("b2", "a1", "Deadline", at=2_000), "no job of a could start, though it is its turn"


def test_the_reservation_is_for_shares_without_attempts():
    judged = Shared(compute_reservation=50)
    judged.wait("a1", "a2", "b1", "b2")
    assert not judged.start("a1")
    assert not judged.start("b1", "a2", "ComputeReservation")
    assert kinds(judged.start("b2", "a2", "ComputeReservation")) == WRONG, "b has an attempt, too"
    judged.wait("c1", "d1")
    assert not judged.start("c1", "a2", "ComputeReservation")
    judged.declare()
    assert kinds(judged.start("d1", "a2", "ComputeReservation")) == WRONG, "nothing is reserved"


def test_what_was_used_is_corrected_at_the_end_and_decays():
    judged = Shared(half_life_ms=8_000)
    judged.wait("a1", "a2", "a3", "b1", "b2")
    assert not judged.start("a1")
    assert not judged.start("b1", "a2", "Share")
    judged.end(e.AttemptSucceeded, "a1", 1_100, started_at=1_000, ended_at=1_100)
    judged.end(e.AttemptStarted, "b1", 1_000, started_at=1_000)
    judged.end(e.AttemptLost, "b1", 9_000, reason="LAPSED", retry_at=9_000)
    assert not judged.start("a2", at=9_000), "a has used 0.1 s, and b 8 s"
    judged.end(e.AttemptDeclined, "a2", 9_000)
    assert not judged.start("a2", at=9_000), "what came back is not charged"
    assert not judged.start("a3", at=9_000), "the mean of a is 0.1 s"
    judged.wait("a4", at=9_000)
    assert kinds(judged.start("b1", at=9_000)) == WRONG, "a has still used less"


def test_an_attempt_that_may_not_have_started_keeps_its_charge():
    judged = Shared()
    judged.wait("a1", "b1")
    assert not judged.start("a1")
    judged.end(e.AttemptLost, "a1", 1_000, reason="LAPSED", retry_at=1_000)
    assert not judged.start("b1", "a1", "Share")


def test_a_share_is_forgotten_with_its_last_job():
    judged = Shared()
    judged.wait("a1", "b1")
    assert not judged.start("a1")
    judged.end(e.AttemptSucceeded, "a1", 1_000, started_at=1_000, ended_at=1_000)
    assert not judged.take(e.JobForgotten, "a1", 1_000, cause=e.Cause.TIMER, cause_ref="1000")
    judged.wait("a2", "b2")
    assert not judged.start("b1")
    assert not judged.start("a2"), "a has used nothing, as far as is known"
    assert kinds(judged.start("b2")) == []
