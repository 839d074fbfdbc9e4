"""Which partitions an instance takes over from dead owners, and when it knows that it is alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ftjm.runtime import config
from ftjm.scheduler import standby_placement as module
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.peers import SILENT_SECONDS
from ftjm.scheduler.standby_placement import StandbyPlacement
from tests.scheduler.test_peers import heartbeat


class Runner:
    """The part of a runner that the placement uses."""

    role, followed, orphaned_epoch, led_epoch = Role.STANDBY, True, -1, -1

    def __init__(self) -> None:
        self.newest_owner = ("b@host:1", 1)
        self.inherited: list[int] = []

    @property
    def ownership(self) -> Runner:
        return self

    def take_over_from(self, epoch: int) -> None:
        self.inherited.append(epoch)


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
def placement(runner: Runner) -> Iterator[StandbyPlacement]:
    runners: Any = {0: runner}
    made = StandbyPlacement(config.load(), "a@host:1", runners)
    made.receive(heartbeat("a", "s"), 0)
    yield made
    made.close()


def test_an_heir_may_learn_only_after_the_death_that_a_partition_falls_to_it(
    placement: StandbyPlacement, runner: Runner
) -> None:
    """Its own heartbeat as a standby comes later than the end of the lifeline."""
    placement.receive(heartbeat("a", "c"), 0)
    placement.receive(heartbeat("b", "o", lifeline="127.0.0.1:1"), 0)
    placement._died("b@host:1")
    assert runner.inherited == []
    placement.receive(heartbeat("a", "s"), 0)
    placement.place()
    assert runner.inherited == [1]


def test_an_instance_that_was_wrongly_taken_for_dead_is_fenced_once(
    placement: StandbyPlacement, runner: Runner
) -> None:
    placement.receive(heartbeat("b", "o", lifeline="127.0.0.1:1"), 0)
    placement._died("b@host:1")
    for epoch in (3, 5):
        # It lives, and has taken its partition back from this instance.
        runner.led_epoch = epoch - 1
        runner.newest_owner = ("b@host:1", epoch)
        placement.place()
    assert runner.inherited == [1]


def test_the_last_batch_of_a_dead_owner_may_be_folded_after_its_death(
    placement: StandbyPlacement, runner: Runner
) -> None:
    """It had taken over from this instance, which learns its epoch only after its death."""
    runner.led_epoch, runner.newest_owner = 1, ("a@host:1", 1)
    placement.receive(heartbeat("b", "t", lifeline="127.0.0.1:1"), 0)
    placement._died("b@host:1")
    assert runner.inherited == [1]
    runner.newest_owner = ("b@host:1", 2)
    placement.place()
    placement.place()
    assert runner.inherited == [1, 2]


def test_an_orphan_is_taken_back_once(placement: StandbyPlacement, runner: Runner) -> None:
    runner.newest_owner, runner.orphaned_epoch = ("a@host:1", 4), 4
    placement.place()
    assert runner.inherited == [], "nobody has died"
    placement.receive(heartbeat("b", "s", lifeline="127.0.0.1:1"), 0)
    placement._died("b@host:1")
    placement.place()
    assert runner.inherited == [4]


def test_an_instance_is_alone_only_if_it_finds_itself_alone_twice(
    placement: StandbyPlacement, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    # The first check took as long as an election: heartbeats that were sent meanwhile are not received yet.
    placement.confirm(now - 10)
    placement.confirm(now + 0.1)
    assert not placement.alone
    placement.confirm(now + SILENT_SECONDS)
    assert placement.alone
    placement.receive(heartbeat("b", "s"), 0)
    placement.confirm(now + 2 * SILENT_SECONDS)
    assert not placement.alone
