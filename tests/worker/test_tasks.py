"""Python tasks under a real guard: forked from a warm zygote, and stopped, judged and cleaned up as commands are."""

import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from ftjm.clock import boot_ms
from ftjm.core.attempts import CHECKPOINT_BYTES_MAX
from ftjm.core.model import FailureReason
from ftjm.worker import asking, forks
from ftjm.worker.protocol import Renew, Started
from tests.worker.guarding import APP, LIMIT, Tasks, alive, guarded, pid_in, until


@pytest.fixture
def tasks(tmp_path: Path):
    guard = Tasks(tmp_path / "attempts")
    yield guard
    guard.link.leave()
    assert not alive(guard.link.pid)


def test_a_result_and_output_and_a_process_of_its_own(tasks: Tasks, tmp_path: Path) -> None:
    end = tasks.does("about")
    assert (end.reason, end.stdout, end.stderr) == (None, b"hello\n", b"oh\n")
    told = msgspec.json.decode(end.result)
    assert told["group"] == told["pid"]
    assert told["parent"] == tasks.link.pid, "the guard is the parent of all attempts"
    assert told["cwd"].startswith(str(tmp_path))
    assert told["env"]["FTJM_RUN_KEY"] == "q/j1/3"
    assert set(told["env"]) >= {"FTJM_JOB_ID", "FTJM_ATTEMPT", "FTJM_RUN", "FTJM_QUEUE", "FTJM_CHECKPOINT_FILE"}
    assert tasks.does("add", 20, 22).result == b"42"
    assert tasks.does("returns", "none").result == b""


def test_apps_are_imported_once(tasks: Tasks) -> None:
    first, second = (msgspec.json.decode(tasks.does("imported").result) for _ in range(2))
    assert first[0] == second[0] == tasks.zygote()
    assert first[1] != second[1]


def test_what_tasks_do_not_need_makes_no_fork_slower(tasks: Tasks) -> None:
    assert tasks.does("loaded", ["pydantic", "_hashlib", "ctypes", "msgspec"]).result == b'["msgspec"]'


def test_failures_say_what_they_are(tasks: Tasks) -> None:
    end = tasks.does("fail", "sad")
    assert (end.reason, end.exit_code) == (FailureReason.EXCEPTION, 1)
    assert end.error.startswith("Traceback")
    assert end.error.endswith("ValueError: sad\n")
    assert "taskrun.py" not in end.error, "our own frames tell nobody anything"
    assert end.stderr.decode() == end.error
    assert len(tasks.does("fail", "x" * 100_000).error) < 20_000
    end = tasks.does("leave", 7)
    assert (end.reason, end.exit_code, end.error) == (FailureReason.EXIT_CODE, 7, "exit status 7")
    assert tasks.does("leave", 0).reason is None
    assert tasks.does("add", "one", 1).reason is FailureReason.EXCEPTION


def test_what_cannot_be_a_result_is_refused(tasks: Tasks) -> None:
    end = tasks.does("returns", "set")
    assert end.reason is FailureReason.RESULT_REFUSED
    assert "expected what JSON can hold, but found set" in end.error
    end = tasks.does("returns", "text", LIMIT)
    assert end.reason is FailureReason.RESULT_REFUSED
    assert f"at most {LIMIT} bytes, but found {LIMIT + 2}; store it elsewhere" in end.error


def test_what_cannot_be_started_says_why(tasks: Tasks, tmp_path: Path) -> None:
    for end, says in [
        (tasks.does("subtract"), "'subtract'"),
        (tasks.does("subtract"), "about, add, fail"),
        (tasks.does("add", working_directory="/no/such/place"), "/no/such/place"),
        (tasks.does("add", payload=b"[1]"), '"args"'),
        (tasks.does("add", payload=b"{"), "JSON"),
    ]:
        assert end.reason is FailureReason.START_FAILED
        assert says in end.error
    with guarded(tmp_path / "without") as plain:
        end = plain.run("add", executor="python")
    assert (end.reason, "--app" in end.error, "'add'" in end.error) == (FailureReason.START_FAILED, True, True)


def test_stops_kills_and_time_outs(tasks: Tasks, tmp_path: Path) -> None:
    end = tasks.does("sleep", str(tmp_path / "a"), timeout_ms=300)
    assert (end.reason, end.signal) == (FailureReason.TIMEOUT, signal.SIGTERM)
    key = tasks.call("sleep", str(tmp_path / "b"))
    pid_in(tmp_path / "b")
    tasks.stop(key, 5_000)
    assert tasks.ended(key).reason is FailureReason.STOPPED
    key = tasks.call("sleep", str(tmp_path / "c"))
    os.kill(pid_in(tmp_path / "c"), signal.SIGKILL)
    end = tasks.ended(key)
    assert (end.reason, end.signal) == (FailureReason.SIGNAL, signal.SIGKILL)
    key = tasks.call("sleep", str(tmp_path / "d"))
    pid = pid_in(tmp_path / "d")
    tasks.renew(100)
    assert tasks.ended(key).reason is FailureReason.LEASE_EXPIRED
    assert not alive(pid)


