"""An upgrade is finalised by the owner, in its log, so that whoever folds the log knows it."""

from __future__ import annotations

import msgspec
import pytest

from ftjm.core.decide import upgrades
from ftjm.core.decide.decision import Members
from ftjm.core.records import events as e
from ftjm.core.records.levels import FIRST_LEVEL, LEVEL
from ftjm.core.state.model import STATE_VERSION, Finalized
from ftjm.engine.partition import Partition
from tests.engine.world import World

FINAL = Finalized(LEVEL, STATE_VERSION)


def request(partition: Partition, members: Members) -> None:
    partition.policy = msgspec.structs.replace(partition.policy, finalize="ada", members=members)


@pytest.fixture
def old_log() -> World:
    """A log that an owner of the first level began."""
    world = World()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(upgrades, "LEVEL", FIRST_LEVEL)
        world.work()
    return world


def test_a_request_is_recorded_once_and_a_follower_knows_it(old_log):
    world = old_log
    world.submit("a")
    world.work()
    request(world.owner, Members(LEVEL, STATE_VERSION))
    for _ in range(2):
        world.work()
    [event] = [event for event in world.events() if isinstance(event, e.UpgradeFinalized)]
    assert (event.cause, event.actor) == (e.Cause.UPGRADE, "ada")
    assert world.owner.state.finalized == FINAL
    assert world.catch_up(world.partition()).state.finalized == FINAL
    world.check()


def test_the_next_owner_knows_it(old_log):
    world = old_log
    request(world.owner, Members(LEVEL, STATE_VERSION))
    world.work()
    world.owner = world.partition()
    world.lead()
    assert world.owner.state.finalized == FINAL


def test_a_request_is_not_recorded_while_an_older_member_is_heard(old_log):
    world = old_log
    request(world.owner, Members(LEVEL - 1, STATE_VERSION, "worker w"))
    world.work()
    assert not any(isinstance(event, e.UpgradeFinalized) for event in world.events())


def test_a_new_log_begins_at_the_level_of_its_first_owner():
    world = World()
    world.work()
    assert isinstance(world.events()[0], e.UpgradeFinalized)
    assert world.owner.state.finalized == FINAL
