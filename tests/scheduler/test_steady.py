"""The time that owners decide with, while the wall clock jumps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from ftjm.scheduler import steady
from ftjm.scheduler.context import Context
from ftjm.scheduler.steady import SteadyClock

DAY_MS = 86_400_000


class Host:
    """Two clocks, and what the brokers say of one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot, self.wrong = 1_000, 0
        self.context = SimpleNamespace(clock_error_ms=0)
        monkeypatch.setattr(steady, "boot_ms", lambda: self.boot)
        monkeypatch.setattr(steady, "wall_ms", lambda: self.true + self.wrong)
        self.clock = SteadyClock(cast("Context", self.context))

    @property
    def true(self) -> int:
        return self.boot + 5 * DAY_MS

    def passes(self, ms: int) -> int:
        """What the owner takes for the time so much later."""
        self.boot += ms
        return self.clock.now()

    def heartbeat(self) -> None:
        self.context.clock_error_ms = self.wrong


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_time_is_the_wall_clock_s_however_it_is_corrected_in_small(host):
    for _ in range(10):
        host.wrong += 900
        assert host.passes(1_000) == host.true + host.wrong


@pytest.mark.parametrize("jump", [DAY_MS, -DAY_MS, 5_001, -5_001])
def test_a_jump_is_passed_over_until_the_clock_is_set_right(host, jump):
    assert host.passes(10) == host.true
    host.wrong = jump
    assert host.passes(10) == host.true
    assert host.context.clock_error_ms is None, "nobody takes over with what was measured before"
    for _ in range(3):
        host.heartbeat()
        assert host.passes(1_000) == host.true
    host.wrong = 3
    assert host.passes(1_000) == host.true + 3


def test_a_jump_that_the_brokers_confirm_is_followed(host):
    """The clock was wrong by a little less than it may be, and is set right by a little more."""
    host.wrong = -4_000
    assert host.passes(10) == host.true - 4_000
    host.wrong = 2_000
    assert host.passes(10) == host.true - 4_000
    assert host.passes(10) == host.true - 4_000, "nothing has been measured yet"
    host.heartbeat()
    assert host.passes(10) == host.true + 2_000


def test_a_pause_of_the_whole_process_is_no_jump(host):
    assert host.passes(DAY_MS) == host.true
