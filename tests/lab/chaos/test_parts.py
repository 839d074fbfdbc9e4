"""The parts of a chaos run, each by itself: recorded executions, wrong clocks, damage, takeovers, the picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import ftjm
from ftjm.lab.chaos import recorder, skewed_clock
from ftjm.lab.chaos.corruption import damage
from ftjm.lab.chaos.execution_marks import executions
from ftjm.lab.chaos.faults import InjectedFault
from ftjm.lab.chaos.plan import FaultKind, PlannedFault
from ftjm.lab.chaos.plot import ChaosRun, draw
from ftjm.lab.chaos.report import ChaosReport, Takeover, count_by_kind, percentiles, takeovers
from ftjm.runtime import clock
from ftjm.runtime.errors import FtjmError


def recording(marks: Path, *arguments: object, attempt: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", recorder.__file__, str(marks), *map(str, arguments)]
    env = {"FTJM_JOB_ID": "q/job", "FTJM_ATTEMPT": str(attempt), recorder.WORKER: "worker-1"}
    return subprocess.Popen(command, env=env)


def wait_for(condition, limit_seconds: float = 60.0):
    deadline = time.monotonic() + limit_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_an_attempt_records_when_it_ran(tmp_path):
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6
    assert recording(tmp_path, 0.2, 3, 0).wait() == 3
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6
    [found] = executions(tmp_path)
    assert (found.name, found.attempt, found.worker, found.finished) == (("q", "job"), 1, "worker-1", True)
    assert before < found.spans[0][0] < found.spans[-1][1] < after
    assert found.spans[-1][1] - found.spans[0][0] >= 200


def test_an_attempt_that_is_killed_has_not_finished(tmp_path):
    process = recording(tmp_path, 60, 0, 0)
    wait_for(lambda: executions(tmp_path))
    process.kill()
    process.wait()
    [found] = executions(tmp_path)
    assert not found.finished


def test_a_stopped_attempt_records_a_gap(tmp_path):
    process = recording(tmp_path, 60, 0, 0)
    wait_for(lambda: executions(tmp_path))
    process.send_signal(signal.SIGSTOP)
    time.sleep(2 * recorder.GAP_NS / 1e9)
    process.send_signal(signal.SIGCONT)
    [found] = wait_for(lambda: [each for each in executions(tmp_path) if len(each.spans) >= 2])
    process.kill()
    process.wait()
    assert any(after[0] - before[1] > recorder.GAP_NS / 1e6 for before, after in pairwise(found.spans))


def test_the_first_attempts_of_a_flaky_job_fail(tmp_path):
    assert [recording(tmp_path, 0, 0, 2, attempt=attempt).wait() for attempt in (1, 2, 3)] == [1, 1, 0]
    assert [each.attempt for each in executions(tmp_path)] == [1, 2, 3]


def test_an_attempt_that_is_started_twice_has_two_files(tmp_path):
    for _ in range(2):
        recording(tmp_path, 0, 0, 0).wait()
    assert len(executions(tmp_path)) == 2


def test_a_clock_is_as_wrong_as_its_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "wall_ms", clock.wall_ms)  # put back afterwards
    skewed_clock.set_offset(tmp_path / "clock", 0)
    skewed_clock.install(tmp_path / "clock")
    assert abs(clock.wall_ms() - time.time() * 1000) < 1_000
    skewed_clock.set_offset(tmp_path / "clock", -3_600_000)
    assert abs(clock.wall_ms() - time.time() * 1000 + 3_600_000) < 1_000


def test_the_skewed_program_is_the_command_line(tmp_path):
    skewed_clock.set_offset(tmp_path / "clock", 0)
    command = [sys.executable, "-m", "ftjm.lab.chaos.skewed_clock", str(tmp_path / "clock"), "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"ftjm {ftjm.__version__}\n"


def test_the_wrong_clock_reaches_modules_that_import_the_function_by_name(tmp_path):
    """The scheduler's modules import `wall_ms` by name; they are imported after it was replaced."""
    skewed_clock.set_offset(tmp_path / "clock", 10_000_000)
    code = (
        "import sys, time; from pathlib import Path; from ftjm.lab.chaos import skewed_clock;"
        f"skewed_clock.install(Path({str(tmp_path / 'clock')!r}));"
        "from ftjm.scheduler import owner_clock;"
        "print(round((owner_clock.wall_ms() - time.time() * 1000) / 1e6))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "10"


@pytest.mark.parametrize("seed", range(20))
def test_damage_changes_one_file(tmp_path, seed):
    for name in ("000001.sst", "CURRENT", "MANIFEST-000001", "LOG", "LOCK"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert damage(tmp_path, Random(seed))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    [changed] = {name for name in before if after.get(name) != before[name]}
    assert changed not in {"LOG", "LOCK"}


def test_damage_in_an_empty_directory_does_nothing(tmp_path):
    assert damage(tmp_path, Random(1)) == ""


def injected(kind: FaultKind, began_ms: int, healed_ms: int, pid: int = 0, problem: str = "") -> InjectedFault:
    role = "broker-0" if "broker" in kind else "worker-0" if "guard" in kind else "scheduler-0"
    return InjectedFault(PlannedFault(1, 0.0, kind, 0, 1.0, 0), role, began_ms, healed_ms, pid, problem=problem)


OWNERS = {
    0: [(100, "a@h:1"), (1_900, "b@h:2")],
    1: [(100, "b@h:2"), (150, "a@h:1"), (1_700, "c@h:3"), (5_000, "b@h:2")],
    2: [(100, "c@h:3")],
    3: [(1_100, "b@h:2")],
}


def test_takeovers_are_counted_from_the_kill_to_the_next_owner_of_each_partition():
    kill = injected(FaultKind.KILL_SCHEDULER, 1_000, 1_001, pid=1)
    assert takeovers(OWNERS, [kill]) == [Takeover(0, 1_000, 0.9, True), Takeover(1, 1_000, 0.7, True)]


def test_takeovers_during_other_faults_are_not_alone():
    kill = injected(FaultKind.KILL_SCHEDULER, 1_000, 1_001, pid=1)
    guard, broker = injected(FaultKind.KILL_GUARD, 900, 2_000), injected(FaultKind.STOP_BROKER, 1_800, 2_000)
    assert [each.alone for each in takeovers(OWNERS, [guard, kill, broker])] == [False, True]


def test_only_a_kill_leads_to_a_counted_takeover():
    assert takeovers(OWNERS, [injected(FaultKind.STOP_SCHEDULER, 1_000, 2_000, pid=1)]) == []
    assert takeovers(OWNERS, [injected(FaultKind.KILL_SCHEDULER, 1_000, 2_000, pid=9)]) == []


def test_faults_without_an_effect_do_not_count():
    found = [injected(FaultKind.KILL_GUARD, 0, 1), injected(FaultKind.KILL_GUARD, 2, 3, problem="it had just ended")]
    assert count_by_kind(found) == {"kill-guard": 1}


def test_percentiles_of_takeovers():
    assert percentiles([]) == (0.0, 0.0, 0.0)
    assert percentiles([1.0, 3.0, 2.0]) == (2.0, 3.0, 3.0)


def a_report(**changes: Any) -> ChaosReport:
    numbers: dict[str, Any] = dict.fromkeys(ChaosReport.__struct_fields__, 0)
    rest: dict[str, Any] = {
        "settings": {"brokers": 1, "schedulers": 3, "workers": 2},
        "machine": {},
        "faults_by_kind": {},
    }
    return ChaosReport(**{**numbers, **rest, "violations": [], "crashes": [], **changes})


def test_the_report_has_the_names_of_the_contract():
    assert {"faults", "lost", "doubled", "overlapped", "takeover_p99_s"} <= set(ChaosReport.__struct_fields__)
    assert a_report().passed
    assert not a_report(violations=["something"]).passed


@pytest.mark.parametrize("empty", [False, True])
def test_a_run_is_drawn(empty):
    run = ChaosRun(
        a_report(violations=["<b>"]),
        []
        if empty
        else [injected(FaultKind.KILL_SCHEDULER, 1_000, 2_000), injected(FaultKind.FILL_DISK, 5_000, 6_000)],
        [] if empty else [Takeover(1, 1_000, 1.25, alone=False)],
        {} if empty else {1: 5, 2: 7, 90: 1},
        began_ms=500,
    )
    picture = draw(run)
    assert picture == draw(run)
    root = ET.fromstring(picture)
    titles = {title.text for title in root.iter("{http://www.w3.org/2000/svg}title")}
    if not empty:
        assert {"7 jobs", "kill-scheduler for 1.0 s", "partition 1: 1.25 s, among other faults"} <= titles
    width = float(root.attrib["width"])
    for shape in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(shape.attrib.get("x", 0)) <= width


def test_chaos_refuses_a_cluster_that_is_named(monkeypatch, tmp_path):
    from ftjm.cli.chaos import _refuse_others

    for name in [name for name in os.environ if name.startswith("FTJM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    _refuse_others()
    monkeypatch.setenv("FTJM_BOOTSTRAP", "production:9092")
    with pytest.raises(FtjmError, match="only one that it has started itself"):
        _refuse_others()
