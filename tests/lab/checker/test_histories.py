"""The checker passes the histories of the simulation: made by the product's own rules, under all simulated faults."""

from __future__ import annotations

import pytest

from tests.simulation.cluster import judge, play

SEEDS = 100
AT_ONCE = 20


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_simulated_history_passes(first):
    jobs = attempts = lost = 0
    for seed in range(first, first + AT_ONCE):
        report = judge(play(seed))
        assert report.violations == [], f"seed {seed}"
        jobs, attempts, lost = jobs + report.jobs, attempts + report.attempts, lost + report.attempts_lost
    assert jobs > 5 * AT_ONCE
    assert attempts > jobs
    assert lost > AT_ONCE, "histories without faults show nothing"
