"""What committed events count: by the owner alone, bounded, and never by job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.matching import Offer
from ftjm.core.model import FailureReason
from ftjm.engine.partition import Lapse
from ftjm.metrics.events import HANDLERS, EventMetrics
from ftjm.metrics.labels import OTHER_QUEUES, QUEUES_MAX, Queues
from ftjm.metrics.process import registry
from tests.engine.world import NOW, QUEUE, Broken, World, offer
from tests.metrics.shown import series, value


@pytest.fixture
def seen():
    shown = registry("test")
    return shown, EventMetrics(shown, Queues())


def work(world: World, metrics: EventMetrics, *offers: Offer, lapses: Sequence[Lapse] = ()) -> None:
    """One batch, and what its owner counts of it."""
    world.work(offers, lapses)
    metrics.observe(world.owner.committed, world.owner.state.job)


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


def test_what_is_refused_repeated_late_and_lost(seen):
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


def test_neither_a_follower_nor_a_replay_has_anything_to_count():
    world = World()
    world.submit("a")
    world.work([offer()])
    assert [type(event) for event in world.owner.committed] == [e.JobSubmitted, e.AttemptDispatched]
    assert world.catch_up(world.partition()).committed == []


def test_what_could_not_be_committed_is_not_counted():
    world = World()
    world.submit("a")
    world.writer.breaks = "before"
    with pytest.raises(Broken):
        world.work()
    assert world.owner.committed == []


def test_series_stay_as_many_over_a_hundred_thousand_jobs(seen):
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


def test_queues_without_end_share_one_label(seen):
    shown, metrics = seen
    events = [e.JobReleased(queue=f"q{number}", job_id="a", at=NOW) for number in range(10_000)]
    metrics.observe(events, lambda _: None)
    named = [name for name in series(shown) if name.startswith("ftjm_job_transitions_total")]
    assert len(named) == QUEUES_MAX + 1
    assert value(shown, "ftjm_job_transitions_total", queue=OTHER_QUEUES) == 10_000 - QUEUES_MAX


def test_what_a_refused_command_calls_a_queue_is_no_label(seen):
    shown, metrics = seen
    junk = [e.CommandRejected(queue=f'junk-{n}"\n', job_id="a", code="INVALID", text="", at=NOW) for n in range(1_000)]
    metrics.observe(junk, lambda _: None)
    assert value(shown, "ftjm_job_transitions_total", queue=OTHER_QUEUES, event="CommandRejected") == 1_000
    assert not [name for name in series(shown) if "junk" in name]


def test_only_events_that_exist_are_handled():
    assert set(HANDLERS) <= set(e.EVENTS)
