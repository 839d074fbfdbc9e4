"""Attempts: dispatched, started, ended in every way, and lost with their workers."""

import pytest

from ftjm.core.backoff import LOSS_BACKOFF_MS
from ftjm.core.evolve.sessions import SESSION_MEMORY_MS
from ftjm.core.limits import CHECKPOINT_BYTES_MAX, PROGRESS_TEXT_MAX
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import LOSSES, Checkpoint, FailureReason, JobState, OnWorkerLoss
from ftjm.core.state.outbox import CloseMessage, OutcomeMessage, RunMessage, StopMessage
from tests.core.story import (
    NOW,
    REPLY_TO,
    attempt_failed,
    attempt_lost,
    checkpointed,
    command,
    declined,
    dispatched,
    failed,
    forgotten,
    given,
    like,
    report,
    rerun,
    started,
    stop_requested,
    submitted,
    succeeded,
    worker_lost,
)

REPORTS = (c.StartAttempt, c.CompleteAttempt, c.FailAttempt, c.CheckpointAttempt, c.DeclineAttempt)


def test_a_dispatch_binds_the_job_to_a_slot_and_sends_a_message_to_the_session():
    story = given(submitted(), dispatched()).sends(RunMessage)
    story.job_is(JobState.DISPATCHED, attempt=1, session="s1", dispatched_at=NOW)
    message = story.messages[0]
    assert (message.session, message.number, message.lane, message.attempt) == ("s1", 1, 3, 1)
    session = story.state.session("s1")
    assert session is not None
    assert (session.worker, session.lane, session.lease_ms, session.live) == ("w", 3, 5_000, 1)
    assert list(story.state.attempts("s1")) == ["q/a"]


def test_an_attempt_starts_and_succeeds():
    story = given(submitted(), dispatched()).when(report(c.StartAttempt))
    story.then(like(e.AttemptStarted, attempt=1, session="s1", started_at=NOW)).job_is(JobState.RUNNING)
    story.when(report(c.CompleteAttempt, result=b"42", exit_code=0, stdout=b"out", stderr=b"err", stdout_cut=7))
    story.then(
        like(e.AttemptSucceeded, run=1, attempt=1, result=b"42", stdout=b"out", stderr=b"err", stdout_cut=7)
    ).job_is(JobState.SUCCEEDED, session="", reason="", ended_at=NOW)
    assert story.state.outcome("q/a").result == b"42"
    assert list(story.state.attempts("s1")) == []


def test_an_attempt_may_succeed_before_its_start_was_reported():
    given(submitted(), dispatched()).when(report(c.CompleteAttempt)).job_is(JobState.SUCCEEDED)


def test_a_start_is_reported_once():
    given(submitted(), dispatched(), started()).when(report(c.StartAttempt)).refused("WRONG_STATE", "DISPATCHED")


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_on_an_unknown_job_is_refused(kind):
    given().when(report(kind)).refused("UNKNOWN_JOB")


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("stale", [{"attempt": 2}, {"attempt": 0}, {"session": "s2"}], ids=str)
def test_a_report_of_another_attempt_is_stale(kind, stale):
    given(submitted(), dispatched()).when(report(kind, **stale)).refused("STALE_ATTEMPT", "DISPATCHED")


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_after_the_outcome_is_stale(kind):
    given(submitted(), dispatched(), succeeded()).when(report(kind)).refused("STALE_ATTEMPT", "SUCCEEDED")
    given(submitted(), dispatched(), attempt_lost(retry_at=NOW)).when(report(kind)).refused("STALE_ATTEMPT", "READY")


# -- failures


def test_a_failure_waits_for_its_backoff_and_runs_again():
    story = given(submitted(max_attempts=2), dispatched(), started())
    story.when(report(c.FailAttempt, error="sad", exit_code=3, signal=0, stderr=b"err"))
    story.then(like(e.AttemptFailed, attempt=1, error="sad", exit_code=3, stderr=b"err"))
    story.job_is(JobState.RETRY_WAIT, failures=1, session="", reason="EXIT_CODE")
    assert NOW < story.job().due_at <= NOW + 1_000
    story.when_due(NOW + 1_000).then(like(e.JobQueued)).job_is(JobState.READY)
    assert story.state.outcome("q/a").error == "sad", "the error is shown while the job waits"


