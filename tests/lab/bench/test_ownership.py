"""Pauses and owners of partitions, computed from the batches that were read."""

from __future__ import annotations

import pytest

from ftjm.lab.bench.ownership import OwnedBatch, longest_pause_ms


@pytest.mark.parametrize(
    ("times", "longest"),
    [
        ([90, 110, 150, 190, 210], 40),
        ([10, 110, 150, 190, 210], 100),  # begins before the interval
        ([90, 110, 150, 190, 400], 210),  # ends after the interval
        ([90, 110, 130], 70),  # is still open
        ([90], 110),  # no batch in the interval
        ([], 100),  # no batch at all
        ([10, 90, 210, 300], 120),
        ([10, 20, 90, 100, 200], 100),
    ],
)
def test_a_pause_that_is_still_open_lasts_until_now(times, longest):
    assert longest_pause_ms(times, 100, 200) == longest


def test_two_processes_of_one_name_are_two_instances():
    old, new = OwnedBatch(1, "scheduler-0@host:12"), OwnedBatch(2, "scheduler-0@host:13")
    assert old.name == new.name == "scheduler-0"
    assert (old.instance, new.instance) == (("scheduler-0", 12), ("scheduler-0", 13))
