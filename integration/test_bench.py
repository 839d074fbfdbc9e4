"""`ftjm bench` as a user runs it, small: every figure is there, and nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from ftjm.embedded.kafka import EmbeddedKafka

LIMIT_SECONDS = 300.0
pytestmark = pytest.mark.timeout(LIMIT_SECONDS + 60)

FIGURES = {
    "throughput": {
        "end_to_end_per_s",
        "submit_per_s",
        "drain_per_s",
        "ceiling_per_s",
        "ratio",
        "command_jobs_per_s",
        "task_jobs_per_s",
    },
    "latency": {"p50_ms", "p95_ms", "p99_ms", "done_p50_ms", "done_p99_ms"},
    "submit": {"one_per_s", "many_per_s"},
    "events": {"events", "read_per_s", "events_per_s", "fold_per_s"},
    "cold-takeover": {
        "live_jobs",
        "cold_takeover_s",
        "restore_s",
        "fold_s",
        "tail_events",
        "snapshot_s",
        "snapshot_mb",
    },
    "replay": {"events", "events_per_s", "cpu_us", "decode_us", "memory_events_per_s"},
}


def bench(suite: str, tmp_path: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "ftjm", "bench", suite, "-o", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "progress is for terminals"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize("suite", FIGURES)
def test_a_suite_on_a_kafka_that_is_there(suite, kafka: EmbeddedKafka, tmp_path: Path):
    svg = tmp_path / "figures.svg"
    options = ["--jobs", "60", "--command-jobs", "10", "--bootstrap", kafka.bootstrap, "--svg", str(svg)]
    document = bench(suite, tmp_path, *options)
    assert set(document) == {"suite", "machine", "settings", "figures"}
    assert FIGURES[suite] <= set(document["figures"])
    assert all(value > 0 for value in document["figures"].values())
    assert (document["suite"], document["settings"]["jobs"]) == (suite, 60)
    assert svg.read_text().startswith("<svg")
    topics = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).topics
    assert not [topic for topic in topics if topic.startswith("bench-")]


def test_failover_counts_what_it_broke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    figures = bench("failover", tmp_path, "--kills", "1", "--partitions", "3")["figures"]
    assert figures["kills"] == 1
    assert figures["takeovers"] >= 1
    assert figures["jobs"] > 0
    assert [figures["lost"], figures["doubled"], figures["other_violations"]] == [0, 0, 0]
    assert {"takeover_p50_s", "takeover_p99_s", "silent_takeover_max_s", "planned_pause_p99_ms"} <= set(figures)


def test_a_soak_judges_what_it_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    figures = bench("soak", tmp_path, "--minutes", "0.1")["figures"]
    assert figures["jobs"] > 0
    assert [figures["lost"], figures["doubled"], figures["other_violations"]] == [0, 0, 0]
    assert {"scheduler-0_last_mb", "scheduler-0_last_files", "command-worker-0-guard_last_mb"} <= set(figures)
    assert min(figures["scheduler-0_last_disk_mb"], figures["broker-0_last_disk_mb"]) > 0


def test_latency_of_real_commands_on_a_kafka_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    document = bench("latency", tmp_path, "--jobs", "5", "--work", "command")
    figures = document["figures"]
    assert 0 < figures["done_p50_ms"] < figures["p50_ms"]
    assert not list(tmp_path.glob("ftjm-bench-*"))
    left = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])]
    assert not left
