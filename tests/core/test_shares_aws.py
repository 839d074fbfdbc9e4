"""The examples that AWS gives of fair shares in Batch, as far as they say what happens. `weight` is 1 / `weightFactor`.

Sources:

    POLICY   https://docs.aws.amazon.com/batch/latest/APIReference/API_FairsharePolicy.html
    GUIDE    https://docs.aws.amazon.com/batch/latest/userguide/fair-share-scheduling.html
    BLOG     https://aws.amazon.com/blogs/hpc/deep-dive-on-fair-share-scheduling-in-aws-batch/
"""

from __future__ import annotations

from collections import Counter

import pytest

from ftjm.core.shares import slots_allowed
from ftjm.core.state.queues import Share
from tests.core.story import given
from tests.core.test_shares import FINAL, Saturated, job, order


@pytest.mark.parametrize(
    ("reservation", "active", "reserved"),
    [(50, 1, 0.5), (50, 2, 0.25), (50, 3, 0.125), (25, 1, 0.25), (25, 2, 0.0625), (25, 3, 0.015625)],
)
def test_the_reserved_ratio(reservation, active, reserved):
    """POLICY, computeReservation: 50 reserves 50 %, 25 % and 12.5 % for one, two and three shares; 25 reserves 25 %,
    6.25 % and 1.56 %."""
    assert slots_allowed(6_400, reservation, active) == 6_400 * (1 - reserved)


def test_a_weight_factor_of_an_eighth_gets_eight_times_as_much():
    """GUIDE, weight factor: 0.125 is assigned eight times the compute resources of 1."""
    run = Saturated({"eighth": 40, "one": 40}, 18, shares=[Share("eighth", 8), Share("one", 1)])
    run.run(6_000)
    assert run.used["eighth"] / run.used["one"] == pytest.approx(8, rel=0.1)


def test_the_default_weight_factor_is_1():
    """GUIDE, weight factor: the default value is 1. So shares that are not listed have the same."""
    run = Saturated({"A": 40, "B": 40}, 8)
    run.run(4_000)
    assert run.used["A"] / run.used["B"] == pytest.approx(1, rel=0.1)


def test_the_share_with_the_lower_usage_goes_first():
    """BLOG, allocation: shares with a higher aggregate usage are less likely to be assigned resources than others.
    Where only time tells, jobs that came first would go on to use all."""
    first = [f"A{number}" for number in range(20)]
    plain = given(FINAL, *(job(name) for name in first), job("B0"))
    assert order(plain, slots=10) == first[:10]
    shared = given(FINAL, *(job(name, "A") for name in first), *(job(f"B{number}", "B") for number in range(20)))
    assert Counter(name[0] for name in order(shared, slots=10)) == {"A": 5, "B": 5}


def test_within_a_share_the_scheduling_priority_decides():
    """GUIDE, job scheduling priority: jobs of a higher one are scheduled before those of a lower one."""
    story = given(FINAL, job("A-low", "A", priority=1), job("A-high", "A", priority=99), job("B-low", "B", priority=1))
    assert order(story, slots=3) == ["A-high", "B-low", "A-low"]
