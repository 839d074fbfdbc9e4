"""The demo with fewer jobs: it passes although it kills three processes, and it leaves no process or file behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from integration.waiting import until

LIMIT_SECONDS = 600.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the Python part of `scripts/demo`, with a directory for its temporary files."""
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "ftjm.lab.demo", "--jobs", "300"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "CI": "true", "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(LIMIT_SECONDS + 20)
def test_the_demo_breaks_a_cluster_and_finds_every_job_done_once(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    output, _ = demo.communicate(timeout=LIMIT_SECONDS)
    assert demo.returncode == 0, output
    assert "passed: of 300 jobs every one succeeded, none is missing, none succeeded twice" in output
    killed = re.findall(r"kill -9 of (?:(scheduler|worker)-\d|the (API)) \(process \d+\)", output)
    assert sorted("".join(one) for one in killed) == ["API", "scheduler", "worker"]
    assert re.search(r"takeover +\d+\.\d\d s .* next decision on each of its \d+ partitions", output)
    assert re.search(r"throughput +\d+ jobs/s", output)
    assert re.search(r"HTTP +300 jobs in its pages, \d+ events in its feed, which continued 1 time\(s\)", output)
    assert re.search(r"the tasks +found [1-9]\d* functions", output)
    assert "\x1b" not in output
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.timeout(LIMIT_SECONDS + 20)
def test_an_interrupted_demo_leaves_nothing(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    assert demo.stdout is not None
    printed = demo.stdout
    until(lambda: "in the replicated log" in printed.readline(), "the jobs to be submitted", 400)
    tree = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=180)
    assert demo.returncode == 130, output
    assert "interrupted" in output
    until(lambda: not [child for child in tree if child.is_running()], "its processes to end")
    assert list((tmp_path / "tmp").iterdir()) == []
