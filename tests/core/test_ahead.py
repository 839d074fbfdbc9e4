"""Attempts that are sent ahead of a free slot: which are, what is charged, and what is not sent ahead again."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.core.placement import match
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import AHEAD_LEVEL
from ftjm.core.state.model import STATE_VERSION, Ahead, FailureReason, JobState, OnWorkerLoss
from tests.core.story import (
    NOW,
    Story,
    attempt_failed,
    attempt_lost,
    checkpointed,
    declined,
    dispatched,
    failed,
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
from tests.core.test_placement import offer

FINAL = e.UpgradeFinalized(level=AHEAD_LEVEL, state_version=STATE_VERSION)


def ready(*names: str, **fields: Any) -> list[e.Event]:
    return [submitted(job_id=name, **fields) for name in names]


def matched(story: Story, *offers: Any) -> list[tuple[str, str, bool]]:
    return [(event.job_id, event.session, event.ahead) for event in match(story.state, offers, 100, NOW).dispatches]


def sent_ahead(**spec: Any) -> Story:
    return given(FINAL, submitted(**spec), dispatched(ahead=True))


# ---- which jobs go ahead, and where to


def test_free_slots_are_filled_first_and_then_what_the_offer_holds_ahead():
    story = given(FINAL, *ready("a", "b", "c", "d"))
    assert matched(story, offer(slots=1, ahead=2)) == [("a", "s1", False), ("b", "s1", True), ("c", "s1", True)]


def test_a_free_slot_anywhere_comes_before_work_ahead():
    story = given(FINAL, *ready("a", "b", "c", "d"))
    assert matched(story, offer("s1", slots=1, ahead=9), offer("s2", slots=2)) == [
        ("a", "s2", False),
        ("b", "s2", False),
        ("c", "s1", False),
        ("d", "s1", True),
    ]


def test_the_session_that_has_least_ahead_gets_the_next():
    story = given(FINAL, *ready("a", "b", "c", "d"))
    found = matched(story, offer("s1", slots=0, ahead=9), offer("s2", slots=0, ahead=9))
    assert found == [("a", "s2", True), ("b", "s1", True), ("c", "s2", True), ("d", "s1", True)]


def test_what_is_held_counts_whether_it_was_sent_ahead_or_not():
    story = given(FINAL, *ready("a", "b", "c"), dispatched(ahead=True))
    assert matched(story, offer(slots=1, ahead=1)) == [("b", "s1", True)]
    assert matched(story, offer(slots=2, ahead=0)) == [("b", "s1", False)]
    assert matched(story, offer(slots=1, ahead=0)) == []


def test_nothing_goes_ahead_before_the_upgrade_is_final():
    assert matched(given(*ready("a", "b")), offer(slots=1, ahead=5)) == [("a", "s1", False)]


@pytest.mark.parametrize(
    "spec",
    [
        {"on_worker_loss": OnWorkerLoss.FAIL},
        {"on_worker_loss": OnWorkerLoss.HOLD},
        {"worker_losses_max": 0},
        {"continue_for_ms": 1_000},
    ],
)
def test_a_job_whose_loss_is_not_simply_tried_again_waits_for_a_free_slot(spec):
    story = given(FINAL, *ready("a", **spec), *ready("b"))
    assert matched(story, offer(slots=0, ahead=5)) == [], "and none of its queue overtakes it"
    assert matched(story, offer(slots=1, ahead=5)) == [("a", "s1", False), ("b", "s1", True)]


def test_a_worker_gets_nothing_ahead_while_a_job_waits_for_its_next_free_slot():
    other = submitted(job_id="b", priority=1)
    other.queue = "other"
    story = given(FINAL, *ready("a", on_worker_loss=OnWorkerLoss.FAIL), other)
    both = ("q", "other")
    assert matched(story, offer(slots=0, ahead=5, queues=both)) == []
    found = matched(story, offer("s1", slots=0, ahead=5, queues=both), offer("s2", slots=0, ahead=5, queues=both))
    assert found == [("b", "s1", True)], "one worker is enough"


# ---- the mark


@pytest.mark.parametrize(
    ("event", "mark"),
    [
        (started(), Ahead.NO),
        (checkpointed(), Ahead.NO),
        (succeeded(), Ahead.NO),
        (attempt_failed(retry_at=NOW), Ahead.NO),
        (attempt_lost(reason=FailureReason.GUARD_LOST, retry_at=NOW), Ahead.NO),
        (attempt_lost(reason="LAPSED", retry_at=NOW), Ahead.NEVER),
        (attempt_lost(reason="CLOSED", retry_at=NOW), Ahead.NEVER),
        (declined(), Ahead.NEVER),
    ],
)
def test_the_mark_stays_until_the_attempt_is_known_to_have_started_or_is_over(event, mark):
    story = sent_ahead().job_is(ahead=Ahead.UNSTARTED)
    story.evolve(event).written().job_is(ahead=mark)
    if event.job_id and story.job().state is JobState.READY:
        expected = [("a", "s2", True)] if mark is Ahead.NO else []
        assert matched(story, offer("s2", slots=0, ahead=5)) == expected


def test_an_attempt_for_a_free_slot_that_comes_back_may_be_followed_by_one_ahead():
    story = given(FINAL, submitted(), dispatched()).evolve(declined()).written().job_is(ahead=Ahead.NO)
    assert matched(story, offer(slots=0, ahead=5)) == [("a", "s1", True)]


def test_a_new_run_may_be_sent_ahead_again():
    story = sent_ahead().evolve(declined(), dispatched(attempt=2)).job_is(ahead=Ahead.NEVER)
    story.evolve(attempt_failed(attempt=2), failed(), rerun()).written().job_is(ahead=Ahead.NO)


# ---- what is charged


def test_the_loss_of_an_attempt_that_may_not_have_started_is_not_charged():
    story = sent_ahead(worker_losses_max=1)
    story.when_silent("s1", 5_000).then(like(e.WorkerLost), like(e.AttemptLost, retry_at=NOW))
    story.job_is(JobState.READY, losses=0, ahead=Ahead.NEVER)


def test_it_is_not_charged_twice():
    """A job that ends its workers is not tried for ever."""
    story = sent_ahead(worker_losses_max=1).when_silent("s1", 5_000)
    story.evolve(dispatched(attempt=2, session="s2")).when_silent("s2", 5_000)
    story.job_is(losses=1)
    story.evolve(dispatched(attempt=3, session="s3")).when_silent("s3", 5_000)
    story.job_is(JobState.FAILED, losses=2)


def test_the_loss_of_an_attempt_that_is_known_to_have_started_is_charged():
    sent_ahead().evolve(started()).when_silent("s1", 5_000).job_is(losses=1, ahead=Ahead.NO)


def test_a_loss_that_the_worker_reports_is_charged_since_the_attempt_has_started():
    story = sent_ahead().when(report(c.FailAttempt, reason=FailureReason.GUARD_LOST))
    story.job_is(losses=1, ahead=Ahead.NO)


def test_an_attempt_ahead_that_was_asked_to_stop_ends_its_job_when_it_comes_back():
    story = sent_ahead().evolve(stop_requested())
    story.when(report(c.DeclineAttempt)).then(like(e.AttemptDeclined), like(e.JobCancelled))
    story.job_is(JobState.CANCELLED, losses=0, failures=0)


def test_an_attempt_ahead_that_was_asked_to_stop_ends_its_job_with_its_session():
    sent_ahead().evolve(stop_requested(), worker_lost()).when_silent("s1", 5_000).job_is(JobState.CANCELLED, losses=0)


def test_an_attempt_is_not_sent_ahead_again_in_a_run():
    with pytest.raises(AssertionError, match="free slots only"):
        sent_ahead().evolve(declined(), dispatched(attempt=2, ahead=True))
