"""Queues that are declared: their revisions, and the gates of their limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as every
from hypothesis import strategies as st

from ftjm.core.evolve.handlers import evolve
from ftjm.core.placement import Offer, Placement, match
from ftjm.core.queue_gates import (
    BURST_NS_MAX,
    GATES,
    closed_gate,
    is_limited,
    opening,
    queue_rows,
    rate_fault,
    used_by_start,
)
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.records.levels import QUEUE_LEVEL
from ftjm.core.state.model import STATE_VERSION
from ftjm.core.state.queues import QueueDeclaration, QueueRate, QueueSpec
from tests.core.story import NOW, Story, command, dispatched, given, like, report, submitted, succeeded

FINAL = e.UpgradeFinalized(level=QUEUE_LEVEL, state_version=STATE_VERSION)


def apply(expected: int = c.ANY_REVISION, labels: dict[str, str] | None = None, **spec: Any) -> c.Command:
    return command(c.ApplyQueue, job_id="", spec=QueueSpec(**spec), labels=labels or {}, expected_revision=expected)


def delete(expected: int = c.ANY_REVISION) -> c.Command:
    return command(c.DeleteQueue, job_id="", expected_revision=expected)


def placed(story: Story, slots: int = 99, now: int = NOW) -> Placement:
    return match(story.state, [Offer("s9", "w9", 3, 5_000, ("q",), number=1, slots=slots)], 100, now)


def started(story: Story, now: int = NOW) -> list[str]:
    """The jobs that start at this time if slots abound. The state is that behind their starts."""
    placement = placed(story, now=now)
    for event in placement.dispatches:
        event.at = now
        evolve(story.state, event)
    story.written()
    return [event.job_id for event in placement.dispatches]


def jobs(count: int) -> list[e.Event]:
    return [submitted(job_id=f"j{number:02}") for number in range(count)]


# ---- declarations


def test_a_queue_is_declared_with_its_author_and_changed_by_a_higher_revision():
    story = given(FINAL, submitted())
    story.when(apply(concurrency=3))
    story.then(like(e.QueueApplied, queue="q", revision=2, spec=QueueSpec(concurrency=3), labels={}))
    story.when(apply(2, {"app": "etl"}, concurrency=4)).then(like(e.QueueApplied, revision=3, labels={"app": "etl"}))
    declared = story.state.declaration("q")
    assert declared == QueueDeclaration(3, QueueSpec(concurrency=4), {"app": "etl"}, NOW)


def test_the_names_of_declared_queues_are_listed_until_they_are_deleted():
    story = given(FINAL, submitted()).when(apply(concurrency=3)).written()
    assert list(story.state.declared_queues()) == ["q"]
    story.when(delete()).written()
    assert list(story.state.declared_queues()) == []


def test_the_same_declaration_again_changes_nothing_whatever_revision_its_sender_expects():
    story = given(FINAL).when(apply(0, concurrency=3))
    for expected in (0, 1, c.ANY_REVISION, 77):
        story.when(apply(expected, concurrency=3)).then(like(e.QueueUnchanged, queue="q", revision=1))


def test_a_change_of_what_was_changed_meanwhile_is_a_conflict():
    story = given(FINAL).when(apply(0, concurrency=3)).when(apply(1, concurrency=4))
    for expected in (0, 1):
        story.when(apply(expected, concurrency=5)).refused("CONFLICT", "revision 2", "ftjm plan")
        story.when(delete(expected)).refused("CONFLICT", "revision 2")
    given(FINAL).when(apply(4, concurrency=5)).refused("CONFLICT", "revision 4", "found none")


def test_a_declaration_is_deleted_once_and_its_revision_never_comes_back():
    story = given(FINAL).when(apply(concurrency=3)).when(delete(1)).then(like(e.QueueDeleted, queue="q"))
    assert story.state.declaration("q") is None
    story.when(delete(1)).then(like(e.QueueUnchanged, revision=0))
    story.when(apply(0, concurrency=3)).then(like(e.QueueApplied, revision=2))
    story.when(delete(1)).refused("CONFLICT")


def test_a_declaration_needs_a_cluster_that_knows_it():
    for told in (apply(), delete()):
        given().when(told).refused("NOT_YET_SUPPORTED")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (apply(concurrency=-1), "concurrency"),
        (apply(rate_limit=1_000_001), "rate_limit"),
        (apply(rate_limit=1, rate_per_ms=0), "rate_per_ms"),
        (apply(rate_burst=0), "rate_burst"),
        (apply(ageing_ms=0), "ageing_ms"),
        (apply(-2), "expected_revision"),
        (apply(labels={"no name": "x"}), "labels"),
        (apply(labels={f"l{number}": "x" for number in range(101)}), "labels"),
        (c.ApplyQueue(queue="q", job_id="a", spec=QueueSpec()), "job_id"),
        (c.DeleteQueue(queue="q", job_id="a"), "job_id"),
    ],
)
def test_a_wrong_declaration_is_refused(wrong: c.Command, words: str):
    given(FINAL).when(wrong).refused("INVALID", words)


def test_who_follows_counts_learns_of_a_declaration():
    story = given(FINAL, submitted()).written()
    assert story.state.changed_queues() is None
    story.when(apply(concurrency=3))
    assert story.state.changed_queues() == {"q"}
    story.when(delete())
    assert story.state.changed_queues() == {"q"}


# ---- the limit


def test_no_more_jobs_have_a_worker_than_the_queue_allows():
    story = given(FINAL, *jobs(5)).when(apply(concurrency=2))
    assert started(story) == ["j00", "j01"]
    assert started(story) == []
    story.evolve(succeeded(job_id="j00", session="s9")).written()
    assert started(story) == ["j02"]


def test_other_queues_go_on_where_one_has_reached_its_limit():
    other = submitted(job_id="b")
    other.queue = "other"
    story = given(FINAL, *jobs(2), other, dispatched(job_id="j00")).when(apply(concurrency=1))
    offer = Offer("s9", "w9", 3, 5_000, ("q", "other"), number=1, slots=9)
    assert [event.job_id for event in match(story.state, [offer], 100, NOW).dispatches] == ["b"]


def test_a_lowered_limit_stops_nothing_and_a_removed_one_holds_nothing_back():
    story = given(FINAL, *jobs(4)).when(apply(concurrency=3))
    assert len(started(story)) == 3
    story.when(apply(concurrency=1))
    assert started(story) == []
    story.when(report(c.CompleteAttempt, job_id="j00", session="s9"))
    assert started(story) == []
    story.when(delete())
    assert started(story) == ["j03"]


# ---- the rate


def test_a_rate_starts_its_burst_and_then_one_job_each_interval():
    story = given(FINAL, *jobs(9)).when(apply(rate_limit=2, rate_per_ms=1_000, rate_burst=3))
    assert started(story) == ["j00", "j01", "j02"]
    assert placed(story).more_at == NOW + 500
    assert started(story, NOW + 499) == []
    assert started(story, NOW + 500) == ["j03"]
    assert started(story, NOW + 1_700) == ["j04", "j05"]
    assert placed(story, now=NOW + 1_700).more_at == NOW + 2_000


def test_a_rate_says_when_more_may_start_also_when_some_have():
    story = given(FINAL, *jobs(2)).when(apply(rate_limit=1, rate_per_ms=60_000))
    placement = placed(story)
    assert ([event.job_id for event in placement.dispatches], placement.more_at) == (["j00"], NOW + 60_000)


def test_without_waiting_jobs_or_free_slots_no_time_is_due():
    story = given(FINAL, *jobs(1)).when(apply(rate_limit=1, rate_per_ms=60_000))
    assert placed(story).more_at is None
    assert placed(story, slots=0).more_at is None


def test_a_rate_that_is_taken_away_leaves_no_row():
    for command_ in (apply(concurrency=5), delete()):
        story = given(FINAL, *jobs(2)).when(apply(rate_limit=1))
        assert started(story) == ["j00"]
        assert story.state.queue_rate("q") is not None
        story.when(command_)
        assert story.state.queue_rate("q") is None
        assert started(story) == ["j01"]


@every(
    limit=st.integers(1, 50),
    per_ms=st.integers(1, 5_000),
    burst=st.integers(1, 6),
    looks=st.lists(st.integers(0, 400), min_size=1, max_size=60),
)
def test_in_any_span_of_time_at_most_burst_and_the_rates_share_of_it_start(
    limit: int, per_ms: int, burst: int, looks: list[int]
):
    story = given(FINAL).when(apply(rate_limit=limit, rate_per_ms=per_ms, rate_burst=burst))
    now, starts, made = NOW, [], 0
    for pause in looks:
        now += pause
        free = opening(queue_rows(story.state, "q"), now)
        assert free.more_at > now
        for _ in range(min(free.jobs, 8)):
            event = submitted(job_id=f"j{made}")
            story.evolve(event, dispatched(job_id=f"j{made}", at=now))
            made += 1
            starts.append(now)
    for first in range(len(starts)):
        for last in range(first, len(starts)):
            span = starts[last] - starts[first]
            assert last - first + 1 <= burst + span * limit / per_ms


@every(limit=st.integers(1, 50), per_ms=st.integers(1, 5_000), burst=st.integers(1, 6), count=st.integers(1, 12))
def test_the_gate_opens_at_the_time_that_it_tells(limit: int, per_ms: int, burst: int, count: int):
    story = given(FINAL).when(apply(rate_limit=limit, rate_per_ms=per_ms, rate_burst=burst))
    for number in range(count):
        story.evolve(submitted(job_id=f"j{number}"), dispatched(job_id=f"j{number}", at=NOW))
    rows = queue_rows(story.state, "q")
    now = opening(rows, NOW)
    assert opening(rows, now.more_at).jobs > now.jobs
    assert opening(rows, now.more_at - 1).jobs == now.jobs


# ---- the table


def test_the_first_closed_gate_is_named_in_the_order_of_the_table():
    story = given(FINAL, *jobs(3), e.QueuePaused(queue="q", at=NOW), dispatched(job_id="j00"))
    assert list(GATES) == ["QueuePaused", "Window", "QueueLimit", "RateLimit"]
    story.when(apply(concurrency=1, rate_limit=1, rate_per_ms=60_000))
    story.evolve(dispatched(job_id="j01")).written()

    def closed() -> str | None:
        found = closed_gate(queue_rows(story.state, "q"), NOW)
        return None if found is None else found[0]

    assert closed() == "QueuePaused"
    story.evolve(e.QueueResumed(queue="q")).written()
    assert closed() == "QueueLimit"
    story.when(apply(concurrency=3, rate_limit=1, rate_per_ms=60_000))
    assert closed() == "RateLimit"
    story.when(apply(concurrency=3))
    assert closed() is None


# ---- rates that are changed, and rates that cannot be kept


def test_a_rate_that_is_raised_starts_more_at_once():
    story = given(FINAL, *jobs(9)).when(apply(rate_limit=10, rate_per_ms=86_400_000, rate_burst=3))
    assert len(started(story)) == 3
    story.when(apply(rate_limit=100, rate_per_ms=60_000, rate_burst=3))
    assert placed(story).more_at == NOW + 600, "the starts that count on do so by the new rate"
    assert started(story, NOW + 600) == ["j03"]


def test_a_rate_that_is_lowered_counts_what_was_started_by_the_new_one():
    story = given(FINAL, *jobs(9)).when(apply(rate_limit=10, rate_per_ms=1_000, rate_burst=5))
    assert len(started(story)) == 5
    story.when(apply(rate_limit=1, rate_per_ms=1_000, rate_burst=2))
    assert started(story) == []
    assert placed(story).more_at == NOW + 1_000
    story.when(apply(concurrency=9, rate_limit=1, rate_per_ms=1_000, rate_burst=2))
    assert placed(story).more_at == NOW + 1_000, "what is not changed goes on"


def test_a_rate_that_no_row_can_hold_is_refused():
    story = given(FINAL).when(apply(rate_limit=1, rate_per_ms=31 * 86_400_000, rate_burst=10_000))
    story.refused("INVALID", "rate_burst", "ten years")
    most = QueueSpec(rate_limit=1, rate_per_ms=86_400_000, rate_burst=3_650)
    assert rate_fault(most) == ""
    used = QueueRate(4_000_000_000_000 * 1_000_000 + BURST_NS_MAX)
    assert used_by_start(most, used, NOW).used_until_ns < 1 << 63, "in the year 2096"


def test_jobs_of_a_queue_with_a_rate_are_sent_to_free_slots_only():
    story = given(FINAL, *jobs(3)).when(apply(rate_limit=1_000, rate_burst=9))
    offer = Offer("s9", "w9", 3, 5_000, ("q",), number=1, slots=1, ahead=2)
    assert [event.job_id for event in match(story.state, [offer], 100, NOW).dispatches] == ["j00"]


def test_a_queue_is_limited_that_starts_no_job_soon():
    story = given(FINAL, *jobs(3)).when(apply(concurrency=1))
    assert not is_limited(queue_rows(story.state, "q"), NOW)
    assert started(story) == ["j00"]
    assert is_limited(queue_rows(story.state, "q"), NOW)
    story.when(apply(rate_limit=1, rate_per_ms=10_000))
    assert started(story) == ["j01"]
    assert [is_limited(queue_rows(story.state, "q"), NOW + ms) for ms in (0, 9_000, 9_001)] == [True, True, False]
