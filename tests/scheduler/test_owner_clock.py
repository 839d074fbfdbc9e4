"""The time that owners decide with, while the wall clock is wrong."""

from __future__ import annotations

import pytest

from ftjm.scheduler import owner_clock
from ftjm.scheduler.owner_clock import HostClock, OwnerClock

DAY_MS = 86_400_000


class Host:
    """Two clocks, of which one may be wrong, and a heartbeat that has reached the brokers, whose clock is right."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot, self.wrong = 1_000, 0
        monkeypatch.setattr(owner_clock, "boot_ms", lambda: self.boot)
        monkeypatch.setattr(owner_clock, "wall_ms", lambda: self.true + self.wrong)
        self.host = HostClock()
        self.heartbeat()
        self.clock = OwnerClock(self.host)

    @property
    def true(self) -> int:
        return self.boot + 5 * DAY_MS

    def passes(self, ms: int) -> int:
        """What the owner takes for the time so much later."""
        self.boot += ms
        return self.clock.wall_ms()

    def heartbeat(self, latency_ms: int = 0) -> None:
        self.host.compare(self.true, latency_ms)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_before_the_brokers_have_told_their_time_nothing_is_known_of_ours():
    assert HostClock().error_ms is None
    assert not HostClock().right


def test_time_is_the_wall_clock_s_however_it_is_corrected_in_small(host):
    for _ in range(5):
        host.wrong += 900
        assert host.passes(1_000) == host.true + host.wrong


@pytest.mark.parametrize("jump", [DAY_MS, -DAY_MS, 5_001, -5_001])
def test_a_jump_is_passed_over_until_the_clock_is_set_right(host, jump):
    assert host.passes(10) == host.true
    host.wrong = jump
    assert host.passes(10) == host.true
    assert not host.host.right, "nobody takes over with it"
    for _ in range(3):
        host.heartbeat()
        assert host.passes(1_000) == host.true
    host.wrong = 3
    assert host.passes(1_000) == host.true + 3


@pytest.mark.parametrize("step", [900, -900])
def test_a_clock_that_drifts_away_is_followed_as_far_as_it_may_be_wrong(host, step):
    for _ in range(20):
        host.wrong += step
        host.heartbeat()
        assert abs(host.passes(1_000) - host.true) <= 5_000
    assert not host.host.right


def test_no_jump_is_believed_however_old_the_last_heartbeat_is(host):
    assert host.passes(DAY_MS) == host.true
    host.wrong = DAY_MS
    assert host.passes(10) == host.true


def test_a_heartbeat_that_was_long_under_way_tells_only_so_much(host):
    """It was appended at some time since it was sent: what could be right is."""
    host.heartbeat(latency_ms=9_000)
    host.wrong = 9_000
    assert host.host.error_ms == 0
    host.wrong = 9_500
    assert host.host.error_ms == 500
    host.wrong = -1
    assert host.host.error_ms == -1


def test_a_pause_of_the_whole_process_is_no_jump(host):
    assert host.passes(DAY_MS) == host.true


@pytest.mark.parametrize("jump", [20_000, -20_000])
def test_an_owner_that_begins_just_after_a_jump_decides_by_the_brokers_clock(host, jump):
    """Its instance was nominated while the clock was right."""
    host.wrong = jump
    host.clock = OwnerClock(host.host)
    assert host.passes(10) == host.true
    host.wrong = 7
    assert host.passes(10) == host.true + 7


def test_a_jump_in_the_middle_of_a_look_at_the_clock_is_passed_over(host: Host, monkeypatch) -> None:
    looks: list[int] = []

    def wall_ms() -> int:
        looks.append(len(looks))
        return host.true + (DAY_MS if len(looks) > 1 else 0)

    monkeypatch.setattr(owner_clock, "wall_ms", wall_ms)
    assert host.passes(10) == host.true
    assert host.passes(10) == host.true
