"""A cluster of two builds, forward and back: this build is the older one, `integration/newer.py` the newer one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftjm.adapters.rocksdb import RocksStore
from ftjm.client.command_client import Client
from ftjm.core.records.commands import SubmitJob
from ftjm.core.records.levels import LEVEL
from ftjm.core.state.model import STATE_VERSION, Finalized, JobSpec
from ftjm.core.state.tables import load_finalized, load_position
from ftjm.local.kafka import EmbeddedKafka
from ftjm.ops import snapshots
from integration.apis import start_api
from integration.clusters import cluster_on
from integration.drills import Ground
from integration.harness import Process, queue_on
from integration.waiting import until

pytestmark = pytest.mark.timeout(1_200)

OLD, NEW = "ftjm", "integration.newer"
PARTITIONS = 2
QUEUES = [queue_on(p, PARTITIONS) for p in range(PARTITIONS)]
HELD = f"{QUEUES[0]}/held"
NEWER_ROWS = STATE_VERSION + 1


@pytest.fixture
def ground(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[Ground]:
    settings = cluster_on(kafka, tmp_path / "data", partitions=PARTITIONS)
    with Ground(settings, tmp_path) as found:
        yield found


def run(ground: Ground, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of one of the two builds."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **ground.settings.environment()}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def status(ground: Ground) -> dict[str, Any]:
    done = run(ground, NEW, "upgrade", "status", "-o", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cancel_with_note(ground: Ground) -> dict[str, Any]:
    """Use the feature of the newer build. Return the owner's reply."""
    reply: dict[str, Any] = json.loads(run(ground, NEW, "note", HELD, "because").stdout)
    return reply


def heard_reply(ground: Ground) -> dict[str, Any] | None:
    """The reply of an owner that knows which members there are; None while it has just begun."""
    reply = cancel_with_note(ground)
    return None if "no member that has announced its version yet" in reply["text"] else reply


def finalize_reply(ground: Ground) -> dict[str, Any] | None:
    """The reply of an owner that says what to do; None while it still knows of an older member."""
    reply = cancel_with_note(ground)
    return reply if "run `ftjm upgrade finalize` first" in reply["text"] else None


def submit_held(ground: Ground) -> None:
    queue, job_id = HELD.split("/")
    with Client(ground.settings, listen=False) as client:
        client.send(SubmitJob(queue=queue, job_id=job_id, spec=JobSpec(command=["true"], held=True)))
        client.confirm()


def change(process: Process, module: str) -> None:
    """Stop a process in order, and start it as another build."""
    assert process.stop() == 0
    ready = "session_opened" if "worker" in process.command else "scheduler_started"
    before = len(process.log_lines(ready))
    process.command[2] = module
    process.start()
    until(lambda: len(process.log_lines(ready)) > before, f"{process.name} to be ready as {module}")


def versions(ground: Ground) -> list[set[int]]:
    """The versions of rows in the snapshots of each partition."""
    return [{one["state_version"] for one in row["snapshots"]} for row in status(ground)["partitions"]]


def kept_batches(ground: Ground) -> set[int]:
    """The batches of the snapshots that are kept for the older build."""
    kept = [one for row in status(ground)["partitions"] for one in row["kept_for_older_build"]]
    assert {one["state_version"] for one in kept} == {STATE_VERSION}
    return {one["batch"] for one in kept}


def final_owners(ground: Ground) -> set[str]:
    """The schedulers that own a partition whose upgrade is final, by a build that can read the log.

    While a partition moves, no owner of it is known, and its row has neither a level nor an owner.
    """
    rows = status(ground)["partitions"]
    return {str(row["owner"]).partition("@")[0] for row in rows if row.get("final_level", 0) > LEVEL}


