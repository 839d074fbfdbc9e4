"""Ageing: the order of waiting jobs, and what a change of it does to them."""

from __future__ import annotations

from typing import Any

from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.ageing import ageing_of, is_known, score
from ftjm.core.decide import processes
from ftjm.core.decide.processes import next_slice
from ftjm.core.evolve.handlers import evolve
from ftjm.core.limits import AGEING_MS_MAX
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import FIRST_LEVEL, PAUSE_LEVEL, QUEUE_LEVEL
from ftjm.core.state.model import STATE_VERSION, Finalized, Job, JobState
from ftjm.core.state.processes import ProcessKind
from ftjm.core.state.queues import AGEING_MS, QueueDeclaration, QueueSpec
from tests.core.story import (
    NOW,
    POLICY,
    Story,
    attempt_failed,
    declined,
    dispatched,
    given,
    held,
    like,
    queued,
    released,
    rerun,
    submitted,
    succeeded,
)
from tests.core.test_queue_limits import apply, delete

FINAL = e.UpgradeFinalized(level=QUEUE_LEVEL, state_version=STATE_VERSION)
OLD = e.UpgradeFinalized(level=PAUSE_LEVEL, state_version=STATE_VERSION)
TIMES = st.integers(0, 10**10)
PRIORITIES = st.integers(0, 100)


def line(story: Story, queue: str = "q") -> list[str]:
    return [job_id for _, _, job_id in story.state.ready(queue)]


def advance(story: Story, rows: int = 1_000) -> e.QueueReordered:
    """Do the next slice of the only process."""
    ((kind, name),) = story.state.processes()
    (event,) = next_slice(story.state, kind, name, rows, NOW, POLICY)
    assert isinstance(event, e.QueueReordered)
    evolve(story.state, event)
    story.written()
    return event


# ---- the order


def test_a_point_of_priority_is_worth_a_minute_of_waiting():
    story = given(
        FINAL,
        submitted(job_id="low", priority=40, at=NOW),
        submitted(job_id="later", priority=50, at=NOW + 10 * 60_000 + 1),
        submitted(job_id="sooner", priority=50, at=NOW + 10 * 60_000 - 1),
    )
    assert line(story) == ["sooner", "low", "later"]


@every(
    old=st.tuples(PRIORITIES, TIMES),
    new=st.tuples(PRIORITIES, TIMES),
    ageing_ms=st.integers(1, AGEING_MS_MAX),
)
def test_each_job_has_its_turn_however_many_of_a_higher_priority_come(
    old: tuple[int, int], new: tuple[int, int], ageing_ms: int
):
    """The bound that `ftjm.core.ageing` states."""
    (priority, at), (other_priority, other_at) = old, new
    declaration, final = QueueDeclaration(1, QueueSpec(ageing_ms=ageing_ms)), Finalized(QUEUE_LEVEL)
    job = Job(JobState.READY, order=1, priority=priority, eligible_at=at)
    other = Job(JobState.READY, order=2, priority=other_priority, eligible_at=other_at)
    if other_at > at + (100 - priority) * ageing_ms:
        assert score(final, declaration, job) < score(final, declaration, other)
    if priority == other_priority and at < other_at:
        assert score(final, declaration, job) < score(final, declaration, other)


def test_with_the_longest_ageing_priority_alone_orders():
    story = given(FINAL).when(apply(ageing_ms=AGEING_MS_MAX))
    story.evolve(
        submitted(job_id="low", priority=10, at=NOW),
        submitted(job_id="high", priority=11, at=NOW + 9 * 365 * 86_400_000),
    ).written()
    assert line(story) == ["high", "low"]


def test_age_begins_when_the_run_is_eligible_and_is_kept_over_retries_declines_and_holds():
    story = given(FINAL, submitted(at=NOW, due_at=NOW + 500, max_attempts=9))
    story.evolve(queued(at=NOW + 500)).written().job_is(JobState.READY, eligible_at=NOW + 500)
    for ends in (attempt_failed(at=NOW + 600, retry_at=NOW + 600), declined(at=NOW + 600)):
        attempt = story.job().attempt + 1
        ends.attempt = attempt  # type: ignore[attr-defined]
        story.evolve(dispatched(attempt=attempt, at=NOW + 550), ends).written()
        story.job_is(JobState.READY, eligible_at=NOW + 500, score=NOW + 500 - 50 * AGEING_MS)
    story.evolve(held(at=NOW + 700)).written().job_is(JobState.HELD, score=0)
    story.evolve(released(at=NOW + 800)).written().job_is(JobState.READY, eligible_at=NOW + 500)


def test_a_new_run_begins_to_age_anew():
    story = given(FINAL, submitted(), dispatched(), succeeded(), rerun(at=NOW + 900))
    story.job_is(JobState.READY, eligible_at=NOW + 900)


# ---- before the upgrade is final


