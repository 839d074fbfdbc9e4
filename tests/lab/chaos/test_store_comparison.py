"""Stores at the end of a run must have reached the right offset; damage that the run did is excused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from ftjm.core.records.messages import PartitionReport, SchedulerHeartbeat
from ftjm.lab.chaos.cluster import ChaosCluster
from ftjm.lab.chaos.corruption import reports_new_store
from ftjm.lab.chaos.faults import FaultInjector
from ftjm.lab.chaos.log_watch import LastBatch
from ftjm.lab.chaos.members import Member
from ftjm.lab.chaos.plan import FaultKind, PlannedFault, TargetRole
from ftjm.lab.chaos.store_comparison import StorePositions, position_problems

LAST = {0: LastBatch(70, "a"), 1: LastBatch(80, "b")}


def heartbeat(instance: str, *partitions: tuple[int, str, int]) -> SchedulerHeartbeat:
    reports = [
        PartitionReport(
            partition=number, role=role, owner_epoch=1, applied_offset=at, next_command=0, demand=[], taken=[]
        )
        for number, role, at in partitions
    ]
    return SchedulerHeartbeat(instance=f"{instance}@h:1", host="h", pid=1, port=0, partitions=reports)


def test_each_partition_needs_an_owner_and_a_standby_that_have_applied_all():
    positions = StorePositions()
    positions.add(heartbeat("a", (0, "owner", 70), (1, "standby", 79)))
    positions.add(heartbeat("b", (0, "opening", 70), (1, "owner", 80)))
    assert positions.missing(LAST) == ["a standby of partition 0 at offset 70", "a standby of partition 1 at offset 80"]
    positions.add(heartbeat("a", (0, "owner", 70), (1, "standby", 80)))
    positions.add(heartbeat("b", (0, "standby", 70), (1, "owner", 80)))
    assert positions.missing(LAST) == []
    assert positions.reached == {("a", 0): 70, ("a", 1): 80, ("b", 0): 70, ("b", 1): 80}
    positions.add(heartbeat("b", (0, "cold", -1), (1, "standby", 80)))
    assert positions.missing(LAST) == ["a standby of partition 0 at offset 70", "an owner of partition 1 at offset 80"]


@pytest.mark.parametrize("applied", [-1, 12, 71])
def test_an_owners_store_must_be_at_the_end_of_the_log(applied):
    assert list(position_problems(70, "a", LAST[0], -1)) == []
    [text] = position_problems(applied, "a", LAST[0], -1)
    assert text == f"is its owner's: expected it at 70, the log's last batch, but found it at {applied}"


@pytest.mark.parametrize("applied", [-1, 65])
def test_a_standbys_store_must_have_reached_the_reported_offset(applied):
    assert list(position_problems(66, "b", LAST[0], 66)) == []
    assert list(position_problems(70, "b", LAST[0], 66)) == []
    [text] = position_problems(applied, "b", LAST[0], 66)
    assert text == f"was followed: expected it at 66 or behind, but found it at {applied}"
    assert list(position_problems(applied, "b", LAST[0], -1)) == [], "its scheduler was neither owner nor standby"


class FakeCluster:
    """A cluster of one scheduler with a store of partition 2. The scheduler runs `code` instead of ftjm."""

    def __init__(self, folder: Path, *files: str, code: str = "pass") -> None:
        self.snapshots = folder / "none"
        self.store = folder / "partition-2"
        self.store.mkdir()
        for name in files:
            (self.store / name).write_bytes(b"rows" * 100)
        self.member = Member("scheduler-0", ["-c", code], {}, folder, [])
        self.members = {TargetRole.SCHEDULER: [self.member]}

    def request_snapshots(self) -> None:
        """Do nothing: no owner would get the request."""

    def stores(self, _scheduler: int) -> list[Path]:
        return [self.store] if self.store.is_dir() else []


def injector(cluster: FakeCluster, *kinds: FaultKind, wait: bool = True) -> FaultInjector:
    plan = [PlannedFault(number, 0.0, kind, 0, 0.0, 3) for number, kind in enumerate(kinds)]
    found = FaultInjector(cast("ChaosCluster", cluster), plan)
    for fault in plan:
        found._inject(fault)
    if wait and cluster.member.process:
        cluster.member.process.wait()
    return found


def test_damage_is_excused_until_the_store_is_replaced(tmp_path):
    cluster = FakeCluster(tmp_path, "000001.sst")
    found = injector(cluster, FaultKind.CORRUPT_STORE)
    assert found.has_damaged_store("scheduler-0", 2)
    assert not found.has_damaged_store("scheduler-0", 1)
    log = tmp_path / f"scheduler-0-{cluster.member.start_count}.log"
    lines: list[Any] = [{"event": "store_restored", "partition": 1}, ["not a line of ftjm"]]
    log.write_text("no JSON\n" + "".join(json.dumps(line) + "\n" for line in lines))
    assert found.has_damaged_store("scheduler-0", 2)
    log.write_text(json.dumps({"event": "store_restored", "partition": 2}))
    assert not found.has_damaged_store("scheduler-0", 2)


def test_damage_that_was_not_done_excuses_nothing(tmp_path):
    assert not injector(FakeCluster(tmp_path), FaultKind.CORRUPT_STORE).has_damaged_store("scheduler-0", 2)


def test_damage_to_a_store_that_was_removed_excuses_nothing(tmp_path):
    cluster = FakeCluster(tmp_path, "000001.sst")
    assert not injector(cluster, FaultKind.CORRUPT_STORE, FaultKind.WIPE_STORE).has_damaged_store("scheduler-0", 2)


def test_a_scheduler_that_finds_damage_replaces_the_store():
    damaged = [{"exc_type": "DamagedStore"}]
    assert reports_new_store({"event": "partition_stopped", "partition": 2, "exception": damaged}, 2)
    full = [{"exc_type": "StoreFailed"}]
    assert not reports_new_store({"event": "partition_stopped", "partition": 2, "exception": full}, 2)