def test_a_failure_without_backoff_is_ready_at_once_and_keeps_its_place():
    story = given(submitted(max_attempts=2, backoff_ms=0), dispatched(), submitted(job_id="b"))
    story.when(report(c.FailAttempt)).job_is(JobState.READY)
    assert [job_id for _, _, job_id in story.state.ready("q")] == ["a", "b"]


def test_the_job_fails_with_its_last_attempt():
    story = given(submitted(), dispatched()).when(report(c.FailAttempt, error="sad", exit_code=3, signal=9))
    story.then(
        like(e.AttemptFailed, retry_at=0, signal=9, exit_code=3),
        like(e.JobFailed, run=1, reason="EXIT_CODE", error="sad"),
    ).job_is(JobState.FAILED, reason="EXIT_CODE")
    outcome = story.state.outcome("q/a")
    assert (outcome.error, outcome.exit_code) == ("sad", 3)


def test_a_failure_without_error_and_exit_code_leaves_no_outcome():
    story = given(submitted(), dispatched()).when(report(c.FailAttempt)).job_is(JobState.FAILED)
    assert story.store.get(b"vq/a") is None


def test_a_waiting_client_learns_why_the_job_failed():
    story = given(submitted(awaits=True, reply=REPLY_TO), dispatched()).when(
        report(c.FailAttempt, error="sad", exit_code=3)
    )
    story.sends(OutcomeMessage)
    message = story.messages[0]
    assert (message.reason, message.error, message.exit_code, message.state) == ("EXIT_CODE", "sad", 3, JobState.FAILED)


def test_a_success_removes_the_error_of_an_earlier_failure():
    before = [submitted(max_attempts=2), dispatched(), attempt_failed(error="sad", retry_at=NOW)]
    story = given(*before, dispatched(attempt=2)).when(report(c.CompleteAttempt, attempt=2))
    story.job_is(JobState.SUCCEEDED, failures=1, reason="")
    assert story.store.get(b"vq/a") is None


def test_a_result_over_the_limit_is_refused_and_says_what_to_do():
    story = given(submitted(), dispatched()).when(report(c.CompleteAttempt, result=b"x" * 1_001))
    story.then(
        like(e.AttemptFailed, reason=FailureReason.RESULT_REFUSED, signal=0), like(e.JobFailed, reason="RESULT_REFUSED")
    )
    assert "expected a result of at most 1000 bytes, but found 1001" in story.state.outcome("q/a").error


def test_a_refused_result_is_not_tried_again():
    """The attempt has done its work: another one would have the same effects."""
    story = given(submitted(max_attempts=9), dispatched()).when(report(c.CompleteAttempt, result=b"x" * 1_001))
    story.then(like(e.AttemptFailed, retry_at=0), like(e.JobFailed, reason="RESULT_REFUSED"))
    story = given(submitted(max_attempts=9), dispatched())
    story.when(report(c.FailAttempt, reason=FailureReason.RESULT_REFUSED, error="sad"))
    story.then(like(e.AttemptFailed, retry_at=0), like(e.JobFailed, reason="RESULT_REFUSED", error="sad"))


@pytest.mark.parametrize("kind", [c.CompleteAttempt, c.FailAttempt])
def test_output_is_cut_to_its_end_and_the_cut_is_counted(kind):
    story = given(submitted(max_attempts=2), dispatched())
    story.when(report(kind, stdout=b"a" * 500 + b"b" * 1_000, stdout_cut=3, stderr=b"short", stderr_cut=4))
    expected = e.AttemptSucceeded if kind is c.CompleteAttempt else e.AttemptFailed
    story.then(like(expected, stdout=b"b" * 1_000, stdout_cut=503, stderr=b"short", stderr_cut=4))


# -- a job that is being stopped


def test_a_stopped_attempt_ends_its_job_as_cancelled():
    story = given(submitted(max_attempts=5), dispatched(), started(), stop_requested())
    story.when(report(c.FailAttempt, reason=FailureReason.STOPPED, signal=15))
    story.then(like(e.AttemptFailed, retry_at=0), like(e.JobCancelled, reason="CANCELLED"))
    story.job_is(JobState.CANCELLED, stopping="")


