"""Small runs of `ftjm bench`, as a user starts them: every figure is in the report, and no process or file is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from ftjm.lab.bench.stages import STAGES
from ftjm.local.kafka import EmbeddedKafka
from integration.waiting import until

LIMIT_SECONDS = 600.0
pytestmark = pytest.mark.timeout(LIMIT_SECONDS + 60)

FIGURES = {
    "throughput": {
        "end_to_end_per_s",
        "submit_per_s",
        "drain_per_s",
        "ceiling_per_s",
        "ratio",
        "task_jobs_per_s",
        "task_drain_per_s",
        "command_jobs_per_s",
        "command_drain_per_s",
        "spawn_per_s",
        "command_ratio",
    },
    "latency": {"p50_ms", "p95_ms", "p99_ms", "done_p50_ms", "done_p99_ms", *(f"stage_{name}_ms" for name in STAGES)},
    "response": {
        f"{rate}_{what}p{percent}_ms" for rate in ("calm", "busy") for what in ("", "done_") for percent in (50, 95, 99)
    },
    "submit": {"one_per_s", "many_per_s"},
    "events": {"events", "read_per_s", "events_per_s", "fold_per_s"},
    "backlog": {"waiting_jobs", "end_to_end_per_s", "ratio", "drain_ratio", "fill_per_s", "scheduler_pss_mb"},
    "policies": {"plain_per_s", "plain_scheduler_us", "policies_per_s", "policies_scheduler_us", "ratio"},
    "bulk": {"jobs", "cancelled", "bulk_s", "before_p99_ms", "meanwhile_p99_ms", "p99_ratio"},
    "scale": {"workers_3_us", "workers_3_scheduler_us", "workers_3_batch_jobs", "workers_knee", "partitions_2_per_s"},
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
    told = [line for line in done.stderr.splitlines() if "[warning" not in line]  # a busy machine makes some wait
    assert told == [], "progress is shown on terminals only"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.parametrize("suite", FIGURES)
def test_a_suite_runs_on_an_existing_kafka(suite, kafka: EmbeddedKafka, tmp_path: Path):
    svg = tmp_path / "figures.svg"
    sizes = ["--jobs", "60", "--command-jobs", "10", "--backlog", "200"]
    curves = ["--curve", "workers=3", "--curve", "partitions=2"]
    document = bench(suite, tmp_path, *sizes, *curves, "--bootstrap", kafka.bootstrap, "--svg", str(svg))
    assert set(document) == {"suite", "machine", "settings", "figures"}
    assert FIGURES[suite] <= set(document["figures"])
    assert all(value > 0 for value in document["figures"].values())
    assert (document["suite"], document["settings"]["jobs"]) == (suite, 60)
    assert svg.read_text().startswith("<svg")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    until(
        lambda: not [topic for topic in admin.list_topics(timeout=60).topics if topic.startswith("bench-")],
        "no topic to be left",
    )


def test_failover_counts_its_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    figures = bench("failover", tmp_path, "--kills", "1", "--partitions", "3")["figures"]
    assert figures["kills"] == 1
    assert figures["takeovers"] >= 1
    assert figures["jobs"] > 0
    assert [figures["lost"], figures["doubled"], figures["other_violations"]] == [0, 0, 0]
    assert {"takeover_p50_s", "takeover_p99_s", "silent_takeover_max_s", "planned_pause_p99_ms"} <= set(figures)


def test_a_soak_checks_its_own_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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
    stages = [figures[f"stage_{name}_ms"] for name in STAGES]
    # Stamps are whole milliseconds. The median of five jobs lies between the least and the most of them.
    assert min(stages) > -1
    assert sum(stages) <= figures["p99_ms"] + 1
    assert not list(tmp_path.glob("ftjm-bench-*"))
    left = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])]
    assert not left
