"""Metrics of committed events: only the owner counts, the series are bounded, and no label names a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ftjm.core.placement import Offer
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import FailureReason
from ftjm.core.state.schedules import FiredBy, SkipReason
from ftjm.engine.batch import Lapse
from ftjm.telemetry.job_metrics import HANDLERS, EventMetrics
from ftjm.telemetry.labels import OTHER_QUEUES, QUEUES_MAX, Queues
from ftjm.telemetry.process_metrics import registry
from tests.engine.world import NOW, QUEUE, Broken, World, offer
from tests.telemetry.samples import series, value


@pytest.fixture
def seen():
    shown = registry("test")
    return shown, EventMetrics(shown, Queues())


def work(world: World, metrics: EventMetrics, *offers: Offer, lapses: Sequence[Lapse] = ()) -> None:
    """Commit one batch, and let the owner count it."""
    world.work(offers, lapses)
    metrics.observe(world.last.events, world.owner.state.job)


def end(kind: Any, job_id: str, attempt: int, **fields: Any) -> c.AttemptReport:
    about = {"queue": QUEUE, "job_id": job_id, "run": 1, "attempt": attempt, "session": "s1"}
    report: c.AttemptReport = kind(**about, started_at=NOW + 500, ended_at=NOW + 2_500, **fields)
    return report


def test_a_job_that_fails_once_and_then_succeeds(seen):
    shown, metrics = seen
    world = World()
    world.submit("a", max_attempts=2, backoff_ms=1_000, backoff_max_ms=1_000)
    work(world, metrics)
    world.now += 250
    work(world, metrics, offer())
    world.send(end(c.FailAttempt, "a", 1, reason=FailureReason.TIMEOUT, error=""))
    work(world, metrics)
    assert value(shown, "ftjm_queue_wait_seconds_sum") == 0.25
    assert value(shown, "ftjm_dispatch_latency_seconds_sum") == 0.25
    assert value(shown, "ftjm_attempt_duration_seconds_sum", queue=QUEUE, outcome="timeout") == 2
    assert value(shown, "ftjm_retries_total", reason="TIMEOUT") == 1
    world.now += 5_000
    work(world, metrics, offer())
    world.send(end(c.CompleteAttempt, "a", 2))
    work(world, metrics)
    assert value(shown, "ftjm_schedule_delay_seconds_count") == 1
    assert 3 < value(shown, "ftjm_schedule_delay_seconds_sum") <= 5, "from the retry's time to the decision"
    assert value(shown, "ftjm_attempt_duration_seconds_count", outcome="succeeded") == 1
    assert value(shown, "ftjm_job_transitions_total", queue=QUEUE, event="AttemptDispatched") == 2
    assert value(shown, "ftjm_job_transitions_total", queue=QUEUE, event="AttemptSucceeded") == 1


def test_an_attempt_that_a_window_stops_has_a_duration_and_is_no_failure(seen):
    shown, metrics = seen
    about: dict[str, Any] = {"queue": QUEUE, "job_id": "a", "run": 1, "attempt": 1, "session": "s1"}
    stopped = e.AttemptStopped(**about, at=NOW, started_at=NOW + 500, ended_at=NOW + 2_500)
    unheld = e.AttemptStopped(**about, at=NOW, started_at=0, ended_at=0)
    metrics.observe([stopped, unheld], World().owner.state.job)
    assert value(shown, "ftjm_attempt_duration_seconds_sum", outcome="stopped") == 2
    assert value(shown, "ftjm_attempt_duration_seconds_count", outcome="stopped") == 1
    assert value(shown, "ftjm_job_transitions_total", queue=QUEUE, event="AttemptStopped") == 2
    assert not [one for one in series(shown) if "ftjm_retries_total" in str(one)]


def test_firings_are_timed_and_skipped_instants_are_counted(seen):
    shown, metrics = seen

    def fired(by: FiredBy) -> e.ScheduleFired:
        about: dict[str, Any] = {"queue": QUEUE, "job_id": "n.x", "name": "n", "next_at": 0, "tzdata": "2026f"}
        return e.ScheduleFired(**about, at=NOW + 250, instant=NOW, by=by)

    skipped = e.ScheduleSkipped(
        queue=QUEUE, name="n", instant=1, until=9, count=3, reason=SkipReason.MISSED, next_at=0, tzdata="2026f"
    )
    metrics.observe([*map(fired, FiredBy), skipped], World().owner.state.job)
    assert value(shown, "ftjm_schedule_firing_delay_seconds_count") == 1, "only of an instant that has come"
    assert value(shown, "ftjm_schedule_firing_delay_seconds_sum") == 0.25
    assert value(shown, "ftjm_schedule_skipped_total", reason="MISSED") == 3
    assert value(shown, "ftjm_job_transitions_total", event="ScheduleFired") == len(FiredBy)


def test_refused_repeated_late_and_lost_commands_are_counted(seen):
    shown, metrics = seen
    world = World()
    for _ in range(3):
        world.submit("a")
    world.submit("late", deadline_ms=10)
    work(world, metrics)
    world.now += 1_000
    work(world, metrics, offer())
    world.send(end(c.CompleteAttempt, "a", 7))
    world.now += 1_000
    work(world, metrics, lapses=[Lapse("s1", 6_000)])
    assert value(shown, "ftjm_duplicate_submissions_total") == 2
    assert value(shown, "ftjm_fenced_reports_total") == 1
    assert value(shown, "ftjm_deadline_missed_total") == 1
    assert value(shown, "ftjm_attempts_lost_total") == 1
    assert value(shown, "ftjm_retries_total", reason="WORKER_LOST") == 1
    assert value(shown, "ftjm_attempt_duration_seconds_sum", outcome="lost") == 1


@pytest.mark.usefixtures("first_level")
def test_a_follower_and_a_replay_count_nothing():
    world = World()
    world.submit("a")
    world.work([offer()])
    assert [type(event) for event in world.last.events] == [e.JobSubmitted, e.AttemptDispatched]
    follower = world.partition()
    folded = [follower.fold(record) for record in world.log.events(0, 0)]
    assert [type(event) for event in folded] == [type(None), type(None), e.BatchClosed]


def test_a_batch_that_could_not_be_committed_is_not_counted():
    world = World()
    world.submit("a")
    world.writer.breaks = "before"
    with pytest.raises(Broken):
        world.work()
    assert not world.last.events


def test_a_hundred_thousand_jobs_add_no_series(seen):
    shown, metrics = seen
    after = []
    for thousands in range(100):
        batch: list[e.Event] = []
        for number in range(1_000):
            about: dict[str, Any] = {
                "queue": f"q{number % 10}",
                "job_id": f"job-{thousands}-{number}",
                "run": 1,
                "at": NOW,
            }
            batch.append(e.AttemptDispatched(**about, attempt=1, session="s", worker="w", lane=0, lease_ms=1, offer=1))
            batch.append(e.AttemptSucceeded(**about, attempt=1, session="s", started_at=NOW, ended_at=NOW + number))
        metrics.observe(batch, lambda _: None)
        after.append(len(series(shown)))
    assert len(set(after)) == 1, f"{after[0]} series after 1,000 jobs, but {after[-1]} after 100,000"
    assert value(shown, "ftjm_attempt_duration_seconds_count") == 100_000
    assert not [name for name in series(shown) if "job-" in name]


def test_queues_beyond_the_limit_share_one_label(seen):
    shown, metrics = seen
    events = [e.JobReleased(queue=f"q{number}", job_id="a", at=NOW) for number in range(10_000)]
    metrics.observe(events, lambda _: None)
    named = [name for name in series(shown) if name.startswith("ftjm_job_transitions_total")]
    assert len(named) == QUEUES_MAX + 1
    assert value(shown, "ftjm_job_transitions_total", queue=OTHER_QUEUES) == 10_000 - QUEUES_MAX


def test_the_queue_of_a_refused_command_becomes_no_label(seen):
    shown, metrics = seen
    junk = [e.CommandRejected(queue=f'junk-{n}"\n', job_id="a", code="INVALID", text="", at=NOW) for n in range(1_000)]
    metrics.observe(junk, lambda _: None)
    assert value(shown, "ftjm_job_transitions_total", queue=OTHER_QUEUES, event="CommandRejected") == 1_000
    assert not [name for name in series(shown) if "junk" in name]


def test_only_events_that_exist_are_handled():
    assert set(HANDLERS) <= set(e.EVENTS)
