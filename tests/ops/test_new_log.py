"""The log of a partition whose state came from another cluster."""

from __future__ import annotations

from ftjm.adapters.avro import codec
from ftjm.adapters.memory import MemoryLog, MemoryStore
from ftjm.core.records.events import BatchClosed
from ftjm.core.records.messages import RunAttempt
from ftjm.engine.partition import Partition
from ftjm.ops.new_log import begin_log
from tests.engine.test_outbox import ship
from tests.engine.world import PARTITIONS, World, offer


def moved(old: World, log: MemoryLog) -> Partition:
    """The partition of the new cluster, with the rows of the old one."""
    return Partition(old.policy, old.owner.store, codec, log.log_id)


def test_a_new_log_begins_with_two_empty_batches_and_keeps_the_outbox() -> None:
    store = MemoryStore()
    old = World(lambda: store)
    old.submit("a")
    old.work(offers=[offer()])
    log = MemoryLog(PARTITIONS)
    partition = moved(old, log)
    second = begin_log(partition, log.fence(0))
    records = list(log.events(0, 0))
    assert [type(codec.decode(record.value)) for record in records] == [BatchClosed, BatchClosed]
    assert second == records[1].offset == partition.position.applied_offset
    assert partition.position.next_command == 0
    new = World(lambda: store, log)
    assert [type(message) for message in ship(new).messages()] == [RunAttempt]


def test_a_new_log_begins_at_the_time_of_the_old_one() -> None:
    """A timer that is due since then is for the first scheduler of the new cluster."""
    store = MemoryStore()
    old = World(lambda: store)
    old.submit("a", delay_ms=1)
    old.work_all()
    log = MemoryLog(PARTITIONS)
    begin_log(moved(old, log), log.fence(0))
    assert {codec.decode(record.value).now for record in log.events(0, 0)} == {old.now}
