"""Children: started again when they die, never left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ftjm import children
from ftjm.children import Child
from ftjm.errors import FtjmError
from ftjm.locks import DirectoryLock

LIMIT_SECONDS = 20.0
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
IGNORE_SIGTERM = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


def test_output_goes_where_it_is_wanted(tmp_path: Path) -> None:
    process = children.spawn([sys.executable, "-c", "print('hello')"], output=tmp_path / "out")
    assert process.wait(LIMIT_SECONDS) == 0
    assert (tmp_path / "out").read_text() == "hello\n"


def test_stop_ends_the_willing_and_the_unwilling(tmp_path: Path) -> None:
    willing = children.spawn(SLEEP)
    unwilling = children.spawn(IGNORE_SIGTERM, output=tmp_path / "out")
    deadline = time.monotonic() + LIMIT_SECONDS
    while "deaf" not in (tmp_path / "out").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children.stop([willing, unwilling], within_seconds=0.5)
    assert (willing.returncode, unwilling.returncode) == (-15, -9)


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        f"from ftjm import children; import time; print(children.spawn({SLEEP!r}).pid, flush=True); time.sleep(600)"
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
        child.watch()  # sees the end
        first, before = child.process, clock.now
        while child.process is first:
            clock.now += 0.1
            child.watch()
        waits.append(round(clock.now - before, 1))
    assert waits[:4] == [0.4, 0.8, 1.6, 3.2]
    assert waits[-1] == pytest.approx(children.BACKOFF_SECONDS_MAX, abs=0.2)


def test_after_a_healthy_life_it_is_started_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    child = Child("long", lambda: _ended(1))
    child.start()
    clock.now += children.HEALTHY_SECONDS + 1
    child.watch()
    first = child.process
    clock.now += children.BACKOFF_SECONDS_FIRST
    child.watch()
    assert child.process is not first


def test_one_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_one_that_is_meant_to_end_stays_ended() -> None:
    child = Child("wanted no more", lambda: _ended(0))
    child.start()
    first = child.process
    child.give_up()
    child.watch()
    assert child.process is first


def test_a_directory_is_used_by_one_at_a_time(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path, "lock"), DirectoryLock(tmp_path, "lock")
    first.acquire()
    with pytest.raises(FtjmError, match=r"in use by process \d+"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FtjmError, match="--data-dir"):
        DirectoryLock(tmp_path / "file", "lock").acquire()


def test_a_lock_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/dev/full")
    with pytest.raises(FtjmError, match="make room"):
        DirectoryLock(tmp_path, "lock").acquire()


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def _no_memory() -> subprocess.Popen[bytes]:
    raise OSError("cannot allocate memory")


def _ended(status: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({status})"])
    process.wait()
    return process
