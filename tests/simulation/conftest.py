"""`--seed N` plays one seed; `--seeds N` says how many are played."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=None, help="play this seed of the simulation only")
    group.addoption("--seeds", type=int, default=None, help="how many seeds of the simulation to play")
