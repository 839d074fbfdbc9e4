"""The upgrade from the build before declared queues and schedules, with traffic, and back while no new feature is used.

`test_upgrade.py` has the whole with a build that is like an older one. This one takes the older build itself, from the
history of this repository.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ftjm
from ftjm.core.records import events as e
from ftjm.core.records.levels import LEVEL
from ftjm.core.state.model import STATE_VERSION
from ftjm.local.kafka import EmbeddedKafka
from ftjm.ops import snapshots
from integration import harness
from integration.clusters import cluster_on
from integration.drills import Ground
from integration.harness import Process
from integration.test_upgrade import PARTITIONS, QUEUES, run
from integration.waiting import until

PREVIOUS = "9c5770d"
"""The last build that knew no declared queue, no schedule and no bulk request: record level 3, rows of version 6."""
ROOT = Path(__file__).parents[1]


def unpacked(folder: Path) -> Path:
    """The files of the older build."""
    folder.mkdir()
    packed = subprocess.run(["git", "archive", PREVIOUS], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert packed.returncode == 0, f"expected the whole history of the repository: {packed.stderr.decode()}"
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, timeout=60, check=True)
    return folder


def of_build(command: list[str], folder: Path) -> list[str]:
    """The command, run by the build in this folder."""
    arguments = command[command.index("-m") :]
    return ["/usr/bin/env", "-C", str(folder), f"PYTHONPATH={folder}", sys.executable, *arguments]


def change(process: Process, folder: Path) -> None:
    """Stop a process in order, and start it as the build in this folder."""
    assert process.stop() == 0
    ready = "session_opened" if "worker" in process.command else "scheduler_started"
    before = len(process.log_lines(ready))
    process.command = of_build(process.command, folder)
    process.start()
    until(lambda: len(process.log_lines(ready)) > before, f"{process.name} to be ready")


def status(ground: Ground) -> dict[str, Any]:
    """What stands in the way of this build's upgrade."""
    found: dict[str, Any] = json.loads(run(ground, "ftjm", "upgrade", "status", "-o", "json").stdout)
    return found


def submit_explicit(ground: Ground, name: str) -> None:
    """Submit jobs of this build's clients that name explicit fields, which the cluster does not know. One client waits
    for the decision, the other ends at once."""
    command = ground.spec(0.05).command
    options = ("--queue", QUEUES[0], "--job-id", name, "--max-attempts", "1")
    done = run(ground, "ftjm", "submit", *options, "--", *command)
    assert done.returncode == 0, done.stderr
    with ftjm.Client(settings=ground.settings) as client:
        client.submit(ftjm.command(command, queue=QUEUES[0], max_attempts=1), job_id=f"{name}-python")
    for job_id in (name, f"{name}-python"):
        job = (QUEUES[0], job_id)
        found = until(lambda job=job: ground.log().events(e.JobSubmitted, job=job), f"{job_id} to be submitted")  # type: ignore[misc]
        assert len(found) == 1
        ground.jobs.append(job)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_a_cluster_of_the_build_before_goes_forward_and_back_and_forward_for_good(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = unpacked(tmp_path / "old")

    class OldProcess(Process):
        def start(self) -> None:
            if self.command[0] == sys.executable:
                self.command = of_build(self.command, old)
            super().start()

    monkeypatch.setattr(harness, "Process", OldProcess)
    settings = cluster_on(kafka, tmp_path / "data", partitions=PARTITIONS)
    with Ground(settings, tmp_path) as ground:
        members = [ground.scheduler("a"), ground.scheduler("b"), *(ground.worker(w, queues=QUEUES) for w in "wx")]
        ground.until_owners("a", "b")
        with ground.load(10.0, QUEUES, ground.spec(0.05)) as load:
            load.until(20)
            submit_explicit(ground, "older")
            snapshots.create(settings, range(PARTITIONS), full=False, actor="test", within_seconds=60)
            for folder in (ROOT, old, ROOT):
                for process in members:
                    change(process, folder)
                    load.until(5)
                ground.until_owners("a", "b")
                load.until(20)
        ground.jobs += load.acknowledged
        ground.check()
        for process in members:
            assert process.error_lines() == []
            # This build migrates the rows of the older one, which restores a snapshot in place of rows of this one.
            reasons = {line["reason"] for line in process.log_lines("store_discarded")}
            assert reasons <= {f"its rows are of version {STATE_VERSION}, and this program reads versions 3 to 6"}
        queue = tmp_path / "queue.yaml"
        queue.write_text(
            f"apiVersion: ftjm.io/v1\nkind: Queue\nmetadata: {{name: {QUEUES[0]}}}\nspec: {{concurrency: 3}}\n"
        )
        submit_explicit(ground, "not-final")
        refused = run(ground, "ftjm", "apply", "-f", str(queue))
        assert "NOT_YET_SUPPORTED" in refused.stderr
        assert run(ground, "ftjm", "snapshot", "create").returncode == 0
        until(lambda: status(ground)["obstacles"] == [], "nothing to be in the way")
        done = run(ground, "ftjm", "upgrade", "finalize", "--yes", "-o", "json")
        assert json.loads(done.stdout)["final"] is True, done.stderr
        assert {row["final_level"] for row in status(ground)["partitions"]} == {LEVEL}
        assert run(ground, "ftjm", "apply", "-f", str(queue)).returncode == 0
        for name in ("older", "not-final"):
            submit_explicit(ground, name)  # the same jobs, which had no list
        verified = run(ground, "ftjm", "replay", "--verify", "-o", "json")
        assert verified.returncode == 0, verified.stdout