def test_a_stopped_attempt_ends_its_job_as_failed_at_the_deadline():
    story = given(submitted(max_attempts=5, deadline_at=NOW + 9), dispatched(), started()).when_due(NOW + 9)
    story.when(report(c.FailAttempt, reason=FailureReason.STOPPED)).then(
        like(e.AttemptFailed, retry_at=0), like(e.JobFailed, reason="DEADLINE")
    )


def test_an_outcome_that_is_reached_before_the_stop_wins():
    given(submitted(), dispatched(), stop_requested()).when(report(c.CompleteAttempt)).job_is(JobState.SUCCEEDED)


def test_a_job_may_be_asked_to_stop_again():
    story = given(submitted(), dispatched(), stop_requested()).when(command(c.CancelJob)).sends(StopMessage)
    assert story.messages[0].number == 3


def test_a_job_that_is_being_stopped_is_not_run_again_when_its_worker_is_lost():
    story = given(submitted(), dispatched(), stop_requested()).when_silent("s1", 5_000)
    story.then(like(e.WorkerLost), like(e.AttemptLost, retry_at=0), like(e.JobCancelled))


def test_a_job_to_hold_on_loss_is_cancelled_if_it_is_being_stopped():
    story = given(submitted(on_worker_loss=OnWorkerLoss.HOLD), dispatched(), stop_requested())
    story.when_silent("s1", 5_000).job_is(JobState.CANCELLED)


# -- declined


def test_a_declined_attempt_is_not_charged_to_the_job():
    story = given(submitted(), dispatched()).when(report(c.DeclineAttempt, reason="full"))
    story.then(like(e.AttemptDeclined, attempt=1, reason="full"))
    story.job_is(JobState.READY, failures=0, losses=0, attempt=1, session="")


def test_only_an_attempt_that_has_not_started_is_declined():
    given(submitted(), dispatched(), started()).when(report(c.DeclineAttempt)).refused("WRONG_STATE", "RUNNING")


def test_a_declined_attempt_ends_a_job_that_was_asked_to_stop():
    story = given(submitted(), dispatched(), stop_requested()).when(report(c.DeclineAttempt))
    story.then(like(e.AttemptDeclined), like(e.JobCancelled)).job_is(JobState.CANCELLED)


def test_the_next_attempt_of_a_declined_one_has_the_next_number():
    given(submitted(), dispatched(), declined(), dispatched(attempt=2)).job_is(JobState.DISPATCHED, attempt=2)


# -- lost with the worker


def test_a_silent_session_is_given_up_at_its_lease_and_not_before():
    story = given(submitted(), dispatched(), started()).when_silent("s1", 4_999).then_nothing()
    story.when_silent("s1", 5_000).then(
        like(e.WorkerLost, session="s1", closed=False), like(e.AttemptLost, reason="LAPSED", retry_at=NOW)
    ).job_is(JobState.READY, losses=1, failures=0, reason="LAPSED", session="")
    story.sends(CloseMessage)
    story.when_silent("s1", 6_000).then_nothing()


def test_an_unknown_session_leads_to_no_event():
    given().when_silent("s1", 1_000_000).then_nothing()


def test_a_session_that_closed_in_good_order_gets_no_close_message():
    story = given(submitted(), dispatched()).when_silent("s1", 0, closed=True)
    story.then(like(e.WorkerLost, closed=True), like(e.AttemptLost, reason="CLOSED")).sends()


def test_an_attempt_that_may_continue_is_lost_after_its_extra_time():
    story = given(submitted(continue_for_ms=60_000), dispatched(), started(), submitted(job_id="b"))
    story.evolve(dispatched(job_id="b")).written()
    story.when_silent("s1", 5_000).then(like(e.WorkerLost), like(e.AttemptLost, job_id="b"))
    story.when_silent("s1", 64_999).then_nothing()
    story.when(report(c.StartAttempt)).refused("WRONG_STATE")
    story.when_silent("s1", 65_000).then(like(e.AttemptLost, job_id="a")).job_is(JobState.READY)


def test_an_attempt_that_may_continue_is_accepted_after_the_cut():
    story = given(submitted(continue_for_ms=60_000), dispatched(), started(), worker_lost())
    story.when(report(c.CompleteAttempt)).job_is(JobState.SUCCEEDED)