def verified(ground: Ground, module: str) -> None:
    done = run(ground, module, "replay", "--verify", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cluster_goes_forward_and_back_and_forward_for_good(ground: Ground) -> None:
    schedulers = [ground.scheduler("a"), ground.scheduler("b")]
    workers = [ground.worker("w", queues=QUEUES), ground.worker("x", queues=QUEUES)]
    ground.until_owners("a", "b")
    with ground.load(10.0, QUEUES, ground.spec(0.05)) as load:
        load.until(20)
        snapshots.create(ground.settings, range(PARTITIONS), full=False, actor="test", within_seconds=60)
        load.until(20)
        go_forward(ground, schedulers, workers)
        load.until(20)
        # The snapshot that the older build can restore is kept, however many snapshots of the newer build follow.
        for _ in range(2):
            assert run(ground, NEW, "snapshot", "create").returncode == 0
            load.until(20)
        assert versions(ground) == [{STATE_VERSION, NEWER_ROWS}] * PARTITIONS
        go_back(schedulers, workers, kept_batches(ground))
        ground.until_owners("a", "b")
        load.until(20)
    ground.jobs += load.acknowledged
    ground.check(answered_by_newer_build=True)
    for process in (*schedulers, *workers):
        assert process.error_lines() == []
    verified(ground, OLD)
    finalize(ground, schedulers, workers)
    the_older_build_is_refused(ground, schedulers[1])
    change_without_stop(schedulers[1], NEW)
    until(lambda: final_owners(ground) == {"a", "b"}, "both schedulers to own partitions, and to know that it is final")


def go_forward(ground: Ground, schedulers: list[Process], workers: list[Process]) -> None:
    """Upgrade one process after the other. The features of the newer build are refused all the while."""
    a, b = schedulers
    assert cancel_with_note(ground)["code"] == "UNKNOWN_FINGERPRINT"
    change(a, NEW)
    assert cancel_with_note(ground)["code"] in {"UNKNOWN_FINGERPRINT", "NOT_YET_SUPPORTED"}
    assert any("scheduler b@" in obstacle for obstacle in status(ground)["obstacles"])
    change(b, NEW)
    reply = until(lambda: heard_reply(ground), "the owner to have heard of the members")
    assert (reply["accepted"], reply["code"]) == (False, "NOT_YET_SUPPORTED")
    assert "worker" in reply["text"]
    for worker in workers:
        change(worker, NEW)
    ground.until_owners("a", "b")
    until(lambda: status(ground)["obstacles"] == [], "all members to be of the newer build, with snapshots")
    reply = until(lambda: finalize_reply(ground), "the owner to see nothing else in the way")
    assert reply["code"] == "NOT_YET_SUPPORTED"
    assert {(m["release"], m["level"]) for m in status(ground)["members"]} == {("0.0.2", LEVEL + 1)}
    assert [process.log_lines("store_discarded") for process in schedulers] == [[], []], "rows are migrated"


def go_back(schedulers: list[Process], workers: list[Process], batches: set[int]) -> None:
    """Go back. Stores of the newer version are restored from the kept snapshots and the log after them."""
    for process in (*workers, *schedulers):
        change(process, OLD)
    for process in schedulers:
        until(lambda each=process: len(restored(each)) == PARTITIONS, f"the stores of {process.name}")  # type: ignore[misc]
    # The first scheduler had only these snapshots to read; the second may use those that the first has taken since.
    assert set(restored(schedulers[0]).values()) == batches


def restored(scheduler: Process) -> dict[int, int]:
    """The batch of the snapshot that each partition's store was first restored from."""
    return {line["partition"]: line["batch"] for line in reversed(scheduler.log_lines("store_restored"))}


def finalize(ground: Ground, schedulers: list[Process], workers: list[Process]) -> None:
    """Finalise. It is refused while an older member is present; then new features work and no old snapshot is kept."""
    for process in (*schedulers, workers[0]):
        change(process, NEW)
    ground.until_owners("a", "b")
    api = start_api(ground)
    until(lambda: "api" in {member["role"] for member in status(ground)["members"]}, "the API to announce its build")
    refused = run(ground, NEW, "upgrade", "finalize", "--yes")
    assert refused.returncode == 1
    assert "worker x@" in refused.stderr
    assert "api api@" in refused.stderr
    assert api.stop() == 0
    asked = run(ground, NEW, "upgrade", "finalize")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    change(workers[1], NEW)
    until(lambda: status(ground)["obstacles"] == [], "nothing to be in the way")
    done = run(ground, NEW, "upgrade", "finalize", "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["final"] is True
    assert run(ground, NEW, "snapshot", "create").returncode == 0
    until(lambda: versions(ground) == [{NEWER_ROWS}] * PARTITIONS, "the older snapshots to go")
    submit_held(ground)
    assert cancel_with_note(ground)["accepted"] is True


def the_older_build_is_refused(ground: Ground, scheduler: Process) -> None:
    """Check that the older build says why it stops, ends, and destroys nothing."""
    assert scheduler.stop() == 0
    scheduler.command[2] = OLD
    scheduler.start()
    assert scheduler.popen.wait(60) == 1
    (stopped, *_) = scheduler.log_lines("partition_stopped")
    assert f"its upgrade to level {LEVEL + 1} and rows of version {NEWER_ROWS} was finalised" in stopped["error"]
    assert "start a build that knows these" in stopped["todo"]
    for partition in range(PARTITIONS):
        store = RocksStore(ground.store(scheduler.name, partition), read_only=True)
        assert load_finalized(store) == Finalized(LEVEL + 1, NEWER_ROWS)
        assert load_position(store).state_version == NEWER_ROWS
        store.close()


def change_without_stop(process: Process, module: str) -> None:
    """Start a process that has ended as another build."""
    before = len(process.log_lines("scheduler_started"))
    process.command[2] = module
    process.start()
    until(lambda: len(process.log_lines("scheduler_started")) > before, f"{process.name} to be ready as {module}")
