"""The parts of benchmarks that compute figures and draw pictures, tested without a benchmark."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from ftjm.cli.bench import JOBS, Suite, WorkOption
from ftjm.core.identity import partition_for
from ftjm.lab.bench import spawn_rate
from ftjm.lab.bench.baseline import COMMAND, EVENT, ROLES
from ftjm.lab.bench.chart import draw, unit_of
from ftjm.lab.bench.instant_worker import InstantGuard
from ftjm.lab.bench.options import PAYLOAD, TEXT, Options, WorkKind, spec
from ftjm.lab.bench.processes import BenchProcess, largest_pss_mb
from ftjm.lab.bench.report import STAGE, BenchReport, percentile, rate, significant
from ftjm.lab.bench.suites import SUITES
from ftjm.lab.bench.throughput import shares
from ftjm.worker.attempts.protocol import Ended, Ping, Pong, Start
from tests.tidy.source import ROOT

REPORT = BenchReport(
    suite="throughput",
    machine={"cpu": "<A & B>", "cores": 2, "python": "3.11"},
    settings={},
    figures={"end_to_end_per_s": 3000.0, "submit_per_s": 12_000.0, "p50_ms": 1.5, "ratio": 0.25},
)


def test_percentiles_are_of_the_nearest_rank():
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_figures_are_rounded_to_three_digits():
    assert (significant(12_345.6), significant(0.026_54), rate(1000, 3), rate(5, 0)) == (12_300, 0.0265, 333, 0)


@pytest.mark.parametrize("partitions", [1, 2, 16, 64])
def test_there_is_one_queue_on_each_partition(partitions):
    queues = Options(jobs=1, partitions=partitions).queues
    assert [partition_for(queue, partitions) for queue in queues] == list(range(partitions))


@pytest.mark.parametrize(("jobs", "partitions"), [(10, 3), (2, 4), (9, 9)])
def test_shares_add_up_to_all_jobs(jobs, partitions):
    parts = shares(Options(jobs=jobs, partitions=partitions))
    assert (sum(parts), len(parts), max(parts) - min(parts) <= 1) == (jobs, partitions, True)


def test_the_same_report_gives_the_same_valid_picture():
    drawn = draw(REPORT)
    assert drawn == draw(REPORT)
    root = ET.fromstring(drawn)
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"12,000", "3,000", "1.5", "ratio 0.25", "per second", "milliseconds"} <= set(texts)
    assert "<A & B>, 2 cores, Python 3.11" in texts
    widths = [float(bar.get("width", 0)) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[1] * 4 == pytest.approx(widths[2]), "bars of one unit share a scale"


def test_each_stage_is_drawn_from_where_the_one_before_it_ends():
    figures = {"p50_ms": 4.0, f"{STAGE}submit_ms": 1.0, f"{STAGE}decide_ms": 2.0, f"{STAGE}run_ms": 0.5}
    root = ET.fromstring(draw(msgspec.structs.replace(REPORT, suite="latency", figures=figures)))
    bars = [
        (float(bar.get("x", 0)), float(bar.get("width", 0))) for bar in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    _, _, submit, decide, run = bars
    assert decide[0] == pytest.approx(submit[0] + submit[1], abs=0.2)
    assert run[0] == pytest.approx(decide[0] + decide[1], abs=0.2)
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"submit_ms", "decide_ms", "run_ms"} <= set(texts)


def test_every_figure_of_the_documentation_has_a_known_unit():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert {"end_to_end_per_s", "submit_per_s", "drain_per_s", "ceiling_per_s", "ratio"} <= named
    assert {"p50_ms", "p95_ms", "p99_ms", "done_p50_ms", "done_p99_ms"} <= named
    assert {name for name in named if not unit_of(name)} == {
        "ratio",
        "command_ratio",
        "p99_ratio",
        "events",
        "live_jobs",
        "waiting_jobs",
        "CURVE_N_batch_jobs",
        "CURVE_knee",
        "drain_ratio",
        "scheduler_pss_mb",
        "empty_scheduler_pss_mb",
        "tail_events",
    }


def test_the_command_line_knows_every_suite_and_kind_of_work():
    assert {suite.value for suite in Suite} == set(SUITES) >= set(JOBS)
    assert {work.value for work in WorkOption} == {work.value for work in WorkKind}


def test_every_job_of_a_task_carries_the_payload():
    assert len(PAYLOAD) == 200
    for timed in (False, True):
        assert spec(WorkKind.TASK, timed=timed).payload == b'{"args":["%b"],"kwargs":{}}' % TEXT.encode()


def test_memory_is_that_of_the_largest_process():
    programs = [f"x = b'x' * {mb}_000_000; input()" for mb in (1, 60)]
    running = [subprocess.Popen([sys.executable, "-c", each], stdin=subprocess.PIPE) for each in programs]
    try:
        members = [BenchProcess("p", process, Path()) for process in running]
        while largest_pss_mb(members[1:]) < 60:
            time.sleep(0.01)
        assert largest_pss_mb(members[:1]) < 60 <= largest_pss_mb(members)
    finally:
        for process in running:
            process.communicate(b"\n")


def test_the_rate_of_spawning_is_measured_with_real_processes():
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    assert spawn_rate.measure(3) > 0
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt > before


def test_the_instant_guard_answers_at_once():
    guard = InstantGuard()
    job = spec(WorkKind.NOOP)
    start = Start(
        key="q/j/1",
        session="s",
        queue="q",
        job_id="j",
        run=1,
        attempt=1,
        executor=job.executor,
        command=job.command,
        payload=job.payload,
        environment={},
        working_directory="",
        timeout_ms=0,
        grace_ms=0,
        continue_for_ms=0,
    )
    guard.send(Ping())
    guard.send(start)
    pong, ended = guard.receive()
    assert isinstance(pong, Pong)
    assert isinstance(ended, Ended)
    assert (ended.key, ended.reason, ended.started_at > 0) == ("q/j/1", None, True)
    assert guard.receive() == []
    guard.leave()


def test_the_bare_pipeline_has_a_role_for_each_step():
    assert set(ROLES) == {"bare-client", "bare-scheduler", "bare-worker"}
    assert [field["name"] for field in COMMAND["fields"]][:2] == ["job_id", "kind"]
    assert EVENT["name"] == "Event"
