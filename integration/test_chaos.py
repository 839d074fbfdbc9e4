"""Chaos: real processes broken by a seed, their history judged. A fault counts if it was done, healed and survived."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ftjm.chaos.members import ON_FULL_DISK

SEEDS, SECONDS = (1, 2), 40
FAULTS_MIN = 100
"""Over all seeds."""
LIMIT_SECONDS = 540


def run(folder: Path, seed: int, seconds: int, *options: str, module: str = "ftjm") -> tuple[int, dict[str, Any], str]:
    """Run it as a user does; its exit status, its report, and what it said."""
    command = [sys.executable, "-m", module, "chaos", "--seed", str(seed), "--duration", f"{seconds}s", "-o", "json"]
    command += ["--data-dir", str(folder / f"chaos-{seed}"), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + LIMIT_SECONDS)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def chaos(folder: Path, seed: int, seconds: int, *options: str) -> dict[str, Any]:
    """The report of a run. Fails, showing what was found, if anything is wrong."""
    status, report, said = run(folder, seed, seconds, *options)
    found = {name: report[name] for name in ("violations", "crashes")}
    assert status == 0, f"seed {seed}: {json.dumps(found, indent=1)}\n{said}"
    assert (report["lost"], report["doubled"], report["overlapped"]) == (0, 0, 0)
    assert [death for death in report["crashes"] if ON_FULL_DISK not in death] == []
    assert report["timers_judged"] > 0
    told = ("faults", "jobs", "attempts", "attempts_lost", "takeovers", "takeover_p50_s", "takeover_p99_s", "settle_s")
    print(f"seed {seed}:", {name: report[name] for name in told})
    return report


@pytest.mark.timeout(1_500)
def test_a_hundred_faults_are_survived(tmp_path: Path) -> None:
    picture = tmp_path / "chaos.svg"
    reports = [chaos(tmp_path, seed, SECONDS, "--picture", str(picture)) for seed in SEEDS]
    assert sum(report["faults"] for report in reports) >= FAULTS_MIN
    assert all(report["jobs"] > 5 * SECONDS for report in reports)
    assert any(report["takeovers"] for report in reports)
    assert all(report["stores"] == 3 * report["settings"]["partitions"] for report in reports)
    kinds = {kind for report in reports for kind in report["faults_by_kind"]}
    assert len(kinds) > 12, "there are faults of some kinds only"
    assert ET.parse(picture).getroot().tag.endswith("svg")


@pytest.mark.long
@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("brokers", [1, 3])
@pytest.mark.parametrize("seed", [11, 12])
def test_faults_for_five_minutes(tmp_path: Path, seed: int, brokers: int) -> None:
    report = chaos(tmp_path, seed, 300, "--brokers", str(brokers))
    assert report["faults"] > 200


@pytest.mark.timeout(800)
def test_a_cluster_that_breaks_its_promises_does_not_pass(tmp_path: Path) -> None:
    """Owners take attempts for lost that run on, and a row of one store is changed: see `planted_chaos`."""
    status, report, _ = run(tmp_path, 3, 20, module="integration.planted_chaos")
    assert status == 1
    assert report["overlapped"] > 0
    told = "\n".join(report["violations"])
    assert re.search(r"expected attempts \d+ and \d+ one after the other, but found [\d.]+ ms of both", told)
    assert re.search(r"the store of scheduler-0 for partition 0 differs: .*planted", told)


def test_no_cluster_but_its_own_is_broken(tmp_path: Path) -> None:
    environment = {**os.environ, "FTJM_BOOTSTRAP": "127.0.0.1:1"}
    command = [sys.executable, "-m", "ftjm", "chaos", "--data-dir", str(tmp_path / "new")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode != 0
    assert "only one that it has started itself" in done.stderr
    assert not (tmp_path / "new").exists()
