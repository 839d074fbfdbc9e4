"""Settings for all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from ftjm.core.decide import upgrades
from ftjm.core.records.levels import FIRST_LEVEL

# The time of an example depends on the load of the machine, not on the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the seeds of the simulation: they compute for minutes, and tests that wait run beside them."""
    items.sort(key=lambda item: item.path.name != "test_simulation.py")


@pytest.fixture
def first_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new log begins without a batch that records its level, as a build of the first level began it."""
    monkeypatch.setattr(upgrades, "LEVEL", FIRST_LEVEL)
