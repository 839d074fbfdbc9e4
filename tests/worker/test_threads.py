"""Tasks marked idempotent under a real guard: threads of one warm process, and what becomes of them when it dies."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ftjm.core.model import FailureReason
from ftjm.worker.pool import _Threads
from ftjm.worker.protocol import Ended, Started
from ftjm.worker.taskwire import REFUSED, TOLD
from tests.worker.guarding import LIMIT, Tasks, alive, pid_in, until


@pytest.fixture
def tasks(tmp_path: Path):
    guard = Tasks(tmp_path / "attempts")
    yield guard
    guard.link.leave()
    assert not alive(guard.link.pid)


def result(end: Ended) -> dict[str, Any]:
    assert end.reason is None, end
    return msgspec.json.decode(end.result, type=dict[str, Any])


def pool(tasks: Tasks) -> int:
    """The pid of the process that threads share now."""
    return int(result(tasks.does("warm"))["pid"])


def begun(tasks: Tasks, key: str) -> int:
    return sum(isinstance(frame, Started) and frame.key == key for frame in tasks.frames)


def test_attempts_share_a_process_and_know_who_they_are(tasks: Tasks) -> None:
    first, second = tasks.does("warm", "a", attempt=4), tasks.does("warm", "b")
    one, two = result(first), result(second)
    assert one["pid"] == two["pid"] == one["group"], "one process, in a group of its own"
    assert one["parent"] == tasks.link.pid
    assert (one["job"], one["run_key"], one["attempt"]) == ("q/j1", "q/j1/3", 4)
    assert (two["job"], two["attempt"], two["checkpoint"]) == ("q/j2", 1, None)
    assert one["env"] == ["FTJM_POOL"], "what is told of one attempt is not in what all share"
    assert (first.stdout, first.stderr) == (b"hello a\n", b"oh a\nlogged a\n")
    assert (second.stdout, second.stderr) == (b"hello b\n", b"oh b\nlogged b\n")
    assert (first.exit_code, first.signal, first.scratch) == (0, 0, "")
    assert result(tasks.does("about"))["pid"] != one["pid"], "a task that is not marked has a process of its own"


def test_a_job_that_wants_its_own_of_what_threads_share_has_a_process(tasks: Tasks, tmp_path: Path) -> None:
    shared = pool(tasks)
    for own in ({"environment": {"A": "b"}}, {"working_directory": str(tmp_path)}, {"continue_for_ms": 1_000}):
        assert result(tasks.does("warm", **own))["pid"] != shared


def test_outputs_of_attempts_at_the_same_time_are_apart(tasks: Tasks, tmp_path: Path) -> None:
    keys = [tasks.call("warm_until", str(tmp_path / f"m{n}"), str(tmp_path / "go")) for n in range(5)]
    assert len({pid_in(tmp_path / f"m{n}") for n in range(5)}) == 1
    told = [tasks.does("warm", str(n)) for n in range(5)]
    assert [end.stdout for end in told] == [f"hello {n}\n".encode() for n in range(5)]
    (tmp_path / "go").touch()
    assert [tasks.ended(key).stdout for key in keys] == [b"begins\n"] * 5


def test_failures_say_what_they_are(tasks: Tasks) -> None:
    end = tasks.does("warm_fail", "raise")
    assert (end.reason, end.exit_code) == (FailureReason.EXCEPTION, 1)
    assert end.error.startswith("Traceback")
    assert end.error.endswith("ValueError: sad\n")
    assert end.stderr.decode() == end.error
    assert "taskrun.py" not in end.error
    end = tasks.does("warm_fail", "leave")
    assert (end.reason, end.exit_code) == (FailureReason.EXIT_CODE, 7)
    assert tasks.does("warm_fail", "set").reason is FailureReason.RESULT_REFUSED
    assert "TypeError" in tasks.does("warm", 1, 2, 3).error
    end = tasks.does("warm", payload=b"[")
    assert (end.reason, "JSON" in end.error) == (FailureReason.START_FAILED, True)
    large = tasks.does("warm", "x" * 300_000)
    assert (large.reason, large.stdout_cut) == (None, 300_007 - LIMIT)
    pool(tasks)


def test_the_last_checkpoint_and_new_ones(tasks: Tasks, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    key = tasks.call("warm_until", str(tmp_path / "m"), str(tmp_path / "go"), checkpoint=b'{"at":2}')
    assert result(tasks.ended(key))["checkpoint"] == {"at": 2}
    key = tasks.call("warm_until", str(tmp_path / "m2"), str(tmp_path / "no"))

    def heard() -> bool:
        tasks.pump(0.01)
        return bool(tasks.said(key))

    until(heard, "its checkpoint to be heard")
    assert msgspec.json.decode(tasks.said(key)[0].data) == {"pid": pid_in(tmp_path / "m2")}


def test_a_thread_that_follows_a_stop_leaves_its_process_alone(tasks: Tasks, tmp_path: Path) -> None:
    other = tasks.call("warm_until", str(tmp_path / "other"), str(tmp_path / "go"))
    stopped = tasks.call("warm_loop", str(tmp_path / "a"))
    late = tasks.call("warm_loop", str(tmp_path / "b"), timeout_ms=300)
    shared = pid_in(tmp_path / "a")
    tasks.stop(stopped, 9_000)
    end = tasks.ended(stopped)
    assert (end.reason, end.signal) == (FailureReason.STOPPED, 0)
    assert "in warm_loop" in end.stderr.decode(), "where it was"
    assert tasks.ended(late).reason is FailureReason.TIMEOUT
    assert [(tmp_path / name).read_text() for name in "ab"] == ["cleaned up"] * 2
    (tmp_path / "go").touch()
    assert result(tasks.ended(other))["pid"] == shared == pool(tasks)
    assert begun(tasks, other) == 1


@pytest.mark.parametrize("why", ["stop", "kill", "timeout"])
def test_a_thread_that_does_not_is_killed_with_its_process(tasks: Tasks, tmp_path: Path, why: str) -> None:
    timeout = {"timeout_ms": 300, "grace_ms": 200} if why == "timeout" else {}
    other = tasks.call("warm_until", str(tmp_path / "other"), str(tmp_path / "go"))
    shared = pid_in(tmp_path / "other")
    stuck = tasks.call("warm_stuck", str(tmp_path / "stuck"), **timeout)
    assert pid_in(tmp_path / "stuck") == shared
    if why != "timeout":
        tasks.stop(stuck, 200 if why == "stop" else 0)
    end = tasks.ended(stuck)
    reason = FailureReason.TIMEOUT if why == "timeout" else FailureReason.STOPPED
    assert (end.reason, end.signal) == (reason, signal.SIGKILL)
    assert not alive(shared)
    # The other one was taken along. It runs again, as the same attempt, by itself, from its checkpoint on.
    (tmp_path / "go").touch()
    again = result(tasks.ended(other))
    assert (again["pid"] != shared, again["checkpoint"], again["attempt"]) == (True, {"pid": shared}, 1)
    assert begun(tasks, other) == 2
    assert pool(tasks) not in (shared, again["pid"]), "and new ones share a new process"


def test_a_stop_that_comes_as_a_thread_begins_or_ends(tasks: Tasks) -> None:
    shared = pool(tasks)
    ends = []
    for number in range(300):
        key = tasks.call("warm", str(number))
        if number % 3:
            tasks.started(key)
        tasks.stop(key, 60_000)
        ends.append(tasks.ended(key))
    assert {end.reason for end in ends} <= {None, FailureReason.STOPPED}
    assert pool(tasks) == shared


def test_who_takes_the_process_along_is_found_and_nobody_else_pays(tasks: Tasks, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    others = [tasks.call("warm_until", str(tmp_path / f"m{n}"), go) for n in range(3)]
    shared = {pid_in(tmp_path / f"m{n}") for n in range(3)}
    guilty = tasks.call("warm_exit", go)
    tasks.started(guilty)
    (tmp_path / "go").touch()
    end = tasks.ended(guilty)
    assert (end.reason, end.exit_code) == (FailureReason.EXIT_CODE, 3)
    assert begun(tasks, guilty) == 2, "it was tried by itself"
    for key in others:
        assert tasks.ended(key).reason is None
    assert len(shared) == 1
    assert pool(tasks) not in shared


def test_a_process_that_is_killed_loses_no_attempt(tasks: Tasks, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    keys = [tasks.call("warm_until", str(tmp_path / f"m{n}"), go) for n in range(4)]
    os.kill(pid_in(tmp_path / "m0"), signal.SIGKILL)
    (tmp_path / "go").touch()
    pids = {result(tasks.ended(key))["pid"] for key in keys}
    assert len(pids) == 4, "each in a process of its own"


def test_a_lease_that_is_over_ends_it_at_once(tasks: Tasks, tmp_path: Path) -> None:
    keys = [tasks.call("warm_loop", str(tmp_path / "a")), tasks.call("warm_stuck", str(tmp_path / "b"))]
    shared = [pid_in(tmp_path / name) for name in "ab"]
    other = tasks.call("warm_child", str(tmp_path / "child"))
    tasks.ended(other)
    tasks.renew(100)
    assert [tasks.ended(key).reason for key in keys] == [FailureReason.LEASE_EXPIRED] * 2
    until(lambda: not any(map(alive, [*shared, pid_in(tmp_path / "child")])), "all to be gone, escaped ones too")
    tasks.renew(60_000)
    assert pool(tasks) not in shared


def test_another_session_in_the_same_process_goes_on(tasks: Tasks, tmp_path: Path) -> None:
    tasks.renew(60_000, "s-2")
    old = tasks.call("warm_stuck", str(tmp_path / "old"))
    new = tasks.call("warm_until", str(tmp_path / "new"), str(tmp_path / "go"), session="s-2")
    assert pid_in(tmp_path / "old") == pid_in(tmp_path / "new")
    tasks.renew(100)
    assert tasks.ended(old).reason is FailureReason.LEASE_EXPIRED
    (tmp_path / "go").touch()
    assert tasks.ended(new).reason is None


def test_a_process_that_hangs_is_killed_and_its_attempts_run_elsewhere(tasks: Tasks, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    running = tasks.call("warm_until", str(tmp_path / "m"), go)
    shared = pid_in(tmp_path / "m")
    os.kill(shared, signal.SIGSTOP)
    stopped = tasks.call("warm_loop", str(tmp_path / "never"))
    tasks.stop(stopped, 5_000)
    assert tasks.ended(stopped).reason is FailureReason.STOPPED, "it had not begun: nothing is waited for"
    (tmp_path / "go").touch()
    assert result(tasks.does("warm"))["pid"] != shared
    assert result(tasks.ended(running))["pid"] != shared
    assert not alive(shared)
    assert not (tmp_path / "never").exists()


def test_what_was_given_up_before_it_began_finds_no_orders(tasks: Tasks, tmp_path: Path) -> None:
    shared = pool(tasks)
    os.kill(shared, signal.SIGSTOP)
    key = tasks.call("warm_loop", str(tmp_path / "never"))
    tasks.stop(key, 0)
    assert tasks.ended(key).reason is FailureReason.STOPPED
    os.kill(shared, signal.SIGCONT)
    assert pool(tasks) == shared
    assert not (tmp_path / "never").exists()
    assert begun(tasks, key) == 0


def test_a_zygote_that_dies_before_it_has_forked_the_process(tasks: Tasks) -> None:
    tasks.does("add", 1)
    zygote = tasks.zygote()
    os.kill(zygote, signal.SIGSTOP)
    key = tasks.call("warm")
    os.kill(zygote, signal.SIGKILL)
    alone = result(tasks.ended(key))["pid"]
    assert pool(tasks) != alone


def test_without_descriptors_a_thread_is_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        _Threads(theirs)._start(7, [os.open(os.devnull, os.O_RDONLY)])
        assert TOLD.unpack(ours.recv(TOLD.size)) == (REFUSED, 7, 0)


def test_nothing_is_left_when_the_guard_is_killed(tmp_path: Path) -> None:
    guard = Tasks(tmp_path / "attempts")
    try:
        guard.call("warm_stuck", str(tmp_path / "stuck"))
        shared = pid_in(tmp_path / "stuck")
    finally:
        guard.link.kill()
    until(lambda: not alive(shared), "the process that threads share to end")
