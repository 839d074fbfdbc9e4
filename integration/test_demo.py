"""The demo, with fewer jobs: its verdict, and what it leaves behind."""

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

LIMIT_SECONDS = 200.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The Python part of `scripts/demo`, in a folder for its temporary files."""
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "ftjm.demo", "--jobs", "300"],
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
    said, _ = demo.communicate(timeout=LIMIT_SECONDS)
    assert demo.returncode == 0, said
    assert "passed: of 300 jobs every one succeeded, none is missing, none succeeded twice" in said
    killed = re.findall(r"kill -9 of (?:(scheduler|worker)-\d|the (API)) \(process \d+\)", said)
    assert sorted("".join(one) for one in killed) == ["API", "scheduler", "worker"]
    assert re.search(r"takeover +\d+\.\d\d s .* next decision on each of its \d+ partitions", said)
    assert re.search(r"throughput +\d+ jobs/s", said)
    assert re.search(r"HTTP +300 jobs in its pages, \d+ events in its feed, which went on 1 time\(s\)", said)
    assert re.search(r"the tasks +found [1-9]\d* functions", said)
    assert "\x1b" not in said
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.timeout(LIMIT_SECONDS)
def test_an_interrupted_demo_leaves_nothing(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    assert demo.stdout is not None
    until(lambda: "in the replicated log" in demo.stdout.readline(), "the jobs to be submitted")  # type: ignore[union-attr]
    tree = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGINT)
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, said
    assert "interrupted" in said
    until(lambda: not [child for child in tree if child.is_running()], "its processes to be gone")
    assert list((tmp_path / "tmp").iterdir()) == []
