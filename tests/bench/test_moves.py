"""Pauses of partitions, and who shares them, by the batches that were read."""

from __future__ import annotations

import pytest

from ftjm.bench.moves import Batch, longest_pause_ms


@pytest.mark.parametrize(
    ("times", "longest"),
    [
        ([90, 110, 150, 190, 210], 40),
        ([10, 110, 150, 190, 210], 100),  # began before
        ([90, 110, 150, 190, 400], 210),  # ended afterwards
        ([90, 110, 130], 70),  # still open
        ([90], 110),  # nothing since
        ([], 100),  # nothing at all
        ([10, 90, 210, 300], 120),
        ([10, 20, 90, 100, 200], 100),
    ],
)
def test_a_pause_that_is_still_open_lasts_until_now(times, longest):
    assert longest_pause_ms(times, 100, 200) == longest


def test_two_lives_of_one_name_are_told_apart():
    old, new = Batch(1, "scheduler-0@host:12"), Batch(2, "scheduler-0@host:13")
    assert old.name == new.name == "scheduler-0"
    assert (old.life, new.life) == (("scheduler-0", 12), ("scheduler-0", 13))
