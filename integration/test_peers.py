"""A small run of `scripts/bench-peers` on ftjm alone: the others need packages that tests do not install."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_SECONDS = 900.0
pytestmark = pytest.mark.timeout(LIMIT_SECONDS + 60)


def test_the_workload_runs_on_ftjm(tmp_path: Path):
    file = tmp_path / "results.json"
    command = [sys.executable, "-m", "scripts.peers.compare", "--only", "ftjm_kafka", "--json", str(file)]
    sizes = ["--jobs", "40", "--seconds", "1", "--cache", str(tmp_path / "cache")]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| ftjm ") == 1
    [result] = json.loads(file.read_text())["ftjm_kafka"]
    assert min(result["figures"].values()) >= 0
    assert result["figures"]["end_to_end_1_per_s"] > 0
    assert not (tmp_path / "cache").exists(), "ftjm comes from the environment that runs this"