def test_before_the_upgrade_is_final_priority_alone_orders():
    assert not is_known(Finalized(FIRST_LEVEL))
    story = given(
        OLD, submitted(job_id="low", priority=10, at=NOW), submitted(job_id="high", priority=11, at=NOW + 10**12)
    )
    assert line(story) == ["high", "low"]
    story.job_is_of("low", eligible_at=0, score=-10 * AGEING_MS_MAX)


def test_when_the_upgrade_is_final_all_that_wait_get_their_places():
    story = given(
        OLD,
        submitted(job_id="new", priority=11, at=NOW + 10**12),
        submitted(job_id="old", priority=10, at=NOW),
        submitted(job_id="tried", priority=10, at=NOW - 5),
        dispatched(job_id="tried"),
        declined(job_id="tried", at=NOW + 9),
    )
    assert line(story) == ["new", "old", "tried"]
    story.evolve(FINAL).written()
    assert story.state.processes() == [(ProcessKind.REORDER, "")]
    event = advance(story)
    assert (event.queue, sorted(event.jobs), event.next_key) == ("", ["q/new", "q/old", "q/tried"], b"")
    assert line(story) == ["tried", "old", "new"]
    assert story.state.processes() == []


def test_a_new_log_begins_no_process():
    assert given(FINAL).state.processes() == []
    assert given(OLD, submitted(), OLD).state.processes() == []


# ---- a change of a queue's ageing


def waiting(count: int) -> Story:
    events = [submitted(job_id=f"j{n:04}", priority=n % 7, at=NOW + n) for n in range(count)]
    return given(FINAL, *events)


def test_a_changed_ageing_reorders_those_that_wait_slice_by_slice():
    story = waiting(600).when(apply(ageing_ms=1))
    moved = []
    while story.state.processes():
        moved.append(len(advance(story).jobs))
    assert (sum(moved), max(moved)) == (600 - 86, 100), "each seventh has the priority 0, which no ageing moves"
    assert line(story) == sorted(line(story), key=lambda job_id: int(job_id[1:]) - int(job_id[1:]) % 7)


def test_a_slice_changes_no_more_than_the_batch_has_room_for():
    story = waiting(20).when(apply(ageing_ms=1))
    assert len(advance(story, rows=9).jobs) == 3


def test_a_slice_looks_at_no_more_jobs_than_it_may(monkeypatch: Any):
    monkeypatch.setattr(processes, "LOOKED_MAX", 4)
    story = given(FINAL, *(submitted(job_id=f"j{n}", priority=0, at=NOW + n) for n in range(6)))
    story.when(apply(ageing_ms=1))
    assert [(event.jobs, bool(event.next_key)) for event in (advance(story), advance(story))] == [
        ([], True),
        ([], False),
    ]


def test_jobs_that_come_and_go_meanwhile_have_their_places_too():
    story = waiting(400).when(apply(ageing_ms=1))
    advance(story)
    story.evolve(submitted(job_id="new", priority=9, at=NOW + 1_000), dispatched(job_id="j0399")).written()
    story.job_is_of("new", score=NOW + 1_000 - 9)
    while story.state.processes():
        advance(story)
    assert "j0399" not in line(story)


def test_a_second_change_begins_anew_and_a_deleted_declaration_is_a_change():
    story = waiting(400).when(apply(ageing_ms=1))
    advance(story)
    story.when(apply(ageing_ms=2))
    assert story.state.processes() == [(ProcessKind.REORDER, "q")]
    while story.state.processes():
        advance(story)
    story.job_is_of("j0006", score=NOW + 6 - 6 * 2)
    story.when(delete()).then(like(e.QueueDeleted))
    while story.state.processes():
        advance(story)
    story.job_is_of("j0006", score=NOW + 6 - 6 * AGEING_MS)


def test_a_change_of_anything_else_and_a_queue_without_waiting_jobs_begin_no_process():
    assert waiting(5).when(apply(concurrency=9)).state.processes() == []
    assert given(FINAL).when(apply(ageing_ms=1)).state.processes() == []
    story = given(FINAL, submitted()).when(apply(ageing_ms=1))
    story.evolve(dispatched()).when(apply(ageing_ms=2))
    assert story.state.processes() == [(ProcessKind.REORDER, "q")], "the one that is under way begins anew"


def test_other_queues_are_left_alone():
    other = submitted(job_id="b", priority=7)
    other.queue = "other"
    story = given(FINAL, submitted(priority=7), other).when(apply(ageing_ms=1))
    assert advance(story).jobs == ["q/a"]


def test_the_ageing_of_a_queue_that_is_not_declared():
    assert ageing_of(None) == AGEING_MS == QueueSpec().ageing_ms
    assert c.ApplyQueue(queue="q", spec=QueueSpec()).expected_revision == c.ANY_REVISION


def test_a_job_that_is_given_a_priority_before_its_slice_has_its_age():
    story = given(OLD, submitted(priority=10, at=NOW)).evolve(FINAL).written()
    story.evolve(e.JobPrioritized(queue="q", job_id="a", run=1, at=NOW + 9, priority=11)).written()
    story.job_is(JobState.READY, eligible_at=NOW, score=NOW - 11 * AGEING_MS)
