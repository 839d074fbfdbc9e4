"""The tasks of a run, on a real guard: what they record, and the faults that hit the processes that run them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil
import pytest

from ftjm.core.state.model import FailureReason
from ftjm.lab.chaos import recorder, tasks
from ftjm.lab.chaos.cluster import ChaosCluster
from ftjm.lab.chaos.execution_marks import executions
from ftjm.lab.chaos.faults import NOT_RUNNING, FaultInjector, InjectedFault
from ftjm.lab.chaos.jobs import APP
from ftjm.lab.chaos.members import Member
from ftjm.lab.chaos.plan import FaultKind, PlannedFault, TargetRole
from ftjm.lab.checker import Execution
from ftjm.worker.attempts.protocol import Ended
from tests.worker.guarding import Tasks, alive, until


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tasks]:
    monkeypatch.setenv(recorder.WORKER, "worker-1")
    found = Tasks(tmp_path / "attempts", (APP,))
    yield found
    found.link.leave()
    assert not alive(found.link.pid)


def call(guard: Tasks, name: str, marks: Path, seconds: float, status: int = 0, failures: int = 0, **more: Any) -> str:
    return guard.call(f"{APP}.{name}", str(marks), seconds, status, failures, **more)


def does(guard: Tasks, name: str, marks: Path, seconds: float = 0, *numbers: int, **more: Any) -> Ended:
    return guard.ended(call(guard, name, marks, seconds, *numbers, **more))


def test_the_app_of_the_load_is_this_one() -> None:
    assert tasks.__name__ == APP


@pytest.mark.parametrize("name", ["record", "record_alone", "crash", "leave", "resume", "ignore_stop"])
def test_a_task_records_that_it_ran_to_its_end(guard: Tasks, marks: Path, name: str) -> None:
    end = does(guard, name, marks, 0.1)
    assert end.reason is None, end
    assert msgspec.json.decode(end.result) == "q/j1/3/1"
    [found] = executions(marks)
    assert (found.name, found.attempt, found.worker, found.finished) == (("q", "j1"), 1, "worker-1", True)
    assert found.spans[-1][1] - found.spans[0][0] >= 100


def test_an_attempt_that_is_started_twice_in_one_process_has_two_files(guard: Tasks, marks: Path) -> None:
    for _ in range(2):
        does(guard, "record", marks, job_id="same", key="q/same/1")
        guard.frames.clear()
    assert [each.name for each in executions(marks)] == [("q", "same")] * 2
    assert len({path.name.rpartition("+")[2].partition("-")[0] for path in marks.iterdir()}) == 1, "not one process"


def test_tasks_end_as_they_are_told(guard: Tasks, marks: Path) -> None:
    raised = does(guard, "record", marks, 0, 0, 1)
    assert (raised.reason, "was told to fail" in raised.error) == (FailureReason.EXCEPTION, True)
    left = does(guard, "record", marks, 0, 3)
    assert (left.reason, left.exit_code) == (FailureReason.EXIT_CODE, 3)
    killed = does(guard, "crash", marks, 0, 0, 1)
    assert (killed.reason, killed.signal) == (FailureReason.SIGNAL, 9)
    ended = does(guard, "crash", marks, 0, 7, 1)
    assert (ended.reason, ended.exit_code) == (FailureReason.EXIT_CODE, 7)
    assert sorted((each.job_id, each.finished) for each in executions(marks)) == [
        ("j1", True),
        ("j2", True),
        ("j3", False),
        ("j4", False),
    ]


def test_a_process_that_is_left_behind_records_no_more_once_the_attempt_has_ended(guard: Tasks, marks: Path) -> None:
    assert does(guard, "leave", marks).reason is None
    before = executions(marks)
    does(guard, "record", marks, 0.1)
    [found] = [each for each in executions(marks) if each.job_id == "j1"]
    assert [found] == before


def the_only(marks: Path) -> Execution:
    until(lambda: len(executions(marks)) == 1, "the task to run")
    return executions(marks)[0]


def test_a_task_that_is_stopped_records_how_it_cleans_up(guard: Tasks, marks: Path) -> None:
    key = call(guard, "record", marks, 60)
    the_only(marks)
    guard.stop(key, 10_000)
    assert guard.ended(key).reason is FailureReason.STOPPED
    found = the_only(marks)
    assert not found.finished
    assert len(found.spans) >= 2
    assert found.spans[-1][1] - found.spans[1][0] >= tasks.CLEANING_SECONDS * 1_000


def test_a_task_that_does_not_stop_is_killed(guard: Tasks, marks: Path) -> None:
    key = call(guard, "ignore_stop", marks, 60)
    the_only(marks)
    guard.stop(key, 300)
    assert guard.ended(key).reason is FailureReason.STOPPED
    assert not the_only(marks).finished


def test_a_task_resumes_from_its_own_run_only(guard: Tasks, marks: Path) -> None:
    def checkpoint(run_key: str, attempt: int) -> bytes:
        return msgspec.json.encode({"run_key": run_key, "attempt": attempt, "done": 9})

    end = does(guard, "resume", marks, 10, checkpoint=checkpoint("q/j1/3", 1), attempt=2)
    assert end.reason is None, end
    assert the_only(marks).spans[-1][1] - the_only(marks).spans[0][0] < 10_000
    for wrong in (checkpoint("q/j9/3", 1), checkpoint("q/j3/3", 2)):
        refused = does(guard, "resume", marks, 10, checkpoint=wrong, attempt=2)
        assert (refused.reason, "WrongCheckpointError" in refused.error) == (FailureReason.EXCEPTION, True)


# -- faults


class Supervised:
    """A cluster of one worker whose supervisor is this test."""

    def __init__(self, folder: Path) -> None:
        self.member = Member("worker-0", [], {}, folder, [])
        self.member.process = cast("subprocess.Popen[bytes]", psutil.Process())
        self.members = {TargetRole.WORKER: [self.member]}

    def inject(self, kind: FaultKind, seconds: float = 0.0) -> InjectedFault:
        found = FaultInjector(cast("ChaosCluster", self), [])
        found._inject(PlannedFault(1, 0.0, kind, 0, seconds, 3))
        return found.injected[0]


def test_a_killed_task_process_ends_its_attempt_and_no_other(guard: Tasks, marks: Path, tmp_path: Path) -> None:
    cluster = Supervised(tmp_path)
    keys = [call(guard, "record", marks, 60) for _ in range(2)]
    until(lambda: len(executions(marks)) == 2, "both tasks to run")
    assert cluster.inject(FaultKind.KILL_TASK_PROCESS).problem == ""

    def ends() -> list[Ended]:
        guard.pump(0.01)
        return [frame for frame in guard.frames if isinstance(frame, Ended)]

    until(lambda: bool(ends()), "an end")
    [end] = ends()
    assert (end.reason, end.signal) == (FailureReason.SIGNAL, 9)
    assert end.key in keys
    assert len(cluster.member.task_processes()) == 1


def test_a_task_process_that_was_stopped_goes_on(guard: Tasks, marks: Path, tmp_path: Path) -> None:
    cluster = Supervised(tmp_path)
    key = call(guard, "record", marks, 60)
    the_only(marks)
    seconds = 2 * recorder.GAP_NS / 1e9
    assert cluster.inject(FaultKind.STOP_TASK_PROCESS, seconds).problem == ""

    def has_gap() -> bool:
        spans = the_only(marks).spans
        return any(after[0] - before[1] >= recorder.GAP_NS / 1e6 for before, after in pairwise(spans))

    until(has_gap, "the gap of the stop")
    guard.stop(key, 10_000)
    assert guard.ended(key).reason is FailureReason.STOPPED


@pytest.mark.parametrize("kind", [FaultKind.KILL_ZYGOTE, FaultKind.STOP_ZYGOTE])
def test_a_task_runs_after_a_fault_of_the_zygote(guard: Tasks, marks: Path, tmp_path: Path, kind: FaultKind) -> None:
    guard.zygote()
    assert Supervised(tmp_path).inject(kind).problem == ""
    assert does(guard, "record", marks).reason is None


def test_a_process_that_is_not_there_is_not_hit(guard: Tasks, tmp_path: Path) -> None:
    guard.zygote()
    assert Supervised(tmp_path).inject(FaultKind.KILL_TASK_PROCESS).problem == NOT_RUNNING
    assert os.getpid() not in {process.pid for process in Supervised(tmp_path).member.guards()}