def test_nothing_that_a_task_leaves_behind_goes_on(tasks: Tasks, tmp_path: Path) -> None:
    assert tasks.does("leaves_processes", str(tmp_path / "pid")).reason is None
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the escaped process dies")
    assert tasks.does("thread").stdout == b"from the thread\n"


def test_a_killed_task_leaves_others_alone(tasks: Tasks, tmp_path: Path) -> None:
    first, second = (tasks.call("sleep", str(tmp_path / name), 0.5) for name in "ab")
    os.kill(pid_in(tmp_path / "a"), signal.SIGKILL)
    assert tasks.ended(first).reason is FailureReason.SIGNAL
    assert tasks.ended(second).result == b'"slept"'


def test_a_zygote_that_dies_or_hangs_is_replaced(tasks: Tasks, monkeypatch, tmp_path: Path) -> None:
    running = tasks.call("sleep", str(tmp_path / "a"), 1)
    pid_in(tmp_path / "a")
    before = tasks.zygote()
    os.kill(before, signal.SIGKILL)
    assert tasks.does("add", 1).result == b"2"
    assert tasks.ended(running).result == b'"slept"', "what it forked does not go with it"
    os.kill(tasks.zygote(), signal.SIGSTOP)
    begun = time.monotonic()
    assert tasks.does("add", 2).result == b"3"
    assert time.monotonic() - begun >= asking.PATIENCE_MS / 1000 - 0.5


def test_while_the_zygote_hangs_deadlines_and_stops_hold(tasks: Tasks) -> None:
    tasks.does("add", 1)
    zygote = tasks.zygote()
    os.kill(zygote, signal.SIGSTOP)
    key = tasks.call("add", 1)
    tasks.stop(key, 1_000)
    assert tasks.ended(key).reason is FailureReason.STOPPED
    key = tasks.call("add", 1)
    tasks.link.send(Renew(session="s-1", deadline_ms=boot_ms() + 200))
    assert tasks.ended(key).reason is FailureReason.LEASE_EXPIRED
    os.kill(zygote, signal.SIGCONT)
    tasks.renew(60_000)
    # What it forks now, for nobody, finds no orders.
    assert tasks.does("add", 1).result == b"2"
    assert not [frame for frame in tasks.frames if isinstance(frame, Started) and frame.key == key]


def test_an_app_that_breaks_later_fails_its_attempts(tmp_path: Path) -> None:
    guard = Tasks(tmp_path / "attempts", ("tests.worker.no_such_app",))
    try:
        end = guard.does("add", 1)
    finally:
        guard.link.leave()
    assert end.reason is FailureReason.START_FAILED
    assert "no module named 'tests.worker.no_such_app'" in end.error


def test_apps_are_checked_before_anything_runs() -> None:
    names, error = forks.check([APP])
    assert (error, "add" in names) == ("", True)
    names, error = forks.check(["tests.worker.no_such_app"])
    assert "cannot import tests.worker.no_such_app" in error


def test_checkpoints_and_progress_of_a_task(tasks: Tasks) -> None:
    key = tasks.call("steps", 3, checkpoint=b'{"at":2}')
    assert tasks.ended(key).reason is FailureReason.EXCEPTION
    [said] = tasks.said(key)
    assert msgspec.json.decode(said.data) == {"before": {"at": 2}, "steps": 3}
    assert (said.progress, said.text) == (0.5, "half")


def test_checkpoints_of_a_command(tasks: Tasks) -> None:
    script = 'cat "$FTJM_LAST_CHECKPOINT_FILE" > "$FTJM_CHECKPOINT_FILE"; sleep 0.6; echo 7 > "$FTJM_CHECKPOINT_FILE"'
    key = tasks.start("sh", "-c", f"{script}; exit 1", checkpoint=b"[1]")
    tasks.ended(key)
    assert [said.data for said in tasks.said(key)] == [b"[1]", b"7\n"]
    key = tasks.start("sh", "-c", 'for i in 1 2 3 4 5 6; do echo $i > "$FTJM_CHECKPOINT_FILE"; sleep 0.3; done')
    tasks.ended(key)
    assert len(tasks.said(key)) <= 3, "at most one a second"


def test_what_is_no_checkpoint_is_passed_over(tasks: Tasks) -> None:
    key = tasks.start(
        "sh", "-c", 'printf "{\\"half\\":" > "$FTJM_CHECKPOINT_FILE"; mkfifo "$FTJM_PROGRESS_FILE"; exit 1'
    )
    tasks.ended(key)
    assert tasks.said(key) == []
    big = f'head -c {CHECKPOINT_BYTES_MAX + 9} /dev/zero > "$FTJM_CHECKPOINT_FILE"; exit 1'
    key = tasks.start("sh", "-c", big)
    tasks.ended(key)
    assert [(said.data, "checkpoint refused" in said.text) for said in tasks.said(key)] == [(b"", True)]
