"""Processes of Python tasks are kept: what one attempt does never reaches the next."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts import attempt_files
from ftjm.worker.attempts.protocol import Ended, Start, Warned
from ftjm.worker.executors.python.call import Return
from ftjm.worker.executors.python.task_attempt import TaskAttempt
from ftjm.worker.guard.link import GuardLink
from tests.worker import state_tasks
from tests.worker.guarding import LIMIT, Tasks, alive, freeze, pid_in, until

APP = "tests.worker.state_tasks"


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Tasks]:
    guard = Tasks(tmp_path / "attempts", (APP,))
    yield guard
    guard.link.leave()
    assert not alive(guard.link.pid)


def result(end: Ended) -> Any:
    assert end.reason is None, end
    return msgspec.json.decode(end.result)


def warnings(tasks: Tasks) -> list[str]:
    return [frame.text for frame in tasks.frames if isinstance(frame, Warned)]


def test_attempts_use_one_process_again(tasks: Tasks) -> None:
    pids = {result(tasks.does("pid")) for _ in range(5)}
    assert len(pids) == 1
    assert pids == {result(tasks.does("prints", "a"))}, "also those of other tasks"
    assert warnings(tasks) == []


def test_there_are_as_many_processes_as_attempts_at_once(tasks: Tasks, tmp_path: Path) -> None:
    keys = [tasks.call("waits", str(tmp_path / str(n))) for n in range(3)]
    busy = {pid_in(tmp_path / str(n)) for n in range(3)}
    assert len(busy) == 3
    other = result(tasks.does("pid"))
    assert other not in busy
    assert result(tasks.does("pid")) == other
    for key in keys:
        tasks.stop(key, 0)
        assert tasks.ended(key).reason is FailureReason.STOPPED
    assert result(tasks.does("pid")) == other


@pytest.mark.parametrize("how", ["returns", "raises", "exits"])
@pytest.mark.parametrize("what", list(state_tasks.CHANGES))
def test_no_change_reaches_the_next_attempt(tasks: Tasks, what: str, how: str) -> None:
    before = result(tasks.does("state"))
    process = result(tasks.does("pid"))
    tasks.does("changes", what, how)
    assert result(tasks.does("state")) == before
    assert result(tasks.does("pid")) == process
    assert warnings(tasks) == []


def test_random_numbers_are_each_attempts_own(tasks: Tasks) -> None:
    seeded = result(tasks.does("drawn", 7))
    first, second = (result(tasks.does("drawn")) for _ in range(2))
    assert first != second
    tasks.does("drawn", 7)
    assert result(tasks.does("drawn")) != seeded


def test_the_environment_of_a_job_is_its_own(tasks: Tasks) -> None:
    def names(**given: Any) -> set[str]:
        return set(result(tasks.does("state", **given))["environment"])

    plain = names()
    assert names(environment={"MINE": "1", "HOME": "/mine"}) == plain | {"MINE"}
    assert names() == plain
    assert result(tasks.does("state"))["home"] != "/mine"


def test_what_cannot_be_restored_ends_the_process(tasks: Tasks) -> None:
    why = {
        "hard_limit": "its state cannot be restored" if os.getuid() else "",
        "root": "root directory",
        "user": "user",
        "descriptors": "64 descriptors open",
        "standard_output": "replaced descriptors",
        "closed": "a standard stream is closed",
        "thread": "threads that are no daemons",
        "child": "left processes behind",
        "nice": "priority",
        "garbage": "",
    }
    for what, reason in why.items():
        if what in ("root", "user") and os.getuid():
            continue
        seen = len(warnings(tasks))
        spoilt = result(tasks.does("spoils", what))
        if what == "hard_limit" and not os.getuid():
            continue  # root raises it again
        assert result(tasks.does("pid")) != spoilt, what
        until(lambda: not alive(spoilt), f"the process of {what} to end")  # noqa: B023
        if reason:
            [text] = warnings(tasks)[seen:]
            assert "task spoils" in text
            assert reason in text
            tasks.does("spoils", what)
            assert len(warnings(tasks)) == seen + 1, "it is told once"


def test_a_process_is_replaced_after_some_tasks_and_above_some_memory(tmp_path: Path) -> None:
    guard = Tasks(tmp_path / "attempts", (APP,), tasks_per_process=3, memory_per_process_mb=48)
    try:
        pids = [result(guard.does("pid")) for _ in range(7)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
        large = result(guard.does("spoils", "memory"))
        assert large == pids[-1]
        assert result(guard.does("pid")) != large
        assert warnings(guard) == []
    finally:
        guard.link.leave()


def test_an_isolated_task_has_a_new_process_each_time(tasks: Tasks) -> None:
    kept = result(tasks.does("pid"))
    pids = {result(tasks.does("alone")) for _ in range(3)}
    assert len(pids) == 3
    assert kept not in pids
    assert result(tasks.does("pid")) == kept
    until(lambda: not any(map(alive, pids)), "the processes to end")


def test_outputs_are_each_attempts_own(tasks: Tasks) -> None:
    for number in range(20):
        end = tasks.does("prints", f"text-{number}")
        text = f"text-{number}"
        assert (end.stdout.decode(), end.stderr.decode()) == (f"{text}\n", f"{text[::-1]}\n")
    much = tasks.does("prints", "x" * 99, 30_000)
    assert (len(much.stdout), much.stdout_cut) == (LIMIT, 3_000_000 - LIMIT)
    after = tasks.does("prints", "y")
    assert (after.stdout, after.stdout_cut, after.stderr) == (b"y\n", 0, b"y\n")
    assert result(after) == result(much)


def test_a_process_that_escapes_prints_into_no_other_attempt(tasks: Tasks, tmp_path: Path) -> None:
    first = result(tasks.does("escapes", str(tmp_path / "mark")))
    escaped = pid_in(tmp_path / "mark")
    after = tasks.does("prints", "y")
    assert after.stdout == b"y\n"
    assert result(after) != first
    until(lambda: not alive(escaped), "the escaped process to end")
    assert ["left processes behind" in text for text in warnings(tasks)] == [True]


def test_a_late_checkpoint_of_a_thread_is_no_others(tasks: Tasks, tmp_path: Path) -> None:
    go, done = str(tmp_path / "go"), str(tmp_path / "go.done")
    process = result(tasks.does("daemon", go))
    key = tasks.call("checks", go, done)
    assert tasks.ended(key).reason is FailureReason.EXCEPTION
    assert tasks.checkpoints(key) == []
    assert Path(done).read_text() == "q/j1"
    assert result(tasks.does("pid")) == process, "daemon threads do not end a process"


def test_a_stop_never_reaches_the_next_attempt(tasks: Tasks) -> None:
    reasons = set()
    for number in range(150):
        key = tasks.call("echo", str(number))
        if number % 3:
            tasks.started(key)
        tasks.stop(key, 60_000)
        other = tasks.call("echo", "other")
        assert result(tasks.ended(other)) == "other"
        reasons.add(tasks.ended(key).reason)
    assert reasons <= {None, FailureReason.STOPPED}


def test_a_stopped_attempt_ends_its_process(tasks: Tasks, tmp_path: Path) -> None:
    key = tasks.call("waits", str(tmp_path / "a"))
    process = pid_in(tmp_path / "a")
    tasks.stop(key, 5_000)
    end = tasks.ended(key)
    assert (end.reason, end.signal) == (FailureReason.STOPPED, signal.SIGTERM)
    assert not alive(process)
    assert result(tasks.does("pid")) != process


def test_a_process_that_dies_takes_its_own_attempt(tasks: Tasks, tmp_path: Path) -> None:
    other = tasks.call("waits", str(tmp_path / "other"))
    pid_in(tmp_path / "other")
    before = result(tasks.does("pid"))
    end = tasks.does("dies")
    assert (end.reason, end.exit_code, end.error) == (FailureReason.EXIT_CODE, 3, "exit status 3")
    after = result(tasks.does("pid"))
    assert after != before
    os.kill(after, signal.SIGKILL)  # a process that waits for an attempt
    until(lambda: not alive(after), "it to die")
    assert result(tasks.does("pid")) not in (after, before)
    tasks.stop(other, 0)
    assert tasks.ended(other).reason is FailureReason.STOPPED


def test_a_process_that_waits_ends_by_a_signal_from_elsewhere(tasks: Tasks) -> None:
    process = result(tasks.does("pid"))
    os.kill(process, signal.SIGTERM)
    until(lambda: not alive(process), "it to end")
    assert result(tasks.does("pid")) != process


def test_a_forked_child_does_not_answer_for_its_parent(tasks: Tasks) -> None:
    process = result(tasks.does("pid"))
    assert result(tasks.does("forks")) == process
    assert result(tasks.does("pid")) == process


def test_large_calls_and_results_pass(tmp_path: Path) -> None:
    guard = Tasks(tmp_path / "attempts", (APP,), limit=1_000_000)
    try:
        text = "\N{SNOWMAN}x" * 200_000
        assert result(guard.does("echo", text)) == text
        end = guard.does("echo", "x" * 1_100_000)
        assert end.reason is FailureReason.RESULT_REFUSED
        assert "found 1100002" in end.error
    finally:
        guard.link.leave()


def test_what_is_no_json_is_no_result(tmp_path: Path) -> None:
    """A task may write to its connection, and so return anything."""
    texts = dict.fromkeys(("key", "session", "queue", "job_id", "executor", "working_directory"), "")
    numbers = dict.fromkeys(("run", "attempt", "timeout_ms", "grace_ms", "continue_for_ms"), 0)
    start = msgspec.convert({"command": ["t"], "payload": b"", "environment": {}, **texts, **numbers}, Start)
    for content in (b"\xff\xfe", b"{", b"[" * 500, b"nan"):
        attempt = TaskAttempt(start, tmp_path, LIMIT)
        attempt.returned = Return(attempt.mark, 0, content, len(content))
        result, error = attempt.result(attempt_files.Found(0))
        assert result == b""
        assert "expected a result of JSON" in error


def test_a_directory_is_used_again_only_if_it_is_empty(tasks: Tasks, tmp_path: Path) -> None:
    for _ in range(3):
        tasks.does("pid")
    assert len(list((tmp_path / "attempts").iterdir())) == 1
    end = tasks.does("changes", "directory")
    assert Path(end.scratch, "work/left").read_text() == "left", "the supervisor removes it"
    assert result(tasks.does("state"))["directory is empty"]
    key = tasks.call("pid", checkpoint=b"[1]")
    process = result(tasks.ended(key))
    assert result(tasks.does("pid")) == process
    assert not list((tmp_path / "attempts").glob("*/last-checkpoint.json"))


def test_no_process_is_left_when_the_guard_is_killed(tmp_path: Path) -> None:
    guard = Tasks(tmp_path / "attempts", (APP,))
    try:
        idle = result(guard.does("pid"))
        os.kill(guard.link.pid, signal.SIGKILL)
        until(lambda: not alive(idle), "the process that waits to end with its guard")
    finally:
        guard.link.kill()


def test_a_process_that_does_not_take_its_call_is_stopped_in_time(tasks: Tasks) -> None:
    process = result(tasks.does("pid"))
    freeze(process)
    end = tasks.does("pid", timeout_ms=300, grace_ms=200)
    assert (end.reason, end.signal) == (FailureReason.TIMEOUT, signal.SIGKILL)
    assert result(tasks.does("pid")) != process


def test_the_settings_reach_the_guard(tmp_path: Path) -> None:
    link = GuardLink(tmp_path, LIMIT, (), tasks_per_process=7, memory_per_process_mb=9)
    try:
        commands = Path(f"/proc/{link.pid}/cmdline")
        until(lambda: commands.read_bytes().split(b"\0")[-4:-1] == [str(LIMIT).encode(), b"7", b"9"], "its arguments")
    finally:
        link.leave()
