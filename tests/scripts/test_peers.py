"""The parts of `scripts/bench-peers`: the workload on a fake system, what is installed, and the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.peers import compare, install
from scripts.peers.install import Missing, System
from scripts.peers.processes import Processes, Stalled, await_port, free_ports
from tests.tidy.source import ROOT

FIGURES = {
    "submit_per_s": 1000.0,
    "drain_1_per_s": 600.0,
    "drain_2_per_s": 900.0,
    "end_to_end_1_per_s": 400.0,
    "end_to_end_2_per_s": 500.0,
    "p50_ms": 1.25,
    "p99_ms": 3.0,
    "idle_percent": 0.4,
    "memory_mb": 1234.5,
}


def result(title: str, factor: float = 1.0) -> compare.Result:
    figures = {name: value * factor for name, value in FIGURES.items()}
    return {"title": title, "version": "1.2", "flushes": "file", "stores": "results", "figures": figures}


def test_the_workload_has_every_figure_and_leaves_nothing_running(tmp_path: Path):
    command = [sys.executable, "-m", "scripts.peers.workload", "tests.scripts.fake_system"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    sizes = ["--jobs", "300", "--seconds", "0.4"]
    done = subprocess.run([*command, *sizes], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: found[name] for name in ("title", "version", "flushes")} == {
        "title": "Fake",
        "version": "1",
        "flushes": "a file",
    }
    assert set(found["figures"]) == set(FIGURES)
    assert 0 < found["figures"]["p50_ms"] <= found["figures"]["p99_ms"]
    assert min(found["figures"][f"{name}_{n}_per_s"] for name in ("drain", "end_to_end") for n in (1, 2)) > 0
    assert found["figures"]["memory_mb"] > 1
    assert not list(tmp_path.iterdir())
    running = [each.info["cmdline"] or () for each in psutil.process_iter(["cmdline"])]
    assert not [command for command in running if "tests.scripts.fake_system" in command]


def test_what_a_process_has_started_is_stopped_with_it(tmp_path: Path):
    processes = Processes(tmp_path)
    # The child ignores SIGTERM, and its parent does not.
    head = processes.start("head", ["sh", "-c", "trap '' TERM; sleep 100 & echo $!; trap 'exit 0' TERM; wait"])
    while not (said := (tmp_path / "head.log").read_text()):
        time.sleep(0.01)
    child = psutil.Process(int(said))
    assert processes.pss_mb() > 0
    processes.stop([head])
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert processes.pss_mb() == 0


def test_a_process_that_ends_by_itself_is_noticed(tmp_path: Path):
    processes = Processes(tmp_path)
    processes.start("head", ["false"]).wait()
    with pytest.raises(Stalled, match="status 1"):
        await_port(free_ports(1)[0], processes.check)
    processes.stop_all()


def test_the_packages_of_a_plan_are_those_that_are_not_installed():
    plan = "Reading package lists...\nInst libjemalloc2 (5.3.0-1 Debian:12)\nInst redis-server (5:7 [amd64])\nConf x"
    assert install.packages(plan) == ["libjemalloc2", "redis-server"]


def test_the_scripts_of_erlang_name_the_directory_that_it_moves_to(tmp_path: Path):
    script = tmp_path / "usr/lib/erlang/bin/erl"
    script.parent.mkdir(parents=True)
    script.write_text("if x\n    ROOTDIR=/usr/lib/erlang\nfi\n")
    install.move_erlang(tmp_path, Path("/later"))
    assert script.read_text() == "if x\n    ROOTDIR=/later/usr/lib/erlang\nfi\n"


def test_a_server_that_is_there_already_is_used(tmp_path: Path):
    server = System(package="redis-server", proof="usr/bin/redis-server-of-the-test")
    program = tmp_path / server.package / server.proof
    program.parent.mkdir(parents=True)
    program.touch()
    root = install.root_of(tmp_path, server)
    assert root == tmp_path / server.package
    assert install.environment(root)["PATH"].startswith(str(program.parent))
    assert install.root_of(tmp_path, System()) == Path("/")


def test_a_server_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="no apt-get"):
        install.root_of(tmp_path, System(package="redis-server", proof="no/such/file"))


def test_a_system_that_is_missing_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    runs: list[str] = []

    def run(_cache: Path, name: str, *_: Any) -> compare.Result:
        runs.append(name)
        if name == "celery_redis":
            raise Missing("no server")
        return result(name, len(runs))

    monkeypatch.setattr(compare, "run", run)
    monkeypatch.setattr(sys, "argv", ["bench-peers", "--rounds", "2"])
    assert compare.main() == 0
    said = capsys.readouterr()
    assert runs == ["ftjm_kafka", "celery_redis", "dramatiq_rabbitmq", "ftjm_kafka", "dramatiq_rabbitmq"]
    assert said.err.count("celery_redis is left out: no server\n") == 1
    assert "celery_redis" not in said.out
    assert f"| ftjm_kafka 1.2 | {1000 * (1 + 4) / 2:,.0f} |" in said.out, "the median of two rounds"


def test_the_table_has_a_row_for_each_system_and_compares_ours_with_it():
    lines = compare.table({"ftjm_kafka": result("ftjm", 2.0), "celery_redis": result("Celery + Redis")}).splitlines()
    assert lines[2].startswith("| ftjm 1.2 | 2,000 | 1,200 / 1,800 | 800 / 1,000 | 2.5 / 6.0 | 0.8 | 2,469 |")
    assert lines[3].endswith("| 1,000 | 600 / 900 | 400 / 500 | 1.2 / 3.0 | 0.4 | 1,234 | file | results |")
    assert lines[-1] == "ftjm against Celery + Redis: drain 2.00 / 2.00, end to end 2.00 / 2.00"
    assert len({line.count("|") for line in lines[:4]}) == 1


def test_each_system_has_a_file():
    for name in compare.SYSTEMS:
        assert (ROOT / "scripts" / "peers" / f"{name}.py").exists()
