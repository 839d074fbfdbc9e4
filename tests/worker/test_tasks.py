"""Python tasks under a real guard: forked from a warm zygote, and stopped, reported and cleaned up like commands."""

import functools
import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from ftjm.core.limits import CHECKPOINT_BYTES_MAX
from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.protocol import Renew, Started
from ftjm.worker.executors.python import pending, zygote_link
from ftjm.worker.rules import reports
from tests.worker import dying_app
from tests.worker.guarding import APP, LIMIT, Tasks, alive, freeze, guarded, pid_in, until


@pytest.fixture
def tasks(tmp_path: Path):
    guard = Tasks(tmp_path / "attempts")
    yield guard
    guard.link.leave()
    assert not alive(guard.link.pid)


def test_a_task_has_a_result_outputs_and_its_own_process(tasks: Tasks, tmp_path: Path) -> None:
    end = tasks.does("about")
    assert (end.reason, end.stdout, end.stderr) == (None, b"hello\n", b"oh\n")
    result = msgspec.json.decode(end.result)
    assert result["group"] == result["pid"]
    assert result["parent"] == tasks.link.pid, "the guard is the parent of all attempts"
    assert result["cwd"].startswith(str(tmp_path))
    assert result["env"]["FTJM_RUN_KEY"] == "q/j1/3"
    assert set(result["env"]) >= {"FTJM_JOB_ID", "FTJM_ATTEMPT", "FTJM_RUN", "FTJM_QUEUE", "FTJM_CHECKPOINT_FILE"}
    assert tasks.does("add", 20, 22).result == b"42"
    assert tasks.does("returns", "none").result == b""


def test_apps_are_imported_once(tasks: Tasks) -> None:
    first, second = (msgspec.json.decode(tasks.does(task).result) for task in ("imported", "imported_alone"))
    assert first[0] == second[0] == tasks.zygote()
    assert first[1] != second[1]


def test_a_fork_has_only_modules_that_tasks_need(tasks: Tasks) -> None:
    assert tasks.does("loaded", ["pydantic", "_hashlib", "ctypes", "msgspec"]).result == b'["msgspec"]'


def test_failures_have_their_reason_and_traceback(tasks: Tasks) -> None:
    end = tasks.does("fail", "sad")
    assert (end.reason, end.exit_code) == (FailureReason.EXCEPTION, 1)
    assert end.error.startswith("Traceback")
    assert end.error.endswith("ValueError: sad\n")
    assert "run_task.py" not in end.error, "frames of ftjm do not help the user"
    assert end.stderr.decode() == end.error
    assert len(tasks.does("fail", "x" * 100_000).error) < 20_000
    end = tasks.does("leave", 7)
    assert (end.reason, end.exit_code, end.error) == (FailureReason.EXIT_CODE, 7, "exit status 7")
    assert tasks.does("leave", 0).reason is None
    assert tasks.does("add", "one", 1).reason is FailureReason.EXCEPTION


def test_a_value_that_cannot_be_a_result_is_refused(tasks: Tasks) -> None:
    end = tasks.does("returns", "set")
    assert end.reason is FailureReason.RESULT_REFUSED
    assert "expected what JSON can hold, but found set" in end.error
    end = tasks.does("returns", "text", LIMIT)
    assert end.reason is FailureReason.RESULT_REFUSED
    assert f"at most {LIMIT} bytes, but found {LIMIT + 2}; store it elsewhere" in end.error


def test_a_task_that_cannot_be_started_says_why(tasks: Tasks, tmp_path: Path) -> None:
    for end, message in [
        (tasks.does("subtract"), "'subtract'"),
        (tasks.does("subtract"), "about, add, add_alone, closes_all"),
        (tasks.does("add", working_directory="/no/such/place"), "/no/such/place"),
        (tasks.does("add", payload=b"[1]"), '"args"'),
        (tasks.does("add", payload=b"{"), "JSON"),
    ]:
        assert end.reason is FailureReason.START_FAILED
        assert message in end.error
    with guarded(tmp_path / "without") as plain:
        end = plain.run("add", executor="python")
    assert (end.reason, "--app" in end.error, "'add'" in end.error) == (FailureReason.START_FAILED, True, True)


def test_tasks_are_stopped_killed_and_timed_out(tasks: Tasks, tmp_path: Path) -> None:
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


def test_processes_that_a_task_leaves_behind_are_killed(tasks: Tasks, tmp_path: Path) -> None:
    assert tasks.does("leaves_processes", str(tmp_path / "pid")).reason is None
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the escaped process dies")
    assert tasks.does("thread").stdout == b"from the thread\n"


def test_a_killed_task_leaves_others_alone(tasks: Tasks, tmp_path: Path) -> None:
    first, second = tasks.call("sleep", str(tmp_path / "a")), tasks.call("sleep", str(tmp_path / "b"), 2)
    os.kill(pid_in(tmp_path / "a"), signal.SIGKILL)
    assert tasks.ended(first).reason is FailureReason.SIGNAL
    assert tasks.ended(second).result == b'"slept"'