def test_a_lost_session_is_forgotten_after_a_day():
    story = given(submitted(), dispatched(), succeeded(), worker_lost(), forgotten())
    story.when_due(NOW + SESSION_MEMORY_MS - 1).then_nothing()
    story.when_due(NOW + SESSION_MEMORY_MS).then(like(e.WorkerForgotten, session="s1")).has_timers()
    assert story.state.session("s1") is None


def test_a_lost_session_is_remembered_for_as_long_as_it_holds_attempts():
    """Attempts end by silence or by a report, and not because the memory of their session ends."""
    story = given(submitted(continue_for_ms=60_000), dispatched(), started(), worker_lost())
    much_later = NOW + 10 * SESSION_MEMORY_MS
    story.when_due(much_later).then_nothing().has_timers()
    assert story.state.next_due() is None
    story.job_is(JobState.RUNNING, session="s1")
    story.when(command(c.CancelJob), at=much_later).then(like(e.JobStopRequested)).sends(StopMessage)
    story.when(report(c.CompleteAttempt), at=much_later).then(like(e.AttemptSucceeded))
    assert story.state.next_due() == NOW + SESSION_MEMORY_MS
    story.when_due(much_later).then(like(e.WorkerForgotten, session="s1"))


def test_a_timer_is_not_held_up_by_a_session_that_holds_attempts():
    story = given(submitted(continue_for_ms=60_000), dispatched(), started(), worker_lost())
    due = NOW + 3 * SESSION_MEMORY_MS
    story.evolve(submitted(job_id="b", due_at=due)).written()
    story.when_due(due - 1).then_nothing()
    story.evolve(submitted(job_id="c", due_at=due - 5)).written()
    story.when_due(due).then(like(e.JobQueued, job_id="c"), like(e.JobQueued, job_id="b"))
    assert story.state.next_due() is None


def test_a_session_that_holds_attempts_is_never_forgotten():
    with pytest.raises(AssertionError, match="still holds attempts"):
        given(submitted(), dispatched(), worker_lost()).evolve(e.WorkerForgotten(session="s1", cause_ref="1"))


def test_a_session_that_is_over_is_never_given_work():
    with pytest.raises(AssertionError, match="over"):
        given(submitted(), submitted(job_id="b"), dispatched(), worker_lost()).evolve(dispatched(job_id="b"))


@pytest.mark.parametrize("reason", sorted(LOSSES))
def test_a_failure_of_the_worker_is_not_charged_to_the_job(reason):
    story = given(submitted(max_attempts=1), dispatched(), started()).when(report(c.FailAttempt, reason=reason))
    counted = int(reason != FailureReason.GUARD_LOST_BESIDE)
    story.then(like(e.AttemptLost, reason=reason, retry_at=NOW)).job_is(JobState.READY, failures=0, losses=counted)


def test_a_bystander_of_a_lost_guard_is_requeued_however_often():
    story = given(submitted(worker_losses_max=0))
    for attempt in range(1, 5):
        story.evolve(dispatched(attempt=attempt))
        story.when(report(c.FailAttempt, attempt=attempt, reason=FailureReason.GUARD_LOST_BESIDE))
        story.then(like(e.AttemptLost, reason="GUARD_LOST_BESIDE", retry_at=NOW)).job_is(JobState.READY, losses=0)
    story.evolve(dispatched(attempt=5)).when(report(c.FailAttempt, attempt=5, reason=FailureReason.GUARD_LOST))
    story.then(like(e.AttemptLost), like(e.JobFailed, reason="WORKER_LOST"))


def test_a_bystander_that_must_not_run_twice_fails_with_its_worker():
    story = given(submitted(on_worker_loss=OnWorkerLoss.FAIL), dispatched())
    story.when(report(c.FailAttempt, reason=FailureReason.GUARD_LOST_BESIDE))
    story.then(like(e.AttemptLost), like(e.JobFailed, reason="WORKER_LOST"))


def test_the_second_loss_waits():
    story = given(submitted(), dispatched(), attempt_lost(retry_at=NOW), dispatched(attempt=2))
    story.when(report(c.FailAttempt, attempt=2, reason=FailureReason.GUARD_LOST))
    story.then(like(e.AttemptLost, retry_at=NOW + LOSS_BACKOFF_MS)).job_is(JobState.RETRY_WAIT, losses=2)


