"""Slots are divided among partitions by the weights of the queues that wait there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ftjm.core.records.messages import PartitionReport, QueueDemand
from ftjm.worker.rules.demand import Demand
from ftjm.worker.rules.slot_offers import Offers, allocate
from ftjm.worker.rules.weighted_slots import OddSlots
from tests.worker.test_offers import answer, sizes


class Saturated:
    """A worker whose partitions always have waiting jobs; owners use all that they are offered."""

    def __init__(self, slots: int, weights: dict[int, int], lasts_ms: int = 100) -> None:
        self.offers = Offers(weights)
        self.used: Counter[int] = Counter()
        """Slot time, ms."""
        self.moves = 0
        self._now = 0
        self._slots = slots
        self._weights = weights
        self._lasts_ms = lasts_ms
        self._running: dict[int, list[int]] = {partition: [] for partition in weights}

    def run(self, seconds: int, limited: frozenset[int] = frozenset()) -> None:
        for _ in range(seconds * 20):
            self._now += 50
            credit = sizes(self.offers)
            for partition, ends in self._running.items():
                ends[:] = [end for end in ends if end > self._now]
                while len(ends) < (
                    min(1, credit.get(partition, 0)) if partition in limited else credit.get(partition, 0)
                ):
                    ends.append(self._now + self._lasts_ms)
                self.used[partition] += 50 * len(ends)
            assert sum(map(len, self._running.values())) <= self._slots
            live = {partition: len(ends) for partition, ends in self._running.items()}
            demand = set(self._weights) - limited
            self.moves += self.offers.update(
                self._slots, live, demand, self._now, limited=limited, weights=self._weights
            )
            answer(self.offers)

    def parts(self) -> dict[int, float]:
        total = sum(self.used.values())
        return {partition: used / total for partition, used in self.used.items()}


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5, 8, 50])
@pytest.mark.parametrize("lasts_ms", [50, 400, 3_000])
def test_weights_of_1_and_3_have_slots_in_proportion_also_where_there_are_few(slots, lasts_ms):
    worker = Saturated(slots, {0: 1, 1: 3}, lasts_ms)
    worker.run(120)
    assert worker.parts()[0] == pytest.approx(0.25, rel=0.1), worker.parts()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_each_partition_has_what_its_weight_says(slots, weights):
    assume(len({*weights}) > 1)  # equal ones keep odd slots where they are
    worker = Saturated(slots, dict(enumerate(weights)))
    worker.run(80)
    for partition, weight in enumerate(weights):
        expected = weight / sum(weights)
        assert abs(worker.parts()[partition] - expected) < 0.02 + 0.15 * expected, worker.parts()


def test_where_slots_can_be_divided_none_moves():
    worker = Saturated(8, {0: 1, 1: 3})
    worker.run(5)
    worker.moves = 0
    worker.run(20)
    assert (worker.moves, sizes(worker.offers)) == (0, {0: 2, 1: 6})


def test_a_slot_moves_once_a_turn_at_most():
    worker = Saturated(2, {0: 1, 1: 3})
    worker.run(40)
    assert worker.moves <= 2 * 40


def test_a_limited_partition_leaves_what_it_does_not_use_to_the_others():
    worker = Saturated(8, {0: 1, 1: 3})
    worker.run(5)
    worker.run(10, limited=frozenset({1}))
    assert sizes(worker.offers) == {0: 7, 1: 1}


def test_equal_weights_are_spread_as_without_weights():
    order = {0: (1, 0, 0), 1: (1, 0, 0)}
    assert allocate(5, order, {0, 1}, {0: 7, 1: 7}) == allocate(5, order, {0, 1})
    assert allocate(6, order, {0, 1}, {0: 1, 1: 2}) == {0: 2, 1: 4}
    assert allocate(5, order, {0, 1}, {0: 1, 1: 2}) == {0: 2, 1: 3}
    assert allocate(5, order, {1}, {0: 1, 1: 2}) == {0: 0, 1: 5}


def test_nothing_is_owed_from_the_time_before_weights_differed():
    odd = OddSlots()
    assert odd.divide(1, {0: 1, 1: 3}, {0: 0, 1: 0}, 10_000) == {0: 0, 1: 1}
    odd.forget()
    assert odd.divide(1, {0: 3, 1: 1}, {0: 0, 1: 1}, 99_000) == {0: 1, 1: 0}


# ---- what owners publish


def report(partition: int, *queues: QueueDemand) -> PartitionReport:
    return PartitionReport(
        partition=partition, role="owner", owner_epoch=1, applied_offset=0, next_command=0, demand=[*queues], taken=[]
    )


def demand(queue: str, weight: int, **fields: Any) -> QueueDemand:
    return QueueDemand(queue=queue, ready=1, weight=weight, **fields)


def test_a_partition_has_the_weights_of_our_queues_that_wait_there():
    known = Demand(["a", "b", "c", "d"])
    known.published(report(0, demand("a", 2), demand("b", 3), demand("other", 9)), 0)
    known.published(report(1, demand("c", 4, limited=True), demand("d", 7)), 0)
    assert known.weights() == {0: 5, 1: 7}
    known.published(report(1, demand("c", 4, limited=True), demand("d", 7, paused=True)), 0)
    assert known.weights() == {0: 5, 1: 4}
    known.published(report(0), 0)
    assert known.weights() == {0: 5, 1: 4}, "that is what counts for attempts at hand"
