"""What a benchmark's figures and pictures are made of, without a benchmark."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from ftjm.bench.bare import COMMAND, EVENT, ROLES
from ftjm.bench.chart import draw, unit_of
from ftjm.bench.instant import InstantGuard
from ftjm.bench.options import Options, Work, spec
from ftjm.bench.report import Report, percentile, rate, significant
from ftjm.bench.suites import SUITES
from ftjm.bench.throughput import shares
from ftjm.cli.bench import JOBS, Suite, WorkOption
from ftjm.core.identity import partition_for
from ftjm.worker.protocol import Ended, Ping, Pong, Start
from tests.tidy.source import ROOT

REPORT = Report(
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


def test_figures_have_the_digits_that_mean_something():
    assert (significant(12_345.6), significant(0.026_54), rate(1000, 3), rate(5, 0)) == (12_300, 0.0265, 333, 0)


@pytest.mark.parametrize("partitions", [1, 2, 16, 64])
def test_there_is_a_queue_on_each_partition(partitions):
    queues = Options(jobs=1, partitions=partitions).queues
    assert [partition_for(queue, partitions) for queue in queues] == list(range(partitions))


@pytest.mark.parametrize(("jobs", "partitions"), [(10, 3), (2, 4), (9, 9)])
def test_no_job_gets_lost_in_sharing(jobs, partitions):
    parts = shares(Options(jobs=jobs, partitions=partitions))
    assert (sum(parts), len(parts), max(parts) - min(parts) <= 1) == (jobs, partitions, True)


def test_a_picture_is_the_same_each_time_and_sound():
    drawn = draw(REPORT)
    assert drawn == draw(REPORT)
    root = ET.fromstring(drawn)
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"12,000", "3,000", "1.5", "ratio 0.25", "per second", "milliseconds"} <= set(texts)
    assert "<A & B>, 2 cores, Python 3.11" in texts
    widths = [float(bar.get("width", 0)) for bar in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[1] * 4 == pytest.approx(widths[2]), "bars of one unit share a scale"


def test_every_figure_of_the_documentation_has_a_known_unit():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert {"end_to_end_per_s", "submit_per_s", "drain_per_s", "ceiling_per_s", "ratio"} <= named
    assert {"p50_ms", "p95_ms", "p99_ms", "done_p50_ms", "done_p99_ms"} <= named
    assert {name for name in named if not unit_of(name)} == {"ratio", "events", "live_jobs", "tail_events"}


def test_the_command_line_knows_every_suite_and_kind_of_work():
    assert {suite.value for suite in Suite} == set(SUITES) >= set(JOBS)
    assert {work.value for work in WorkOption} == {work.value for work in Work}


def test_the_instant_guard_answers_at_once():
    guard = InstantGuard()
    job = spec(Work.NOOP)
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
