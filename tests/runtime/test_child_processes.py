"""Child processes are started again when they die, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from ftjm.runtime import child_processes
from ftjm.runtime.child_processes import Child

LIMIT_SECONDS = 60.0
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
IGNORE_SIGTERM = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


def test_output_goes_to_the_given_file(tmp_path: Path) -> None:
    process = child_processes.spawn([sys.executable, "-c", "print('hello')"], output=tmp_path / "out")
    assert process.wait(LIMIT_SECONDS) == 0
    assert (tmp_path / "out").read_text() == "hello\n"


def test_stop_ends_children_that_obey_and_that_ignore_sigterm(tmp_path: Path) -> None:
    willing = child_processes.spawn(SLEEP)
    unwilling = child_processes.spawn(IGNORE_SIGTERM, output=tmp_path / "out")
    deadline = time.monotonic() + LIMIT_SECONDS
    while "deaf" not in (tmp_path / "out").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child_processes.stop([willing, unwilling], within_seconds=5.0)
    assert (willing.returncode, unwilling.returncode) == (-15, -9)


def test_stop_waits_no_longer_once_it_is_hurried(tmp_path: Path) -> None:
    unwilling = child_processes.spawn(IGNORE_SIGTERM, output=tmp_path / "out")
    deadline = time.monotonic() + LIMIT_SECONDS
    while "deaf" not in (tmp_path / "out").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child_processes.stop([unwilling], within_seconds=3600, hurried=lambda: True)
    assert unwilling.returncode == -9


def test_ctrl_c_in_the_middle_of_a_poll_leaves_no_lock_taken() -> None:
    process = child_processes.spawn(SLEEP)
    # The signal comes while the poll has just taken the lock of `Popen`, which it takes once the process has ended.
    os.kill(process.pid, signal.SIGKILL)
    setattr(process, "_waitpid_lock", _SignallingLock())  # noqa: B010  (mypy knows no private attributes of Popen)
    with pytest.raises(KeyboardInterrupt):
        process.wait(LIMIT_SECONDS)
    assert process.wait(LIMIT_SECONDS) == -9


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "from ftjm.runtime import child_processes; import time; "
        f"print(child_processes.spawn({SLEEP!r}).pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=LIMIT_SECONDS)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_child_that_keeps_dying_is_started_again_later_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    child = Child("short", lambda: _ended(1))
    child.start()
    waits = []
    for _ in range(10):
        child.watch()  # notices the end
        first, before = child.process, clock.now
        while child.process is first:
            clock.now += 0.1
            child.watch()
        waits.append(round(clock.now - before, 1))
    assert waits[:4] == [0.4, 0.8, 1.6, 3.2]
    assert waits[-1] == pytest.approx(child_processes.BACKOFF_SECONDS_MAX, abs=0.2)


def test_a_child_that_lived_long_is_started_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    child = Child("long", lambda: _ended(1))
    child.start()
    clock.now += child_processes.HEALTHY_SECONDS + 1
    child.watch()
    first = child.process
    clock.now += child_processes.BACKOFF_SECONDS_FIRST
    child.watch()
    assert child.process is not first


def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    launches = iter([lambda: _ended(1), _no_memory, lambda: _ended(0)])
    child = Child("unlucky", lambda: next(launches)())  # noqa: PLW0108  (another launch each time)
    child.start()
    first = child.process
    while child.process is first:
        child.watch()
        clock.now += 0.1
    assert child.process is not None
    assert child.process.returncode == 0


def test_an_abandoned_child_is_not_started_again() -> None:
    child = Child("wanted no more", lambda: _ended(0))
    child.start()
    first = child.process
    child.give_up()
    child.watch()
    assert child.process is first


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


class _SignallingLock:
    """A lock that sends SIGINT to this process when it is taken for the first time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent = False

    def acquire(self, blocking: bool = True) -> bool:
        taken = self._lock.acquire(blocking)
        if not self._sent:
            self._sent = True
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # in the main thread, the handler runs here at the latest
        return taken

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def _no_memory() -> subprocess.Popen[bytes]:
    raise OSError("cannot allocate memory")


def _ended(status: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({status})"])
    process.wait()
    return process
