"""The dead letter of a queue: jobs that failed for good are kept for longer."""

from __future__ import annotations

from typing import Any

from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import JobState
from tests.core.story import HOUR_MS, NOW, Story, command, dispatched, given, like, report, submitted
from tests.core.test_keys import FINAL
from tests.core.test_queue_limits import apply, delete

DAY_MS = 24 * HOUR_MS


def failed_at(**fields: Any) -> Story:
    """A job with a retention of an hour that failed, in a queue that keeps such jobs for a day."""
    story = given(FINAL, submitted(**fields), dispatched()).when(apply(dead_letter_ms=DAY_MS))
    return story.when(report(c.FailAttempt)).then(like(e.AttemptFailed), like(e.JobFailed))


def test_a_job_that_failed_is_kept_as_long_as_its_queue_says():
    failed_at().has_timers(NOW + DAY_MS).when(delete()).has_timers(NOW + DAY_MS)
    failed_at().when_due(NOW + DAY_MS).then(like(e.JobForgotten))


def test_its_own_retention_counts_if_that_is_longer():
    failed_at(retention_ms=2 * DAY_MS).has_timers(NOW + 2 * DAY_MS)


def test_a_job_that_is_run_again_and_ends_otherwise_has_its_own_retention_again():
    story = failed_at().when(command(c.RerunJob, command_id="again"))
    story.evolve(dispatched(run=2, attempt=2)).written()
    story.when(report(c.CompleteAttempt, attempt=2, run=2)).job_is(JobState.SUCCEEDED, retention_ms=HOUR_MS)


def test_other_ends_and_other_queues_are_not_kept_for_longer():
    given(FINAL, submitted()).when(apply(dead_letter_ms=DAY_MS)).when(command(c.CancelJob)).has_timers(NOW + HOUR_MS)
    story = given(FINAL, submitted(), dispatched()).when(report(c.FailAttempt))
    story.has_timers(NOW + HOUR_MS)


def test_a_dead_job_can_be_purged():
    story = failed_at()
    story.evolve(e.JobForgotten(queue="q", job_id="a", run=1, at=NOW)).written().has_timers()
