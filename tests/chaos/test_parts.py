"""The parts of a run, each by itself: what attempts write down, broken clocks, damage, takeovers, the picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ftjm import clock
from ftjm.chaos import recorder, skewed
from ftjm.chaos.breaking import Happened
from ftjm.chaos.damage import damage
from ftjm.chaos.marks import executions
from ftjm.chaos.picture import Run, draw
from ftjm.chaos.plan import Fault, Kind
from ftjm.chaos.report import ChaosReport, Takeover, by_kind, spread, takeovers
from ftjm.errors import FtjmError


def recording(marks: Path, *arguments: object, attempt: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", recorder.__file__, str(marks), *map(str, arguments)]
    env = {"FTJM_JOB_ID": "q/job", "FTJM_ATTEMPT": str(attempt), recorder.WORKER: "worker-1"}
    return subprocess.Popen(command, env=env)


def wait_for(condition, limit_seconds: float = 20.0):
    deadline = time.monotonic() + limit_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_an_attempt_writes_down_when_it_ran(tmp_path):
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


def test_who_is_stopped_does_not_run(tmp_path):
    process = recording(tmp_path, 60, 0, 0)
    wait_for(lambda: executions(tmp_path))
    process.send_signal(signal.SIGSTOP)
    time.sleep(2 * recorder.GAP_NS / 1e9)
    process.send_signal(signal.SIGCONT)
    found = wait_for(lambda: [each for each in executions(tmp_path) if len(each.spans) == 2])
    process.kill()
    process.wait()
    assert found[0].spans[1][0] - found[0].spans[0][1] > recorder.GAP_NS / 1e6


def test_the_first_attempts_of_a_flaky_job_fail(tmp_path):
    assert [recording(tmp_path, 0, 0, 2, attempt=attempt).wait() for attempt in (1, 2, 3)] == [1, 1, 0]
    assert [each.attempt for each in executions(tmp_path)] == [1, 2, 3]


def test_an_attempt_that_is_started_twice_has_two_files(tmp_path):
    for _ in range(2):
        recording(tmp_path, 0, 0, 0).wait()
    assert len(executions(tmp_path)) == 2


def test_a_clock_is_as_wrong_as_its_file_says(tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "wall_ms", clock.wall_ms)  # put back afterwards
    skewed.set_offset(tmp_path / "clock", 0)
    skewed.install(tmp_path / "clock")
    assert abs(clock.wall_ms() - time.time() * 1000) < 1_000
    skewed.set_offset(tmp_path / "clock", -3_600_000)
    assert abs(clock.wall_ms() - time.time() * 1000 + 3_600_000) < 1_000


def test_the_program_has_the_wrong_clock_everywhere(tmp_path):
    """Whoever asks for the time has imported the function by its name, after it was replaced."""
    skewed.set_offset(tmp_path / "clock", 10_000_000)
    code = (
        "import sys, time; from pathlib import Path; from ftjm.chaos import skewed;"
        f"skewed.install(Path({str(tmp_path / 'clock')!r}));"
        "from ftjm.scheduler import steady;"
        "print(round((steady.wall_ms() - time.time() * 1000) / 1e6))"
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


def test_there_may_be_nothing_to_damage(tmp_path):
    assert damage(tmp_path, Random(1)) == ""


def happened(kind: Kind, began_ms: int, healed_ms: int, pid: int = 0, problem: str = "") -> Happened:
    role = "broker-0" if "broker" in kind else "worker-0" if "guard" in kind else "scheduler-0"
    return Happened(Fault(1, 0.0, kind, 0, 1.0, 0), role, began_ms, healed_ms, pid, problem=problem)


OWNERS = {
    0: [(100, "a@h:1"), (1_900, "b@h:2")],
    1: [(100, "b@h:2"), (150, "a@h:1"), (1_700, "c@h:3"), (5_000, "b@h:2")],
    2: [(100, "c@h:3")],
    3: [(1_100, "b@h:2")],
}


def test_takeovers_are_counted_from_the_kill_to_the_next_owner_of_each_partition():
    kill = happened(Kind.KILL_SCHEDULER, 1_000, 1_001, pid=1)
    assert takeovers(OWNERS, [kill]) == [Takeover(0, 1_000, 0.9, True), Takeover(1, 1_000, 0.7, True)]


def test_takeovers_among_other_faults_are_told_apart():
    kill = happened(Kind.KILL_SCHEDULER, 1_000, 1_001, pid=1)
    guard, broker = happened(Kind.KILL_GUARD, 900, 2_000), happened(Kind.STOP_BROKER, 1_800, 2_000)
    assert [each.alone for each in takeovers(OWNERS, [guard, kill, broker])] == [False, True]


def test_what_is_not_killed_has_no_takeover():
    assert takeovers(OWNERS, [happened(Kind.STOP_SCHEDULER, 1_000, 2_000, pid=1)]) == []
    assert takeovers(OWNERS, [happened(Kind.KILL_SCHEDULER, 1_000, 2_000, pid=9)]) == []


def test_faults_that_could_not_be_done_do_not_count():
    found = [happened(Kind.KILL_GUARD, 0, 1), happened(Kind.KILL_GUARD, 2, 3, problem="it had just ended")]
    assert by_kind(found) == {"kill-guard": 1}


def test_spread():
    assert spread([]) == (0.0, 0.0, 0.0)
    assert spread([1.0, 3.0, 2.0]) == (2.0, 3.0, 3.0)


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
    run = Run(
        a_report(violations=["<b>"]),
        [] if empty else [happened(Kind.KILL_SCHEDULER, 1_000, 2_000), happened(Kind.FILL_DISK, 5_000, 6_000)],
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
