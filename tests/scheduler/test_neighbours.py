"""What an instance takes of those that have died, and when it knows that it is alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ftjm import config
from ftjm.scheduler import neighbours as module
from ftjm.scheduler.neighbours import Neighbours
from ftjm.scheduler.peers import SILENT_SECONDS
from ftjm.scheduler.runner import Role
from tests.scheduler.test_peers import told


class Runner:
    """As far as neighbours use one."""

    role, followed, orphaned, led = Role.STANDBY, True, -1, -1

    def __init__(self) -> None:
        self.last = ("b@host:1", 1)
        self.inherited: list[int] = []

    def inherit(self, epoch: int) -> None:
        self.inherited.append(epoch)


@pytest.fixture
def runner() -> Runner:
    return Runner()


@pytest.fixture
def neighbours(runner: Runner) -> Iterator[Neighbours]:
    runners: Any = {0: runner}
    made = Neighbours(config.load(), "a@host:1", runners)
    made.hear(told("a", "s"), 0)
    yield made
    made.close()


def test_what_falls_to_an_heir_may_be_known_only_after_the_death(neighbours: Neighbours, runner: Runner) -> None:
    """Its own heartbeat as a standby comes later than the end of the lifeline."""
    neighbours.hear(told("a", "c"), 0)
    neighbours.hear(told("b", "o", lifeline="127.0.0.1:1"), 0)
    neighbours._died("b@host:1")
    assert runner.inherited == []
    neighbours.hear(told("a", "s"), 0)
    neighbours.place()
    assert runner.inherited == [1]


def test_one_that_was_wrongly_taken_for_dead_is_fenced_once(neighbours: Neighbours, runner: Runner) -> None:
    neighbours.hear(told("b", "o", lifeline="127.0.0.1:1"), 0)
    neighbours._died("b@host:1")
    for epoch in (3, 5):
        # It lives, and has taken its partition back from us.
        runner.led = epoch - 1
        runner.last = ("b@host:1", epoch)
        neighbours.place()
    assert runner.inherited == [1]


def test_what_the_dead_one_wrote_last_may_be_folded_after_its_death(neighbours: Neighbours, runner: Runner) -> None:
    """It had taken over from us: of its own epoch we hear when it is dead already."""
    runner.led, runner.last = 1, ("a@host:1", 1)
    neighbours.hear(told("b", "t", lifeline="127.0.0.1:1"), 0)
    neighbours._died("b@host:1")
    assert runner.inherited == [1]
    runner.last = ("b@host:1", 2)
    neighbours.place()
    neighbours.place()
    assert runner.inherited == [1, 2]


def test_an_orphan_is_taken_back_once(neighbours: Neighbours, runner: Runner) -> None:
    runner.last, runner.orphaned = ("a@host:1", 4), 4
    neighbours.place()
    assert runner.inherited == [], "nobody has died"
    neighbours.hear(told("b", "s", lifeline="127.0.0.1:1"), 0)
    neighbours._died("b@host:1")
    neighbours.place()
    assert runner.inherited == [4]


def test_who_is_alone_knows_it_by_looking_twice(neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    # The first look took as long as an election: what was said meanwhile has not been heard yet.
    neighbours.confirm(now - 10)
    neighbours.confirm(now + 0.1)
    assert not neighbours.alone
    neighbours.confirm(now + SILENT_SECONDS)
    assert neighbours.alone
    neighbours.hear(told("b", "s"), 0)
    neighbours.confirm(now + 2 * SILENT_SECONDS)
    assert not neighbours.alone
