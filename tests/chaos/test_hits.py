"""A fault that hit nobody, or changed nothing, was not survived, and does not count."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ftjm.chaos.breaking import NOBODY, NOTHING
from ftjm.chaos.damage import damage, damage_newest
from ftjm.chaos.members import ON_FULL_DISK
from ftjm.chaos.plan import Kind
from ftjm.chaos.report import by_kind
from tests.chaos.test_stores import Crew, breaker


def running(folder: Path, *files: str) -> Crew:
    """With a scheduler that is there, if only to sleep."""
    crew = Crew(folder, *files, code="import time; time.sleep(60)")
    crew.member.start()
    return crew


@pytest.mark.parametrize("kind", [Kind.KILL_SCHEDULER, Kind.STOP_SCHEDULER])
def test_who_is_there_is_hit(tmp_path, kind):
    crew = running(tmp_path)
    pid = crew.member.process.pid if crew.member.process else 0
    try:
        [happened] = breaker(crew, kind, wait=False).happened
    finally:
        crew.member.kill()
    assert happened.problem == ""
    assert happened.pid == (pid if kind is Kind.KILL_SCHEDULER else 0)


@pytest.mark.parametrize("kind", [Kind.KILL_SCHEDULER, Kind.STOP_SCHEDULER, Kind.FILL_DISK])
def test_who_has_ended_is_not_hit(tmp_path, kind):
    crew = running(tmp_path)
    process = crew.member.process
    assert process is not None
    process.kill()
    process.wait()
    found = breaker(crew, kind)
    assert found.happened[0].problem
    assert by_kind(found.happened) == {}


@pytest.mark.parametrize("full", [False, True])
def test_who_ends_by_itself_is_told_and_started_again(tmp_path, full):
    member = running(tmp_path).member
    assert member.limit_files(full=full)
    process = member.process
    assert process is not None
    process.terminate()
    process.wait()
    member.watch()
    member.kill()
    [death] = member.deaths
    assert (ON_FULL_DISK in death) is full
    assert "scheduler-0 ended with status -15" in death
    assert member.lives == 2


def test_a_kill_of_nobody_is_told(tmp_path):
    [happened] = breaker(Crew(tmp_path), Kind.KILL_SCHEDULER).happened
    assert (happened.pid, happened.problem) == (0, NOBODY)


@pytest.mark.parametrize("kind", [Kind.CORRUPT_STORE, Kind.WIPE_STORE, Kind.CORRUPT_SNAPSHOT])
def test_where_there_is_nothing_nothing_is_damaged(tmp_path, kind):
    crew = running(tmp_path)
    if kind is not Kind.CORRUPT_STORE:
        crew.store.rmdir()
    [happened] = breaker(crew, kind, wait=False).happened
    crew.member.kill()
    assert happened.problem == NOTHING


def test_the_newest_snapshot_of_the_wiped_store_is_damaged(tmp_path):
    crew = running(tmp_path, "000001.sst")
    crew.snapshots = tmp_path / "snapshots"
    for number, name in ((2, "aa.1.90"), (2, "bb.2.7"), (2, "cc.1.100"), (2, "dd.2.7.new"), (1, "ee.9.9")):
        place = crew.snapshots / "chaos-id" / f"{number}"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"chunk")
    [happened] = breaker(crew, Kind.CORRUPT_SNAPSHOT, wait=False).happened
    crew.member.kill()
    assert happened.problem == ""
    assert "2/bb.2.7" in happened.detail
    assert "partition-2" in happened.detail
    assert not crew.store.exists()


def test_there_may_be_no_snapshot(tmp_path):
    assert damage_newest(tmp_path, 0, Random(1)) == ""


@pytest.mark.parametrize("seed", range(20))
def test_zeros_are_damaged_too(tmp_path, seed):
    file = tmp_path / "000001.sst"
    file.write_bytes(bytes(100))
    assert damage(tmp_path, Random(seed))
    assert not file.exists() or file.read_bytes() != bytes(100)
