"""A fault without an effect is recorded with its problem, and does not count as survived."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ftjm.core.state.model import Position
from ftjm.engine.snapshot import ChunkNames, Piece
from ftjm.lab.chaos.corruption import damage, damage_newest
from ftjm.lab.chaos.faults import NOT_RUNNING, NOTHING_TO_DAMAGE
from ftjm.lab.chaos.members import ON_FULL_DISK
from ftjm.lab.chaos.plan import FaultKind
from ftjm.lab.chaos.report import count_by_kind
from tests.lab.chaos.test_store_comparison import FakeCluster, injector


def running(folder: Path, *files: str) -> FakeCluster:
    """Return a fake cluster whose scheduler is a process that sleeps."""
    cluster = FakeCluster(folder, *files, code="import time; time.sleep(60)")
    cluster.member.start()
    return cluster


@pytest.mark.parametrize("kind", [FaultKind.KILL_SCHEDULER, FaultKind.STOP_SCHEDULER])
def test_a_running_process_is_hit(tmp_path, kind):
    cluster = running(tmp_path)
    pid = cluster.member.process.pid if cluster.member.process else 0
    try:
        [injected] = injector(cluster, kind, wait=False).injected
    finally:
        cluster.member.kill()
    assert injected.problem == ""
    assert injected.pid == (pid if kind is FaultKind.KILL_SCHEDULER else 0)


@pytest.mark.parametrize("kind", [FaultKind.KILL_SCHEDULER, FaultKind.STOP_SCHEDULER, FaultKind.FILL_DISK])
def test_a_process_that_has_ended_is_not_hit(tmp_path, kind):
    cluster = running(tmp_path)
    process = cluster.member.process
    assert process is not None
    process.kill()
    process.wait()
    try:
        found = injector(cluster, kind, wait=False)
    finally:
        cluster.member.kill()  # a fault that kills starts its process again
    assert found.injected[0].problem
    assert count_by_kind(found.injected) == {}


@pytest.mark.parametrize("full", [False, True])
def test_a_process_that_ends_by_itself_is_reported_and_started_again(tmp_path, full):
    member = running(tmp_path).member
    assert member.limit_files(full=full)
    process = member.process
    assert process is not None
    process.terminate()
    process.wait()
    member.restart_if_ended()
    member.kill()
    [death] = member.unexpected_ends
    assert (ON_FULL_DISK in death) is full
    assert "scheduler-0 ended with status -15" in death
    assert member.start_count == 2


def test_the_report_has_the_whole_error_by_which_a_process_ended(tmp_path):
    cluster = FakeCluster(tmp_path, code="raise SystemExit('error: expected a\\n       found b\\n       to do: c')")
    cluster.member.start()
    process = cluster.member.process
    assert process is not None
    process.wait()
    cluster.member.restart_if_ended()
    cluster.member.kill()
    assert "error: expected a | found b | to do: c" in cluster.member.unexpected_ends[0]


def test_a_kill_without_a_target_is_a_problem(tmp_path):
    [injected] = injector(FakeCluster(tmp_path), FaultKind.KILL_SCHEDULER).injected
    assert (injected.pid, injected.problem) == (0, NOT_RUNNING)


@pytest.mark.parametrize("kind", [FaultKind.CORRUPT_STORE, FaultKind.WIPE_STORE, FaultKind.CORRUPT_SNAPSHOT])
def test_damage_without_files_is_a_problem(tmp_path, kind):
    cluster = running(tmp_path)
    if kind is not FaultKind.CORRUPT_STORE:
        cluster.store.rmdir()
    [injected] = injector(cluster, kind, wait=False).injected
    cluster.member.kill()
    assert injected.problem == NOTHING_TO_DAMAGE


def chunk(digest: str, epoch: int, batch: int) -> str:
    """The name that the product gives a new chunk of a snapshot."""
    names = ChunkNames(None, Position(owner_epoch=epoch, batch_no=batch), "", taken_at=1_000)
    return names.chunk_of(Piece(digest, 5))[0].name


def test_the_newest_snapshot_of_the_wiped_store_is_damaged(tmp_path):
    cluster = running(tmp_path, "000001.sst")
    cluster.snapshots = tmp_path / "snapshots"
    files = ((2, chunk("aa", 1, 90)), (2, chunk("bb", 2, 7)), (2, chunk("cc", 1, 100)), (2, "dd.2.7.new"))
    for number, name in (*files, (1, chunk("ee", 9, 9))):
        place = cluster.snapshots / "chaos-id" / f"{number}"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"chunk")
    [injected] = injector(cluster, FaultKind.CORRUPT_SNAPSHOT, wait=False).injected
    cluster.member.kill()
    assert injected.problem == ""
    assert f"2/{chunk('bb', 2, 7)}" in injected.detail
    assert "partition-2" in injected.detail
    assert not cluster.store.exists()


def test_damage_without_a_snapshot_does_nothing(tmp_path):
    assert damage_newest(tmp_path, 0, Random(1)) == ""


@pytest.mark.parametrize("seed", range(20))
def test_damage_changes_a_file_of_zeros(tmp_path, seed):
    file = tmp_path / "000001.sst"
    file.write_bytes(bytes(100))
    assert damage(tmp_path, Random(seed))
    assert not file.exists() or file.read_bytes() != bytes(100)
