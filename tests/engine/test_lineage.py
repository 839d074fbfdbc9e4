"""Whether a store is a child of the log: asked whenever one is opened."""

from __future__ import annotations

import msgspec
import pytest

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryLog, MemoryStore
from ftjm.core.records import commands as c
from ftjm.core.state.model import Position
from ftjm.core.state.row_cache import encode
from ftjm.core.state.tables import POSITION_KEY
from ftjm.engine.lineage import lineage
from ftjm.engine.ports import Store
from tests.core.consistency import all_rows
from tests.engine.world import QUEUE, World


@pytest.fixture
def world() -> World:
    world = World()
    for name in "abc":
        world.submit(name)
        world.work()
    return world


def verdict(world: World, store: Store, log: MemoryLog | None = None) -> str | None:
    log = log or world.log
    offset = world.owner.position.applied_offset
    return lineage(store, log.log_id, log.events(0, offset), codec)


def test_a_store_that_the_log_made_is_its_child(world):
    assert verdict(world, world.owner.store) is None


def test_an_empty_store_is_everybodys_child(world):
    assert verdict(world, MemoryStore()) is None
    assert lineage(MemoryStore(), "any", iter(()), codec) is None


def test_a_store_behind_the_log_is_its_child(world):
    offset = world.owner.position.applied_offset
    behind = MemoryStore()
    behind.write(sorted(all_rows(world.owner.store).items()))
    world.submit("d")
    world.work()
    assert lineage(behind, world.log.log_id, world.log.events(0, offset), codec) is None


def test_a_store_ahead_of_a_log_that_lost_its_end_is_not(world):
    world.log.truncate(0, world.owner.position.applied_offset)
    assert "ahead of the log" in str(verdict(world, world.owner.store))


def test_a_store_ahead_of_a_log_that_was_written_anew_is_not(world):
    """After the loss another owner decided otherwise, and its log is as long, batch by batch."""
    store, offset = world.owner.store, world.owner.position.applied_offset
    world.log.truncate(0, 3)
    successor = World(log=world.log)
    for _ in range(2):
        successor.owner.work(successor.now, [])
        successor.now += 5
        successor.log.send(0, codec.encode(c.CancelJob(queue=QUEUE, job_id="a")))
        successor.owner.work(successor.now, successor.waiting[-1:])
    assert successor.owner.position.applied_offset >= offset
    why = lineage(store, world.log.log_id, world.log.events(0, offset), codec)
    assert why is not None
    assert "ahead of the log" in why or "another record" in why


def test_a_batch_with_another_hash_at_the_same_place_is_another(world):
    position = msgspec.structs.replace(world.owner.position, state_hash=b"x" * 16)
    world.owner.store.write([(POSITION_KEY, encode(position))])
    assert "another record" in str(verdict(world, world.owner.store))


def test_an_event_that_closes_no_batch_is_another(world):
    position = msgspec.structs.replace(world.owner.position, applied_offset=0)
    world.owner.store.write([(POSITION_KEY, encode(position))])
    assert "another record" in str(lineage(world.owner.store, world.log.log_id, world.log.events(0, 0), codec))


@pytest.mark.usefixtures("first_level")
def test_a_gap_where_the_batch_should_be_is_no_record_of_it(world):
    """A transaction's marker takes an offset, and the next record that is read lies behind it."""
    position = msgspec.structs.replace(world.owner.position, applied_offset=2)
    world.owner.store.write([(POSITION_KEY, encode(position))])
    assert next(world.log.events(0, 2)).offset == 3
    assert "ahead" in str(lineage(world.owner.store, world.log.log_id, world.log.events(0, 2), codec))


def test_a_store_of_another_log_is_not_a_child(world):
    assert "another log" in str(verdict(world, world.owner.store, MemoryLog(4)))


def test_rows_of_another_version_are_not_read(world):
    position: Position = msgspec.structs.replace(world.owner.position, state_version=99)
    world.owner.store.write([(POSITION_KEY, encode(position))])
    assert "of version 99" in str(verdict(world, world.owner.store))
