"""The checker's rules about a job whose attempt windows stop: it is not charged, and goes on as any other."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import STOP_LEVEL
from ftjm.core.state.model import FailureReason, JobState, OnWorkerLoss, StopReason
from ftjm.lab.checker.command_answers import check_answer
from ftjm.lab.checker.verdict import Violation, ViolationKind
from tests.lab.checker.test_ahead import ABOUT, ATTEMPT, Judged
from tests.lab.checker.test_causes import behind
from tests.lab.checker.test_checker import dispatched, of, submitted
from tests.lab.checker.test_closures import advanced, stop_window, turned
from tests.lab.checker.test_queues import kinds
from tests.lab.checker.test_shares import WRONG, Shared

SLICE: dict[str, Any] = {"cause": e.Cause.CONTINUATION, "cause_ref": "WINDOW_STOP/"}
TIMES: dict[str, Any] = {"started_at": 990, "ended_at": 999}
STOPPED: dict[str, Any] = {**ATTEMPT, **TIMES, "reason": FailureReason.STOPPED}


def running(**spec: Any) -> Judged:
    """A job runs whose windows stop it now."""
    judged = Judged(STOP_LEVEL, **spec)
    assert not judged.dispatch(ahead=False)
    for event in (stop_window(), turned("a", False)):
        assert not list(judged.rules.take_other_event(event))
    return judged


def ask(judged: Judged, **fields: Any) -> list[Violation]:
    return judged.take(e.JobStopRequested(**{**ABOUT, "attempt": 1, "reason": "WINDOW", **SLICE, **fields}))


def being_stopped(**spec: Any) -> Judged:
    judged = running(**spec)
    assert not ask(judged)
    assert not list(judged.rules.take_other_event(advanced()))
    return judged


def test_a_stopped_attempt_goes_back_and_the_next_one_is_another_story():
    judged = being_stopped(max_attempts=1)
    assert not judged.take(e.AttemptStopped(**ATTEMPT, **TIMES))
    assert (judged.job.state, judged.job.failures, judged.job.stopping) == (JobState.READY, 0, "")
    assert not list(judged.rules.take_other_event(turned("a", True)))
    assert not judged.dispatch(ahead=False)
    (found,) = judged.take(e.AttemptStopped(**{**ATTEMPT, "attempt": 2}, **TIMES))
    assert found == (
        ViolationKind.END,
        "expected windows to stop an attempt before it goes back uncharged, but found no such request",
    )


def test_a_stopped_attempt_that_was_cancelled_meanwhile_does_not_go_back():
    judged = being_stopped()
    assert not judged.take(e.JobStopRequested(**ABOUT, attempt=1, reason=StopReason.CANCELLED, cause=e.Cause.COMMAND))
    (found,) = judged.take(e.AttemptStopped(**ATTEMPT, **TIMES))
    assert "but found CANCELLED" in found.text


def test_an_attempt_that_windows_stop_is_not_charged():
    judged = being_stopped(max_attempts=2)
    (found,) = judged.take(e.AttemptFailed(**STOPPED, retry_at=1_000))
    assert found == (
        ViolationKind.END,
        "expected an attempt that windows have stopped to go back uncharged, but found it charged as a failure",
    )
    judged = being_stopped(max_attempts=2)
    assert not judged.take(e.AttemptFailed(**{**STOPPED, "reason": FailureReason.EXIT_CODE}, retry_at=1_000))


def test_a_failure_or_a_loss_meanwhile_is_followed_by_another_attempt():
    judged = being_stopped(max_attempts=2)
    (found,) = judged.take(e.AttemptFailed(**{**STOPPED, "reason": FailureReason.EXIT_CODE}))
    assert "expected a further attempt (1 of 2 attempts failed, and a stop was requested (WINDOW))" in found.text
    assert not being_stopped().lose("LAPSED")
    assert any("expected a further attempt" in text for _, text in being_stopped().lose("LAPSED", retry_at=0))
    judged = being_stopped(on_worker_loss=OnWorkerLoss.HOLD)
    assert not judged.lose("LAPSED", retry_at=0)
    assert judged.job.unsettled is not None
    assert judged.job.unsettled.ends_as is e.JobHeld


def test_one_that_comes_back_meanwhile_waits_again():
    judged = being_stopped()
    assert not judged.take(e.AttemptDeclined(**ATTEMPT))
    assert (judged.job.state, judged.job.stopping, judged.job.unsettled) == (JobState.READY, "", None)


def test_the_deadline_is_kept_until_the_job_ends():
    judged = Judged(STOP_LEVEL)
    judged.job.deadline_at = 5_000
    assert not judged.dispatch(ahead=False)
    for event in (stop_window(), turned("a", False)):
        list(judged.rules.take_other_event(event))
    assert not ask(judged)
    assert judged.job.deadline_at == 5_000
    timer: dict[str, Any] = {"cause": e.Cause.TIMER, "cause_ref": "5000"}
    late = {**ABOUT, "at": 5_000}
    assert not judged.take(e.JobStopRequested(**late, attempt=1, reason=StopReason.DEADLINE, **timer))
    assert judged.job.deadline_at == 0


def test_windows_stop_nothing_that_is_being_stopped():
    judged = running()
    assert not ask(judged)
    (found,) = ask(judged)
    assert found.kind is ViolationKind.DOUBLED
    judged = running()
    assert not judged.take(e.JobStopRequested(**ABOUT, attempt=1, reason=StopReason.CANCELLED, cause=e.Cause.COMMAND))
    (found,) = ask(judged)
    assert found.kind is ViolationKind.DOUBLED


@pytest.mark.parametrize("cause", [e.Cause.COMMAND, e.Cause.TIMER])
def test_only_a_slice_stops_because_of_windows(cause: e.Cause):
    stop = of(e.JobStopRequested, "x", cause, "17" if cause is e.Cause.COMMAND else "1017", attempt=1, reason="WINDOW")
    report = behind([submitted("x", 16), dispatched("x", 1)], [stop])
    assert any("expected the cause CONTINUATION" in text for text in report.violations)


def test_the_share_is_charged_for_what_a_stopped_attempt_took():
    judged = Shared()
    judged.wait("a1", "a2", "b1", "b2")
    assert not judged.start("a1")
    assert not judged.start("b1", "a2", "Share")
    judged.jobs["a1"].stopping = StopReason.WINDOW
    judged.end(e.AttemptStopped, "a1", 2_000, started_at=1_500, ended_at=1_900)
    assert set(kinds(judged.start("b2", "a1", "Share", at=2_000))) == set(WRONG), "b has used 1 s, and a 400 ms"


def test_the_report_of_a_stop_is_answered_so():
    report = c.FailAttempt(
        queue="q", job_id="a", run=1, attempt=1, session="s1", reason=FailureReason.STOPPED, signal=15, **TIMES
    )
    stopped = e.AttemptStopped(**ATTEMPT, **TIMES, signal=15)
    assert not list(check_answer("7", stopped, report))
    other = e.AttemptStopped(**ATTEMPT, **TIMES, signal=9)
    assert [text for _, text in check_answer("7", other, report)] == [
        "expected the values of the FailAttempt 7, but found others for signal"
    ]
    success = c.CompleteAttempt(queue="q", job_id="a", run=1, attempt=1, session="s1", **TIMES)
    assert list(check_answer("7", stopped, success))
