"""Hundreds of histories of a whole cluster, each from one seed.

    pytest tests/simulation/test_simulation.py               500 seeds (FTJM_SEEDS or --seeds for more)
    pytest tests/simulation/test_simulation.py --seed 42     one seed, with the story of its last steps if it fails

A seed draws the cluster, the jobs, the kinds of faults and all that happens; after some seconds of virtual time
everything heals, and the checker judges from the logs, what truly ran, and what clients were told.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.cluster import play
from tests.simulation.parallel import failures_of

SEEDS = 500


@pytest.mark.timeout(1_200)
def test_every_seed_keeps_every_promise(request: pytest.FixtureRequest) -> None:
    one = request.config.getoption("--seed", default=None)
    if one is not None:
        play(one)
        return
    count = request.config.getoption("--seeds", default=None) or int(os.environ.get("FTJM_SEEDS", SEEDS))
    failures = list(failures_of(range(count)))
    for failure in failures[:3]:
        print(failure)
    seeds = [failure.seed for failure in failures]
    assert not failures, f"{len(failures)} of {count} seeds fail: {seeds[:20]}; the first: {failures[0].what}"


def test_a_seed_is_one_history() -> None:
    first, second = play(7), play(7)
    assert first.world.steps == second.world.steps
    assert first.world.story() == second.world.story()


def test_a_seed_is_one_history_in_every_process():
    # Each process has its own order of sets, and an owner once walked through a set of sessions.
    program = (
        "from tests.simulation.cluster import play; log = play(117).broker.log; "
        "print([event.value for p in range(log.partitions) for event in log.events(p, 0)])"
    )
    logs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": order},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
        ).stdout
        for order in ("0", "1")
    }
    assert len(logs) == 1
