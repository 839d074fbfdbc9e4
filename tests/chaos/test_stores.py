"""Stores at the end of a run: whether they are where they have to be, and which damage is excused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from ftjm.chaos.breaking import Breaker
from ftjm.chaos.cluster import Cluster
from ftjm.chaos.damage import made_anew
from ftjm.chaos.members import Member
from ftjm.chaos.plan import Fault, Kind, Role
from ftjm.chaos.stores import Told, misplaced
from ftjm.chaos.watching import Last
from ftjm.core.messages import PartitionReport, SchedulerHeartbeat

LAST = {0: Last(70, "a"), 1: Last(80, "b")}


def heartbeat(instance: str, *partitions: tuple[int, str, int]) -> SchedulerHeartbeat:
    reports = [
        PartitionReport(
            partition=number, role=role, owner_epoch=1, applied_offset=at, next_command=0, demand=[], taken=[]
        )
        for number, role, at in partitions
    ]
    return SchedulerHeartbeat(instance=f"{instance}@h:1", host="h", pid=1, port=0, partitions=reports)


def test_each_partition_has_an_owner_and_a_standby_that_hold_all_of_it():
    told = Told()
    told.hear(heartbeat("a", (0, "owner", 70), (1, "standby", 79)))
    told.hear(heartbeat("b", (0, "opening", 70), (1, "owner", 80)))
    assert told.missing(LAST) == ["a standby of partition 0 at offset 70", "a standby of partition 1 at offset 80"]
    told.hear(heartbeat("a", (0, "owner", 70), (1, "standby", 80)))
    told.hear(heartbeat("b", (0, "standby", 70), (1, "owner", 80)))
    assert told.missing(LAST) == []
    assert told.reached == {("a", 0): 70, ("a", 1): 80, ("b", 0): 70, ("b", 1): 80}
    told.hear(heartbeat("b", (0, "cold", -1), (1, "standby", 80)))
    assert told.missing(LAST) == ["a standby of partition 0 at offset 70", "an owner of partition 1 at offset 80"]


@pytest.mark.parametrize("applied", [-1, 12, 71])
def test_an_owners_store_is_at_the_end_of_the_log(applied):
    assert list(misplaced(70, "a", LAST[0], -1)) == []
    [text] = misplaced(applied, "a", LAST[0], -1)
    assert text == f"is its owner's: expected it at 70, the log's last batch, but found it at {applied}"


@pytest.mark.parametrize("applied", [-1, 65])
def test_a_standbys_store_is_where_it_said_it_was(applied):
    assert list(misplaced(66, "b", LAST[0], 66)) == []
    assert list(misplaced(70, "b", LAST[0], 66)) == []
    [text] = misplaced(applied, "b", LAST[0], 66)
    assert text == f"was followed: expected it at 66 or behind, but found it at {applied}"
    assert list(misplaced(applied, "b", LAST[0], -1)) == [], "nobody followed with it"


class Crew:
    """One scheduler, with a store of partition 2, that runs some code instead of ours."""

    def __init__(self, folder: Path, *files: str, code: str = "pass") -> None:
        self.snapshots = folder / "none"
        self.store = folder / "partition-2"
        self.store.mkdir()
        for name in files:
            (self.store / name).write_bytes(b"rows" * 100)
        self.member = Member("scheduler-0", ["-c", code], {}, folder, [])
        self.members = {Role.SCHEDULER: [self.member]}

    def wish_snapshots(self) -> None:
        """Nobody would hear of it."""

    def stores(self, _scheduler: int) -> list[Path]:
        return [self.store] if self.store.is_dir() else []


def breaker(crew: Crew, *kinds: Kind, wait: bool = True) -> Breaker:
    plan = [Fault(number, 0.0, kind, 0, 0.0, 3) for number, kind in enumerate(kinds)]
    found = Breaker(cast("Cluster", crew), plan)
    for fault in plan:
        found._happen(fault)
    if wait and crew.member.process:
        crew.member.process.wait()
    return found


def test_damage_is_excused_until_the_store_is_made_anew(tmp_path):
    crew = Crew(tmp_path, "000001.sst")
    found = breaker(crew, Kind.CORRUPT_STORE)
    assert found.left_damaged("scheduler-0", 2)
    assert not found.left_damaged("scheduler-0", 1)
    log = tmp_path / f"scheduler-0-{crew.member.lives}.log"
    lines: list[Any] = [{"event": "store_restored", "partition": 1}, ["no line of ours"]]
    log.write_text("no JSON\n" + "".join(json.dumps(line) + "\n" for line in lines))
    assert found.left_damaged("scheduler-0", 2)
    log.write_text(json.dumps({"event": "store_restored", "partition": 2}))
    assert not found.left_damaged("scheduler-0", 2)


def test_damage_that_was_not_done_excuses_nothing(tmp_path):
    assert not breaker(Crew(tmp_path), Kind.CORRUPT_STORE).left_damaged("scheduler-0", 2)


def test_damage_to_what_is_gone_excuses_nothing(tmp_path):
    crew = Crew(tmp_path, "000001.sst")
    assert not breaker(crew, Kind.CORRUPT_STORE, Kind.WIPE_STORE).left_damaged("scheduler-0", 2)


def test_who_finds_the_damage_makes_the_store_anew():
    damaged = [{"exc_type": "DamagedStore"}]
    assert made_anew({"event": "partition_stopped", "partition": 2, "exception": damaged}, 2)
    full = [{"exc_type": "StoreFailed"}]
    assert not made_anew({"event": "partition_stopped", "partition": 2, "exception": full}, 2)