def test_a_zygote_that_dies_or_hangs_is_replaced(tasks: Tasks, monkeypatch, tmp_path: Path) -> None:
    running = tasks.call("sleep", str(tmp_path / "a"), 1)
    pid_in(tmp_path / "a")
    before = tasks.zygote()
    os.kill(before, signal.SIGKILL)
    assert tasks.does("add_alone", 1).result == b"2", "by the next zygote"
    assert tasks.ended(running).result == b'"slept"', "attempts survive the zygote that forked them"
    freeze(tasks.zygote())
    begun = time.monotonic()
    assert tasks.does("add_alone", 2).result == b"3"
    assert time.monotonic() - begun >= pending.ANSWER_MS / 1000 - 0.5


def test_deadlines_and_stops_hold_while_the_zygote_hangs(tasks: Tasks) -> None:
    tasks.does("add", 1)
    zygote = tasks.zygote()
    freeze(zygote)
    key = tasks.call("add_alone", 1)
    tasks.stop(key, 1_000)
    assert tasks.ended(key).reason is FailureReason.STOPPED
    key = tasks.call("add_alone", 1)
    tasks.send(Renew(session="s-1", deadline_ms=boot_ms() + 200))
    assert tasks.ended(key).reason is FailureReason.LEASE_EXPIRED
    os.kill(zygote, signal.SIGCONT)
    tasks.renew(600_000)
    # A process that the zygote forks now finds no call, since its attempt has ended.
    assert tasks.does("add_alone", 1).result == b"2"
    assert not [frame for frame in tasks.frames if isinstance(frame, Started) and frame.key == key]


def test_an_app_that_breaks_later_fails_its_attempts(tmp_path: Path) -> None:
    guard = Tasks(tmp_path / "attempts", ("tests.worker.no_such_app",))
    try:
        end = guard.does("add", 1)
    finally:
        guard.link.leave()
    assert end.reason is FailureReason.START_FAILED
    assert "no module named 'tests.worker.no_such_app'" in end.error


@pytest.mark.parametrize("deaths", [zygote_link.DEATHS_MAX - 1, zygote_link.DEATHS_MAX])
def test_a_zygote_that_dies_while_it_imports_the_apps_is_replaced(tmp_path: Path, monkeypatch, deaths: int) -> None:
    left = tmp_path / "deaths"
    # If the second attempt comes late, the apps are imported once more, and fail in the same way.
    left.write_bytes(b"x" * (deaths if deaths < zygote_link.DEATHS_MAX else 50))
    monkeypatch.setenv(dying_app.DEATHS, str(left))
    guard = Tasks(tmp_path / "attempts", ("tests.worker.dying_app",))
    try:
        end = guard.does("tests.worker.dying_app.add", 1)
        if deaths < zygote_link.DEATHS_MAX:
            assert left.stat().st_size == 0
            assert (end.reason, end.result) == (None, b"2")
        else:
            assert left.stat().st_size == 50 - deaths
            assert end.reason is FailureReason.START_FAILED
            again = guard.does("tests.worker.dying_app.add", 1)
            assert again.reason is FailureReason.START_FAILED
            assert "could not be imported: the process that did so died" in again.error
    finally:
        guard.link.leave()


