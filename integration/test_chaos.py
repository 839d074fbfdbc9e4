"""Chaos: real processes broken by a seed, their history judged. A fault counts if it was done, healed and survived."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

SEEDS, SECONDS = (1, 2), 40
FAULTS_MIN = 100
"""Over all seeds."""
LIMIT_SECONDS = 400


def chaos(folder: Path, seed: int, seconds: int, *options: str) -> dict[str, Any]:
    """Run it as a user does; its report. Fails, showing what was found, if anything is wrong."""
    command = [sys.executable, "-m", "ftjm", "chaos", "--seed", str(seed), "--duration", f"{seconds}s", "-o", "json"]
    command += ["--data-dir", str(folder / f"chaos-{seed}"), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=seconds + LIMIT_SECONDS)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    found = {name: report[name] for name in ("violations", "crashes")}
    assert done.returncode == 0, f"seed {seed}: {json.dumps(found, indent=1)}\n{done.stderr}"
    assert (report["lost"], report["doubled"], report["overlapped"]) == (0, 0, 0)
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


def test_no_cluster_but_its_own_is_broken(tmp_path: Path) -> None:
    environment = {**os.environ, "FTJM_BOOTSTRAP": "127.0.0.1:1"}
    command = [sys.executable, "-m", "ftjm", "chaos", "--data-dir", str(tmp_path / "new")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode != 0
    assert "only one that it has started itself" in done.stderr
    assert not (tmp_path / "new").exists()
