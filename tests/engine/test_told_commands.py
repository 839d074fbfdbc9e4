"""What partitions tell each other: nobody else can say it, and it goes through the outbox under consecutive numbers."""

from __future__ import annotations

from typing import Any

import pytest

from ftjm.adapters.avro import codec
from ftjm.core.decide.resources import home_of
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec
from tests.engine.test_outbox import shipped
from tests.engine.world import World

W: dict[str, Any] = {"kind": ResourceKind.CORDON, "name": "w"}
CORDON = ResourceSpec(cordon=[CordonSpec("broken fan")])


def told(world: World) -> list[c.ToldCommand]:
    return [
        c.AdoptResource(**W, revision=7, spec=CORDON, home=home_of(world.policy)),
        c.ReconcileResources(names=[], home=home_of(world.policy)),
        c.ConfirmAdoption(**W, revision=1, partition=1),
        c.AskResources(partition=1),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_client_cannot_send_what_only_partitions_tell(number):
    world = World()
    offset = world.send(told(world)[number], reply_to="0/client/1")
    world.work_all()
    (refused,) = world.of(offset)
    assert isinstance(refused, e.CommandRejected)
    assert (refused.code, refused.kind) == ("NOT_ALLOWED", type(told(world)[number]).__name__)
    world.check()


def test_what_a_partition_tells_is_taken_and_confirmed_to_the_home():
    world = World()
    home = home_of(world.policy)
    adopt = c.AdoptResource(**W, revision=7, spec=CORDON, home=home, actor="ada")
    world.log.send(0, codec.encode(adopt), source=home, number=1)
    world.work_all()
    known = world.owner.state.cordons()["w"]
    assert (known.revision, known.actor, known.spec) == (7, "ada", CORDON)
    wire, _ = shipped(world)
    ((parcel, _),) = wire.sent
    assert (parcel.topic, parcel.partition, parcel.source, parcel.number) == ("commands", home, 0, 1)
    assert codec.decode(parcel.value) == c.ConfirmAdoption(**W, revision=7, partition=0)
    world.check()


def test_a_gap_in_the_numbers_and_a_number_that_comes_twice_lead_to_a_question():
    for first, second in (((1, 0), (3, 2)), ((1, 0), (1, 0))):
        world = World()
        home = home_of(world.policy)
        for number, confirmed in (first, second):
            command = codec.encode(c.ReconcileResources(names=[], home=home))
            offset = world.log.send(0, command, source=home, number=number, confirmed=confirmed)
        world.work_all()
        assert isinstance(world.of(offset)[-1], e.ResourcesAsked)
        wire, _ = shipped(world)
        assert codec.decode(wire.sent[-1][0].value) == c.AskResources(partition=0)
        world.check()
