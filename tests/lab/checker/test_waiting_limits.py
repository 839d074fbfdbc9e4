"""The checker's rules about limits of waiting."""

from __future__ import annotations

from typing import Any

from ftjm.core.records import events as e
from ftjm.core.records.levels import SHARING_LEVEL
from ftjm.core.state.queues import WaitingAction, WaitingLimit
from ftjm.lab.checker.verdict import Violation, ViolationKind
from tests.lab.checker.test_queues import Judged, kinds

AT = 1_000


def waiting(*limits: tuple[str, int, WaitingAction]) -> Judged:
    """Job `a` is READY since `AT`."""
    judged = Judged(SHARING_LEVEL)
    judged.declare(waiting_limits=[WaitingLimit(*limit) for limit in limits])
    judged.submit("a", AT)
    return judged


def look(judged: Judged, kind: type[e.Event], at: int, due_at: int = 0, **fields: Any) -> list[Violation]:
    cause = {"cause": e.Cause.TIMER, "cause_ref": str(due_at or at)}
    if kind in (e.JobStuck, e.JobReviewed):
        fields = {"waited_ms": at - AT, **({"after_ms": 1_000} if kind is e.JobStuck else {}), **fields}
    return judged.take(kind, "a", at, **cause, **fields)


def test_what_follows_from_a_look_fits_a_limit_of_the_queue():
    judged = waiting(("Resources", 1_000, WaitingAction.NOTIFY))
    assert not look(judged, e.JobStuck, 2_000, reason="Resources", next_at=3_000)
    assert not look(judged, e.JobReviewed, 3_100, 3_000, reason="Priority", next_at=4_000)
    assert kinds(look(judged, e.JobReviewed, 4_000, reason="Resources", next_at=5_000)) == [ViolationKind.LOST]
    assert kinds(look(judged, e.JobStuck, 5_000, reason="Priority", next_at=6_000)) == [ViolationKind.LIMIT]
    assert kinds(look(judged, e.JobStuck, 6_000, reason="Resources", next_at=9_000)) == [ViolationKind.TIMER]


def test_a_look_is_at_its_time():
    judged = waiting(("Resources", 1_000, WaitingAction.NOTIFY))
    found = kinds(look(judged, e.JobStuck, 1_500, reason="Resources", next_at=2_000))
    assert found == [ViolationKind.TIMER, ViolationKind.LIMIT]


def test_a_reason_must_be_possible():
    judged = waiting(("", 1_000, WaitingAction.NOTIFY))
    assert kinds(look(judged, e.JobStuck, 2_000, reason="ConcurrencyLimit", next_at=3_000)) == [ViolationKind.ANSWER]
    judged.other(e.QueuePaused(queue="q"))
    assert kinds(look(judged, e.JobStuck, 3_000, reason="Resources", next_at=4_000)) == [ViolationKind.ANSWER]
    assert not look(judged, e.JobStuck, 4_000, reason="QueuePaused", next_at=5_000)


def test_a_job_is_failed_or_held_by_such_a_limit_only():
    judged = waiting(("ConcurrencyLimit", 1_000, WaitingAction.FAIL), ("Resources", 1_000, WaitingAction.HOLD))
    assert kinds(look(judged, e.JobFailed, 2_000, reason="WAITING_LIMIT")) == [ViolationKind.LIMIT]
    judged = waiting(("Resources", 1_000, WaitingAction.HOLD))
    assert not look(judged, e.JobHeld, 2_000, reason="WAITING_LIMIT: it has waited")
    assert not judged.jobs["a"].look_at


def test_jobs_that_wait_when_limits_change_are_looked_at_by_the_new_ones():
    judged = waiting()
    judged.rules._jobs = {("q", "a"): judged.jobs["a"]}
    judged.declare(waiting_limits=[WaitingLimit("", 5_000)])
    judged.other(e.QueueReordered(queue="q", jobs=["q/a"], next_key=b"", at=1_500))
    assert judged.jobs["a"].look_at == 6_000


def test_a_look_leaves_a_job_at_its_place_also_while_its_queue_is_about_to_be_reordered():
    limits = [WaitingLimit("Resources", 1_000, WaitingAction.NOTIFY)]
    for kind in (e.JobReviewed, e.JobStuck):
        judged = Judged(SHARING_LEVEL)
        judged.declare(waiting_limits=limits, ageing_ms=60_000)
        judged.submit("b", AT, priority=50)
        judged.submit("a", AT + 100, priority=90)
        judged.declare(waiting_limits=limits, ageing_ms=1)
        fields: dict[str, Any] = {"reason": "Resources" if kind is e.JobStuck else "Priority", "waited_ms": 1_000}
        assert not look(judged, kind, AT + 1_100, next_at=AT + 2_100, **fields)
        assert not judged.dispatch("a", AT + 1_100), "no event has given it another place"
