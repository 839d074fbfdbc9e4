from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.adapters.calendar.interval import next_of_interval


@pytest.mark.parametrize(
    ("every_ms", "start_ms", "after_ms", "due"),
    [
        (1_000, 0, 0, 1_000),
        (1_000, 0, 999, 1_000),
        (1_000, 0, 1_000, 2_000),
        (60_000, 7, 60_006, 60_007),
        (60_000, 7, 60_007, 120_007),
        (60_000, 500_000, 499_999, 500_000),
        (60_000, 500_000, 0, 500_000),
        (60_000, 500_000, 500_000, 560_000),
        (1, 0, 41, 42),
    ],
)
def test_the_next_instant(every_ms, start_ms, after_ms, due):
    assert next_of_interval(every_ms, start_ms, after_ms) == due


@given(st.integers(1, 10**12), st.integers(0, 10**13), st.integers(0, 10**13))
def test_it_is_the_first_one_after_and_a_whole_number_of_intervals_from_the_start(every_ms, start_ms, after_ms):
    due = next_of_interval(every_ms, start_ms, after_ms)
    assert due > after_ms
    assert (due - start_ms) % every_ms == 0
    assert due == start_ms or start_ms <= due - every_ms <= after_ms


@pytest.mark.parametrize("every_ms", [0, -1])
def test_an_interval_of_nothing_is_refused(every_ms):
    with pytest.raises(ValueError, match=f"expected an interval of at least 1 ms, but found {every_ms}"):
        next_of_interval(every_ms, 0, 0)