def test_too_many_losses_fail_the_job_and_the_error_counts_them():
    story = given(submitted(worker_losses_max=1), dispatched(), attempt_lost(retry_at=NOW), dispatched(attempt=2))
    story.when_silent("s1", 5_000).then(
        like(e.WorkerLost),
        like(e.AttemptLost, retry_at=0),
        like(
            e.JobFailed,
            reason="WORKER_LOST",
            error="its worker was lost (LAPSED); it is loss 2 of this run, and worker_losses_max allows 1",
        ),
    )


def test_a_job_that_must_not_run_twice_fails_with_its_worker():
    story = given(submitted(on_worker_loss=OnWorkerLoss.FAIL), dispatched()).when_silent("s1", 5_000)
    story.then(
        like(e.WorkerLost),
        like(e.AttemptLost, retry_at=0),
        like(e.JobFailed, reason="WORKER_LOST", error="its worker was lost (LAPSED)"),
    )


def test_a_job_with_hold_on_loss_is_held_when_its_worker_is_lost():
    story = given(submitted(on_worker_loss=OnWorkerLoss.HOLD), dispatched()).when_silent("s1", 5_000)
    story.then(like(e.WorkerLost), like(e.AttemptLost, retry_at=0), like(e.JobHeld, reason="WORKER_LOST"))
    story.job_is(JobState.HELD, reason="WORKER_LOST", due_at=0).has_timers(NOW + SESSION_MEMORY_MS)
    story.when(command(c.ReleaseJob)).job_is(JobState.READY)


def test_a_checkpoint_is_kept_for_the_next_attempt():
    story = given(submitted(max_attempts=2, backoff_ms=0), dispatched())
    story.when(report(c.CheckpointAttempt, data=b"[1]", progress=0.25, text="one of four"))
    story.then(like(e.AttemptCheckpointed, attempt=1, session="s1", data=b"[1]", progress=0.25, text="one of four"))
    story.job_is(JobState.DISPATCHED, checkpoint_at=NOW)
    story.when(report(c.CheckpointAttempt, progress=0.5), at=NOW + 5).job_is(checkpoint_at=NOW + 5)
    assert story.state.checkpoint("q/a") == Checkpoint(b"[1]", 0.5, "one of four")
    story.when(report(c.FailAttempt))
    assert story.state.checkpoint("q/a").data == b"[1]"
    story.evolve(dispatched(attempt=2)).written()
    story.when(report(c.CheckpointAttempt, data=b"[2]")).refused("STALE_ATTEMPT")
    story.when(report(c.CheckpointAttempt, attempt=2, data=b"[2]", text="two"))
    assert story.state.checkpoint("q/a") == Checkpoint(b"[2]", 0.5, "two")


@pytest.mark.parametrize("progress", [-0.5, 1.5, float("nan"), float("inf")])
def test_invalid_progress_keeps_the_earlier_progress(progress):
    given(submitted(), dispatched()).when(report(c.CheckpointAttempt, progress=progress)).then(
        like(e.AttemptCheckpointed, progress=-1)
    )


def test_a_checkpoint_is_bounded():
    story = given(submitted(), dispatched())
    story.when(report(c.CheckpointAttempt, data=b"x" * (CHECKPOINT_BYTES_MAX + 1))).refused("TOO_LARGE", "65537")
    story.when(report(c.CheckpointAttempt, text="x" * 9_999)).then(
        like(e.AttemptCheckpointed, text="x" * PROGRESS_TEXT_MAX)
    )


def test_a_checkpoint_is_deleted_with_its_run():
    begun = (submitted(), dispatched(), checkpointed())
    assert given(*begun, succeeded()).job_is(checkpoint_at=0).state.checkpoint("q/a") == Checkpoint()
    failed_run = given(*begun, attempt_failed(), failed()).job_is(checkpoint_at=NOW)
    assert failed_run.state.checkpoint("q/a").data == b"7"
    assert failed_run.evolve(rerun()).written().job_is(checkpoint_at=0).state.checkpoint("q/a") == Checkpoint()
    given(*begun, attempt_failed(), failed(), forgotten())
