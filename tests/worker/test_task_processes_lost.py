"""A task process whose end, directory or successor is lost: no attempt waits for ever, and no directory is leaked."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ftjm.core.state.model import FailureReason
from ftjm.worker.attempts.linux_processes import kill_all
from ftjm.worker.attempts.protocol import Start, Warned
from ftjm.worker.executors.ports import ExecutorSettings
from ftjm.worker.executors.python import executor as executors
from ftjm.worker.executors.python.call import Call
from ftjm.worker.executors.python.own_directory import STEP_NS, Directory
from ftjm.worker.executors.python.task_process_link import TaskProcessLink
from tests.worker.guarding import Guarded, Tasks, alive, guarded, pid_in, until

APPS = ("tests.worker.state_tasks", "tests.worker.lost_tasks")
LARGE = 200_000
"""More than a packet has: such a result comes in a file, whose descriptor the guard must receive."""


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Tasks]:
    guard = Tasks(tmp_path / "attempts", APPS, limit=1_000_000)
    yield guard
    guard.link.leave()
    assert not alive(guard.link.pid)


def result(guard: Tasks, task: str, *args: object) -> Any:
    end = guard.does(task, *args)
    assert end.reason is None, end
    return msgspec.json.decode(end.result)


@contextlib.contextmanager
def no_descriptor_free(guard: Guarded) -> Iterator[None]:
    """The guard can open nothing more."""
    used = {int(path.name) for path in Path(f"/proc/{guard.link.pid}/fd").iterdir()}
    free = min(set(range(len(used) + 1)) - used)
    soft, hard = resource.prlimit(guard.link.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(guard.link.pid, resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(guard.link.pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("task", ["returns_much", "returns_much_alone"])
def test_a_result_that_cannot_be_received_fails_its_attempt(tasks: Tasks, tmp_path: Path, task: str) -> None:
    key = tasks.call(task, str(tmp_path / "go"), LARGE)
    tasks.started(key)
    with no_descriptor_free(tasks):
        (tmp_path / "go").touch()
        end = tasks.ended(key)
    assert (end.reason, end.result) == (FailureReason.EXCEPTION, b"")
    assert "could not be received: the worker has too many open files" in end.error
    assert any(isinstance(frame, Warned) and "too many open files" in frame.text for frame in tasks.frames)
    assert len(result(tasks, task, str(tmp_path / "go"), LARGE)) == LARGE


@pytest.mark.parametrize("packets", [995, 1_000, 1_200])
@pytest.mark.parametrize("task", ["floods", "floods_alone"])
def test_a_task_that_floods_its_connection_ends(tasks: Tasks, task: str, packets: int) -> None:
    flooding = result(tasks, task, packets)
    assert result(tasks, "pid") != flooding
    until(lambda: not alive(flooding), "its process to end")


def test_directories_do_not_grow_in_number(tasks: Tasks, tmp_path: Path) -> None:
    for _ in range(10):
        tasks.run("true")
        tasks.does("pid")
    assert len(list((tmp_path / "attempts").iterdir())) == 2, "one of the process, and one for commands"


def test_the_directory_of_an_attempt_that_left_processes_is_no_others(tasks: Tasks, tmp_path: Path) -> None:
    first = Path(result(tasks, "where"))
    assert Path(result(tasks, "where")) == first
    tasks.does("escapes", str(tmp_path / "mark"))
    assert Path(result(tasks, "where")) != first
    assert not first.exists()


def _link(work: Path) -> None:
    work.rmdir()
    work.symlink_to(work.parent.parent / "other")


CHANGES: dict[str, Callable[[Path], None]] = {
    "read only": lambda work: work.chmod(0o500),
    "open to all": lambda work: work.chmod(0o777),
    "parent open to all": lambda work: work.parent.chmod(0o755),
    "a link": _link,
}


@pytest.mark.parametrize("is_settled", [False, True])
@pytest.mark.parametrize("change", list(CHANGES))
def test_a_directory_that_an_attempt_has_changed_is_not_used_again(
    tmp_path: Path, change: str, is_settled: bool
) -> None:
    (tmp_path / "other").mkdir(0o700)
    path = tmp_path / "1"
    directory = Directory()

    def take(is_made: bool) -> None:
        directory.take(Call(1, "t", b"", {}, str(path), is_made, "", b"", 1, 1, False, ""))

    take(False)
    assert directory.is_empty()
    if is_settled:
        changed = (path / "work").lstat().st_ctime_ns
        until(lambda: time.time_ns() - STEP_NS > changed, "the time of the file system to advance")
    take(True)
    assert directory.is_empty()
    take(True)
    CHANGES[change](path / "work")
    assert not directory.is_empty()


class Zygote:
    """Stands for the zygote. It gives one process, and then dies for good."""

    pid = 0

    def __init__(self, *_: object) -> None:
        self.processes: list[TaskProcessLink] = []
        self.error = ""
        self.forked = 0

    @property
    def requested(self) -> int:
        return len(self.processes)

    def child_died(self, _pid: int) -> None:
        pass

    def is_isolated(self, _task: str) -> bool:
        return False

    def request(self, process: TaskProcessLink) -> str:
        if not self.error:
            self.processes.append(process)
        return self.error

    def receive(self) -> tuple[list[tuple[TaskProcessLink, int]], list[TaskProcessLink]]:
        self.error = "no zygote"
        return [(self.processes.pop(), self.forked)], []


class Host:
    """Stands for the guard: notes which attempts did not start."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def watch(self, *_: object) -> None:
        pass

    unwatch = watch

    def not_started(self, _attempt: object, _reason: FailureReason, error: str) -> None:
        self.errors.append(error)


def test_an_attempt_that_no_process_will_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "ZygoteLink", Zygote)
    host = Host()
    executor = executors.PythonExecutor(host, ExecutorSettings({}, 9, ["app"]))  # type: ignore[arg-type]
    texts = dict.fromkeys(("key", "session", "queue", "job_id", "executor", "working_directory"), "")
    numbers = dict.fromkeys(("run", "attempt", "timeout_ms", "grace_ms", "continue_for_ms"), 0)
    request = msgspec.convert({"command": ["t"], "payload": b"", "environment": {}, **texts, **numbers}, Start)
    executor.start(request, tmp_path)
    # This process has closed its connection, so it takes no call; and there is no zygote to request another from.
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        try:
            executor._zygote.forked = process.pid  # type: ignore[attr-defined]
            executor._receive_from_zygote(0)
        finally:
            process.kill()
        assert host.errors == ["no zygote"]
        executor.child_died(process.pid, 9)


# The end of the guard.


def test_processes_are_found_again_after_an_error() -> None:
    calls = 0

    def find() -> tuple[int, ...]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return ()

    assert kill_all(find, limit_seconds=10)
    assert calls == 2


def test_a_guard_without_descriptors_kills_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The guard's connection has a higher number than some that are free. These are used up at its start.
    (tmp_path / "sitecustomize.py").write_text("import os\nused = [os.open(os.devnull, 0) for _ in range(100)]\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with guarded(tmp_path / "attempts") as guard:
        escapes = f"env -i setsid sh -c 'echo $$ > {tmp_path}/escaped; exec sleep 600' & exec sleep 600"
        guard.started(guard.start("sh", "-c", escapes))
        escaped = pid_in(tmp_path / "escaped")
        with no_descriptor_free(guard):
            guard.link.leave()
            assert not alive(guard.link.pid)
            assert not alive(escaped)
