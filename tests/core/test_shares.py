"""Fair shares: the slot time of a queue is shared by weights, and each dispatch says which better job it went past."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from heapq import heappop, heappush
from random import Random
from typing import Any

import pytest
from hypothesis import given as every
from hypothesis import settings
from hypothesis import strategies as st

from ftjm.core.evolve.handlers import evolve
from ftjm.core.placement import Offer, match
from ftjm.core.records import events as e
from ftjm.core.records.levels import QUEUE_LEVEL, SHARING_LEVEL
from ftjm.core.shares import FACTORS, MEAN_OF, STEPS, correct, learn, rank, slots_allowed, usage_at
from ftjm.core.state.model import STATE_VERSION, JobState
from ftjm.core.state.queues import HALF_LIFE_MS, MEAN_US, QueueSpec, Share, ShareUsage
from tests.core.story import (
    HOUR_MS,
    NOW,
    Story,
    attempt_failed,
    attempt_lost,
    cancelled,
    declined,
    dispatched,
    failed,
    forgotten,
    given,
    held,
    rerun,
    started,
    submitted,
    succeeded,
)

FINAL = e.UpgradeFinalized(level=SHARING_LEVEL, state_version=STATE_VERSION)


def job(job_id: str, share: str = "", **fields: Any) -> e.Event:
    return submitted(job_id=job_id, share_identifier=share, **fields)


def declared(revision: int, queue: str = "q", **spec: Any) -> e.Event:
    return e.QueueApplied(queue=queue, revision=revision, spec=QueueSpec(**spec), labels={}, at=NOW)


def shared(**weights: int) -> list[Share]:
    return [Share(name, weight) for name, weight in weights.items()]


def placed(story: Story, slots: int = 1, now: int = NOW) -> list[e.AttemptDispatched]:
    """The dispatches at this time. The state is that behind them."""
    found = match(story.state, [Offer("s1", "w1", 3, 5_000, ("q",), 1, slots)], 500, now).dispatches
    for event in found:
        event.at = now
        evolve(story.state, event)
    return found


def order(story: Story, slots: int = 99, now: int = NOW) -> list[str]:
    found = [event.job_id for event in placed(story, slots, now)]
    story.written()
    return found


def passes(story: Story, slots: int = 99, now: int = NOW) -> list[tuple[str, str, str]]:
    return [(event.job_id, event.passed, event.passed_reason) for event in placed(story, slots, now)]


def share(story: Story, name: str) -> ShareUsage:
    row = story.state.share("q", name)
    assert row is not None
    return row


# ---- the arithmetic


def test_the_factors_of_decay_are_powers_of_two():
    assert len(FACTORS) == STEPS
    for step, factor in enumerate(FACTORS):
        assert factor == int((Decimal(2) ** (32 - Decimal(step) / STEPS)).to_integral_value())


@pytest.mark.parametrize(("half_lives", "left"), [(0, 1.0), (0.5, 0.7071), (1, 0.5), (3, 0.125), (200, 0.0)])
def test_usage_is_halved_in_each_half_life(half_lives, left):
    row = ShareUsage(usage=10**9, at=NOW)
    found = usage_at(row, 8_000, NOW + int(half_lives * 8_000))
    assert found == pytest.approx(left * 10**9, rel=1e-4)


@every(st.integers(0, 10**15), st.lists(st.integers(0, 50_000), min_size=1, max_size=9))
def test_it_does_not_matter_how_often_a_share_is_looked_at(usage, pauses):
    row, now = ShareUsage(usage=usage, at=NOW), NOW
    whole = usage_at(row, 7_001, NOW + sum(pauses))
    for pause in pauses:
        now += pause
        row = ShareUsage(usage=usage_at(row, 7_001, now), at=now)
    assert abs(row.usage - whole) <= 16 * len(pauses) + usage // 10**8


def test_time_that_goes_back_changes_no_usage():
    assert usage_at(ShareUsage(usage=7, at=NOW), 1_000, NOW - 5_000) == 7


def test_a_higher_weight_goes_first_at_equal_usage_and_weights_are_exact_to_a_millionth_of_a_microsecond():
    assert rank(300, 3) == rank(100, 1)
    assert rank(300, 3) < rank(101, 1)
    assert rank(10**6, 3) < rank(10**6, 2)


def test_the_first_attempts_make_the_mean_and_later_ones_move_it():
    row = ShareUsage()
    learn(row, 50_000)
    assert row.mean == 50_000, "the expected second counts for nothing once there is an attempt"
    learn(row, 70_000)
    assert row.mean == 60_000
    for _ in range(50):
        learn(row, 60_000)
    assert (row.mean, row.ended) == (60_000, MEAN_OF)
    learn(row, 140_000)
    assert row.mean == 70_000


def test_usage_never_falls_below_nothing():
    row = ShareUsage(usage=10, at=NOW, live=1)
    correct(row, 1_000, NOW, 500, 20)
    assert (row.usage, row.live) == (0, 0)


# ---- what is charged


def test_an_attempt_is_charged_with_the_mean_and_corrected_at_its_end():
    story = given(job("a", "x"), job("b", "x"), dispatched())
    assert (share(story, "x").usage, share(story, "x").live, share(story, "x").jobs) == (MEAN_US, 1, 2)
    story.job_is(charged=MEAN_US)
    story.evolve(succeeded(at=NOW + 90, started_at=NOW + 10, ended_at=NOW + 80)).written()
    assert share(story, "x") == ShareUsage(usage=70_000, at=NOW + 90, mean=70_000, ended=1, jobs=2)
    story.job_is(JobState.SUCCEEDED, charged=0)
    story.evolve(dispatched(job_id="b", at=NOW + 90)).written()
    assert share(story, "x").usage == 140_000


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([declined(at=NOW + 70)], 0),
        ([attempt_lost(at=NOW + 5_000, retry_at=NOW + 9_000)], MEAN_US),
        ([started(started_at=NOW + 20), attempt_lost(at=NOW + 5_020, retry_at=NOW + 9_000)], 5_000_000),
        ([attempt_failed(at=NOW + 90, started_at=NOW + 5, ended_at=NOW + 35, retry_at=NOW + 9_000)], 30_000),
        ([attempt_failed(at=NOW + 90, started_at=NOW + 5, ended_at=NOW + 35), failed(at=NOW + 90)], 30_000),
        ([succeeded(at=NOW + 90, started_at=NOW + 5, ended_at=NOW + 5)], 1_000),
        ([succeeded(at=NOW + 90, started_at=NOW + 5, ended_at=NOW)], 1_000),
        ([succeeded(at=NOW + 90, started_at=NOW - HOUR_MS, ended_at=NOW)], 90_000),
    ],
    ids=[
        "declined",
        "lost unstarted",
        "lost",
        "failed",
        "failed for good",
        "short",
        "clock goes back",
        "clock is wrong",
    ],
)
def test_what_an_attempt_has_used(events, usage):
    story = given(job("a", "x"), dispatched(), *events)
    assert (share(story, "x").usage, share(story, "x").live) == (usage, 0)
    story.job_is(charged=0)


def test_only_attempts_that_ended_by_themselves_move_the_mean():
    story = given(job("a", "x"), dispatched(), started(), attempt_lost(at=NOW + 5_000, retry_at=NOW + 5_000))
    assert share(story, "x").mean == MEAN_US
    story.evolve(dispatched(attempt=2, at=NOW + 5_000))
    story.evolve(succeeded(attempt=2, started_at=NOW + 5_000, ended_at=NOW + 5_040, at=NOW + 5_040)).written()
    assert share(story, "x").mean == 40_000


def test_a_queue_without_shares_has_no_row_of_one_and_charges_nothing():
    story = given(job("a"), job("b"), dispatched(), succeeded())
    assert story.state.share("q", "") is None
    story.evolve(dispatched(job_id="b")).written()
    assert story.job("b").charged == 0


def test_the_share_without_a_name_is_charged_once_another_share_has_come():
    story = given(job("a"), dispatched(), job("b"), job("c", "x"), dispatched(job_id="b"))
    assert share(story, "").live == 1, "the attempt from before was not charged"
    story.evolve(succeeded(at=NOW + 9), succeeded(job_id="b", at=NOW + 9)).written()
    assert share(story, "").live == 0


def test_a_share_is_forgotten_with_its_last_job_and_the_one_without_a_name_with_the_queue():
    story = given(job("a", "x"), job("b"), dispatched(job_id="b"), succeeded(job_id="b"), cancelled())
    story.evolve(forgotten(at=NOW + 1)).written()
    assert story.state.share("q", "x") is None
    assert story.state.share("q", "") is not None
    story.evolve(forgotten(job_id="b", at=NOW + 1)).written()
    assert story.state.share("q", "") is None


def test_a_queue_is_forgotten_whose_share_without_a_name_was_never_charged():
    story = given(job("a", "x"), cancelled(), forgotten(at=NOW + 1))
    assert not [key for key, _ in story.store.scan(b"i", b"j")]


def test_a_rerun_stays_in_its_share_and_a_held_job_leaves_the_line():
    story = given(FINAL, job("a", "x"), job("b", "x"), held(), dispatched(job_id="b"), succeeded(job_id="b"))
    assert order(story) == []
    story.evolve(rerun(job_id="b", at=NOW + 1)).written()
    assert dict(story.state.first_jobs("q")) == {"x": (story.job("b").score, story.job("b").order, "b")}
    assert order(story, now=NOW + 1) == ["b"]


# ---- whose turn it is


def test_the_share_that_has_used_least_for_its_weight_goes_first_and_within_it_the_score():
    story = given(
        FINAL,
        declared(1, shares=shared(x=1, y=2)),
        *(job(f"x{number}", "x", priority=90) for number in (1, 2, 3)),
        *(job(f"y{number}", "y", priority=10 + number) for number in (1, 2, 3, 4)),
    )
    assert order(story) == ["x1", "y4", "y3", "x2", "y2", "y1", "x3"]


def test_a_share_that_is_not_listed_has_the_weight_1_and_so_has_the_one_without_a_name():
    jobs = [job(f"{name or 'none'}{number}", name) for name in ("", "x", "y") for number in (1, 2)]
    story = given(FINAL, declared(1, shares=shared(y=2)), *jobs)
    assert order(story, 4) == ["none1", "x1", "y1", "y2"]


def test_a_takeover_changes_no_turn():
    story = given(FINAL, declared(1, shares=shared(x=1, y=3)))
    story.evolve(*(job(f"{name}{number}", name) for number in range(9) for name in "xyz")).written()
    other = Story()
    other.store.write(list(story.store.scan(b"\0", b"\xff")))
    expected: list[str] = []
    for _ in range(9):
        expected += order(story, slots=len(expected) + 1)
    found: list[str] = []
    for _ in range(9):
        found += order(other.taken_over(), slots=len(found) + 1)
    assert found == expected


def test_jobs_of_one_batch_are_found_beside_those_of_the_store():
    story = given(FINAL, job("a", "x"), job("b", "y"))
    assert set(story.state.first_jobs("q")) == {"x", "y"}
    story.evolve(job("c", "z"), job("d", "x", priority=99), cancelled(job_id="b"))
    assert {name: first[2] for name, first in story.state.first_jobs("q").items()} == {"x": "d", "z": "c"}
    story.evolve(cancelled(job_id="d"), job("e", "x", priority=0))
    assert story.state.first_jobs("q")["x"][2] == "a"
    story.written()


# ---- what is gone past


def test_a_dispatch_names_the_job_that_it_went_past():
    story = given(FINAL, *(job(f"x{n}", "x", priority=90 + n) for n in (1, 2, 3)), job("y1", "y"), job("y2", "y"))
    assert passes(story) == [
        ("x3", "", ""),
        ("y1", "x2", "Share"),
        ("x2", "", ""),
        ("y2", "x1", "Share"),
        ("x1", "", ""),
    ]


def test_a_job_whose_deadline_has_passed_is_named_with_and_without_shares():
    late: dict[str, Any] = {"deadline_at": NOW - 1, "priority": 99}
    plain = [job("late1", **late), job("late2", **late), job("a"), job("b")]
    assert passes(given(FINAL, *plain)) == [("a", "late1", "Deadline"), ("b", "late1", "Deadline")]
    story = given(FINAL, job("late1", "x", **late), job("late2", "x", **late), job("a", "x"), job("b", "y"))
    assert passes(story) == [("a", "late1", "Deadline"), ("b", "late1", "Deadline")]


def test_before_the_upgrade_is_final_nothing_is_named():
    final = e.UpgradeFinalized(level=QUEUE_LEVEL, state_version=STATE_VERSION)
    story = given(final, job("late", deadline_at=NOW - 1), job("a"))
    assert passes(story) == [("a", "", "")]


# ---- the reservation


@pytest.mark.parametrize(
    ("reservation", "allowed"), [(50, [50, 75, 87, 93]), (25, [75, 93, 98, 99]), (0, [100, 100, 100, 100])]
)
def test_the_reservation_is_a_power_of_the_number_of_active_shares(reservation, allowed):
    assert [slots_allowed(100, reservation, active) for active in (1, 2, 3, 4)] == allowed
    assert slots_allowed(1, reservation, 1) == 1, "one job may always run"
    assert slots_allowed(0, 99, 500) == 1


def test_active_shares_leave_slots_free_for_others():
    story = given(FINAL, declared(1, compute_reservation=50))
    story.evolve(*(job(f"x{number}", "x") for number in range(9))).written()
    assert len(order(story, 8)) == 4
    story.evolve(*(job(f"y{number}", "y") for number in range(9))).written()
    assert passes(story, 8) == [("y0", "x4", "ComputeReservation"), ("y1", "x4", "Share")]
    story.evolve(job("z", "z")).written()
    assert passes(story, 8) == [("z", "x4", "ComputeReservation")]
    assert order(story, 8) == []


def test_the_reservation_lets_a_share_go_on_that_was_kept_back_before_another_came():
    story = given(FINAL, declared(1, compute_reservation=50), *(job(f"x{number}", "x") for number in range(9)))
    story.evolve(job("y0", "y", priority=0)).written()
    assert order(story, 8) == ["x0", "y0", "x1", "x2", "x3", "x4"]
    assert order(story, 8) == []


def test_without_a_reservation_all_slots_are_used():
    story = given(FINAL, declared(1, shares=shared(x=2)), *(job(f"x{number}", "x") for number in range(9)))
    assert len(order(story, 8)) == 8


# ---- under saturation


class Saturated:
    """A queue all of whose shares have more jobs than there are slots, on a virtual clock."""

    def __init__(self, means_ms: dict[str, int], slots: int, seed: int = 0, **spec: Any) -> None:
        self.story = given(FINAL, declared(1, **spec))
        self.used: Counter[str] = Counter()
        """Slot time of the attempts that have ended, ms."""
        self._means = means_ms
        self._slots = slots
        self._random = Random(seed)
        self._now = NOW
        self._sent = 0
        self._running: list[tuple[int, int, str, str]] = []
        self._made: Counter[str] = Counter()
        for name in means_ms:
            for _ in range(slots + 1):
                self._submit(name)

    def _submit(self, share: str) -> None:
        self._made[share] += 1
        self.story.evolve(job(f"{share or 'none'}-{self._made[share]}", share, at=self._now))

    def run(self, until: int) -> None:
        while self._now < NOW + until:
            for event in placed(self.story, self._slots, self._now):
                share = self.story.job(event.job_id).share
                took = max(1, int(self._random.expovariate(1 / self._means[share])))
                heappush(self._running, (self._now + took, self._now, event.job_id, share))
                self._submit(share)
            self._now = self._running[0][0]
            while self._running and self._running[0][0] == self._now:
                ends, began, job_id, share = heappop(self._running)
                end = succeeded(job_id=job_id, started_at=began, ended_at=ends, at=ends)
                self.story.evolve(end, forgotten(job_id=job_id, at=ends))
                self.used[share] += ends - began
            self._write()

    def _write(self) -> None:
        state = self.story.state
        state.drop_sent(self._sent, state.counters.outbox)
        self._sent = state.counters.outbox
        changes, _ = state.seal()
        self.story.store.write(changes)
        state.written()

    def deviations(self, weights: dict[str, int]) -> dict[str, float]:
        """By how much of itself the part of each share differs from that of its weight."""
        whole, time = sum(weights.values()), sum(self.used.values())
        return {name: self.used[name] / time / (weight / whole) - 1 for name, weight in weights.items()}


def test_shares_have_slot_time_by_their_weights_over_a_takeover():
    weights = {"a": 1, "b": 2, "c": 4}
    run = Saturated({"a": 50, "b": 500, "c": 50}, 20, shares=shared(**weights), half_life_ms=60_000)
    run.run(10_000)
    run.used.clear()
    run.run(25_000)
    run.story.taken_over()
    run.run(50_000)
    assert all(abs(deviation) < 0.05 for deviation in run.deviations(weights).values()), run.deviations(weights)


@settings(max_examples=6, deadline=None)
@every(
    st.dictionaries(st.sampled_from(["", "a", "b", "c"]), st.integers(1, 5), min_size=2),
    st.lists(st.integers(5, 60), min_size=4, max_size=4),
    st.integers(4, 12),
    st.integers(0, 99),
)
def test_under_saturation_no_share_is_far_from_its_weight(weights, means, slots, seed):
    listed = [Share(name, weight) for name, weight in weights.items()]
    run = Saturated(dict(zip(weights, means, strict=False)), slots, seed, shares=listed, half_life_ms=HALF_LIFE_MS)
    run.run(4_000)
    assert all(abs(deviation) < 0.2 for deviation in run.deviations(weights).values()), run.deviations(weights)
