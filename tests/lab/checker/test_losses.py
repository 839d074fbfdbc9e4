"""Lost attempts: the checker names each fault in the events after a loss, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records import events as e
from tests.lab.checker.test_causes import behind
from tests.lab.checker.test_checker import Batch, by, dispatched, of, submitted, succeeded

COMMAND, TIMER, LAPSE = e.Cause.COMMAND, e.Cause.TIMER, e.Cause.LAPSE
END = of(e.JobCancelled, "x", COMMAND, "17")


def worker_lost(session: str) -> e.Event:
    return by(LAPSE, e.WorkerLost(session=session, cause_ref=session))


def lost(session: str, attempt: int = 1, retry_at: int = 0, cause: e.Cause = LAPSE, ref: str = "") -> e.Event:
    facts: dict[str, Any] = {"attempt": attempt, "session": session, "reason": "LAPSED", "retry_at": retry_at}
    return of(e.AttemptLost, "x", cause, ref or session, **facts)


def dispatched_job(session: str = "a", **terms: Any) -> Batch:
    return [submitted("x", 16, worker_losses_max=9, **terms), dispatched("x", 1, session)]


def test_correct_losses_pass():
    assert behind(
        dispatched_job(),
        [worker_lost("a"), lost("a", retry_at=1_017), dispatched("x", 2, "b")],
        [worker_lost("b")],
        # The attempt may have continued for longer than its session's lease.
        [lost("b", attempt=2, retry_at=2_019), END],
    ).passed
    assert behind(
        dispatched_job(),
        [lost("a", retry_at=1_017, cause=COMMAND, ref="17"), dispatched("x", 2)],
        [succeeded("x", 2, 18)],
    ).passed
    assert behind(
        dispatched_job(on_worker_loss="hold"),
        [worker_lost("a"), lost("a"), of(e.JobHeld, "x", LAPSE, "a", reason="WORKER_LOST"), END],
    ).passed
    assert behind(
        dispatched_job(on_worker_loss="fail"),
        [worker_lost("a"), lost("a"), of(e.JobFailed, "x", LAPSE, "a", reason="WORKER_LOST")],
    ).passed


FAULTS: dict[str, tuple[list[Batch], str]] = {
    "a loss with a session that is open": (
        [dispatched_job(), [lost("a", retry_at=1_017), END]],
        "q/x: expected session a to be lost before its attempts, but found it open, in AttemptLost",
    ),
    "a loss before the loss of its session": (
        [dispatched_job(), [lost("a", retry_at=1_017), worker_lost("a"), END]],
        "q/x: expected session a to be lost before its attempts, but found it open, in AttemptLost",
    ),
    "a loss because of another session": (
        [dispatched_job(), [worker_lost("a"), lost("a", retry_at=1_017, ref="b"), END]],
        "q/x: expected a loss because of session a, but found it because of b, in AttemptLost",
    ),
    "a second loss without a delay": (
        [
            dispatched_job(),
            [worker_lost("a"), lost("a", retry_at=1_017), dispatched("x", 2, "b")],
            [worker_lost("b"), lost("b", attempt=2, retry_at=1_018), END],
        ],
        "q/x: expected a retry 1000 ms after loss 2, but found it 0 ms later, in AttemptLost",
    ),
    "a first loss with a delay": (
        [dispatched_job(), [worker_lost("a"), lost("a", retry_at=2_017), END]],
        "q/x: expected a retry 0 ms after loss 1, but found it 1000 ms later, in AttemptLost",
    ),
    "a job that fails instead of being held": (
        [
            dispatched_job(on_worker_loss="hold"),
            [worker_lost("a"), lost("a"), of(e.JobFailed, "x", LAPSE, "a", reason="WORKER_LOST")],
        ],
        "q/x: expected JobHeld to follow no further attempt, but found something else, in JobFailed",
    ),
    "a job that is held instead of failing": (
        [
            dispatched_job(on_worker_loss="fail"),
            [worker_lost("a"), lost("a"), of(e.JobHeld, "x", LAPSE, "a", reason="WORKER_LOST"), END],
        ],
        "q/x: expected JobFailed to follow no further attempt, but found something else, in JobHeld",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    batches, text = FAULTS[fault]
    [found] = behind(*batches).violations
    assert text in found