def test_a_zygote_whose_guard_has_gone_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    command = [sys.executable, "-m", "ftjm.worker.executors.python.zygote", "tests.worker.dying_app"]
    with theirs:
        done = subprocess.run(command, stdin=theirs.fileno(), capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_apps_are_checked_before_anything_runs() -> None:
    names, error = zygote_link.check_apps([APP])
    assert (error, "add" in names) == ("", True)
    names, error = zygote_link.check_apps(["tests.worker.no_such_app"])
    assert "cannot import tests.worker.no_such_app" in error


def test_apps_are_checked_again_if_the_process_that_imports_them_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = tmp_path / "deaths"
    monkeypatch.setenv(dying_app.DEATHS, str(deaths))
    deaths.write_bytes(bytes(zygote_link.DEATHS_MAX - 1))
    names, error = zygote_link.check_apps(["tests.worker.dying_app"])
    assert (names, error) == (["tests.worker.dying_app.add"], "")
    deaths.write_bytes(bytes(zygote_link.DEATHS_MAX))
    names, error = zygote_link.check_apps(["tests.worker.dying_app"])
    assert (names, error) == ([], "the process that imported them died, 3 times in a row")


def test_checkpoints_and_progress_of_a_task_are_reported(tasks: Tasks) -> None:
    key = tasks.call("steps", 3, checkpoint=b'{"at":2}')
    assert tasks.ended(key).reason is FailureReason.EXCEPTION
    # The guard may have looked between the two.
    frame = functools.reduce(reports.merged, tasks.checkpoints(key), None)
    assert frame is not None
    assert msgspec.json.decode(frame.data) == {"before": {"at": 2}, "steps": 3}
    assert (frame.progress, frame.text) == (0.5, "half")


def test_checkpoints_of_a_command_are_reported(tasks: Tasks, tmp_path: Path) -> None:
    wait = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done"
    first = 'cat "$FTJM_LAST_CHECKPOINT_FILE" > "$FTJM_CHECKPOINT_FILE"'
    key = tasks.start("sh", "-c", f'{first}; {wait}; echo 7 > "$FTJM_CHECKPOINT_FILE"; exit 1', checkpoint=b"[1]")

    def is_reported() -> bool:
        tasks.pump(0.05)
        return bool(tasks.checkpoints(key))

    until(is_reported, "the first checkpoint")
    (tmp_path / "go").touch()
    tasks.ended(key)
    assert [frame.data for frame in tasks.checkpoints(key)] == [b"[1]", b"7\n"]
    key = tasks.start("sh", "-c", 'for i in 1 2 3 4 5 6; do echo $i > "$FTJM_CHECKPOINT_FILE"; sleep 0.3; done')
    end = tasks.ended(key)
    assert len(tasks.checkpoints(key)) <= 2 + (end.ended_at - end.started_at) // 1000, "at most one a second"


def test_a_failed_attempt_says_which_file_was_no_checkpoint(tasks: Tasks) -> None:
    key = tasks.start(
        "sh", "-c", 'printf "{\\"half\\":" > "$FTJM_CHECKPOINT_FILE"; mkfifo "$FTJM_PROGRESS_FILE"; exit 1'
    )
    tasks.ended(key)
    frame = tasks.checkpoints(key)[-1]
    assert (frame.data, frame.progress) == (b"", -1.0)
    assert "FTJM_CHECKPOINT_FILE: expected JSON of at most" in frame.text
    assert "FTJM_PROGRESS_FILE: expected" in frame.text
    big = f'head -c {CHECKPOINT_BYTES_MAX + 9} /dev/zero > "$FTJM_CHECKPOINT_FILE"; exit 1'
    key = tasks.start("sh", "-c", big)
    tasks.ended(key)
    assert {(frame.data, "FTJM_CHECKPOINT_FILE" in frame.text) for frame in tasks.checkpoints(key)} == {(b"", True)}


def test_what_a_task_leaves_open_is_written_at_its_end(tasks: Tasks, tmp_path: Path) -> None:
    end = tasks.does("leaves_open", str(tmp_path), environment={"MARKS": str(tmp_path)})
    assert (end.reason, end.exit_code) == (None, 0), end
    marks = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file() and path.name != "gzip"}
    assert marks == dict.fromkeys(("text", "bytes", "exit", "thread", "inherited"), "data") | {"log": "data\n"}
    assert gzip.decompress((tmp_path / "gzip").read_bytes()) == b"data"
    assert not Path(msgspec.json.decode(end.result)).exists()


@pytest.mark.parametrize("how", ["stop", "timeout", "from elsewhere"])
def test_a_task_that_is_stopped_runs_its_finally_within_the_grace(tasks: Tasks, tmp_path: Path, how: str) -> None:
    key = tasks.call("stops_tidily", str(tmp_path), timeout_ms=5_000 if how == "timeout" else 0)
    pid = pid_in(tmp_path / "pid")
    if how == "stop":
        tasks.stop(key, 9_000)
    elif how == "from elsewhere":
        os.kill(pid, signal.SIGTERM)
    end = tasks.ended(key)
    reason = {"stop": FailureReason.STOPPED, "timeout": FailureReason.TIMEOUT}.get(how, FailureReason.SIGNAL)
    assert (end.reason, end.signal) == (reason, signal.SIGTERM)
    assert [(tmp_path / name).read_text() for name in ("finally", "exit", "text")] == ["data"] * 3
    assert "in stops_tidily" in end.stderr.decode(), "the place where the task was"


@pytest.mark.parametrize("how", ["closed", "closed below", "full", "none"])
def test_a_traceback_needs_no_standard_errors(tasks: Tasks, how: str) -> None:
    end = tasks.does("raises_without_errors", how)
    assert (end.reason, end.exit_code) == (FailureReason.EXCEPTION, 1)
    assert end.error.startswith("Traceback")
    assert end.error.endswith("ValueError: why\n")


@pytest.mark.parametrize("opens", [False, True])
def test_a_task_may_close_all_descriptors(tasks: Tasks, opens: bool) -> None:
    assert tasks.does("closes_all", opens).result == b'"fine"'


def test_a_progress_text_may_have_half_a_character(tasks: Tasks) -> None:
    key = tasks.call("odd_progress")
    tasks.ended(key)
    assert [frame.text for frame in tasks.checkpoints(key)] == ["caf\\udce9"]
