"""Programs are started by threads that may hang in the guard's place."""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts import spawner as module
from ftjm.worker.attempts.linux_processes import OWN_MARK, mark, mark_of, new_mark
from ftjm.worker.attempts.spawner import Spawn, Spawner
from tests.worker.guarding import until

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    """A spawner. It marks this process, of which other tests start guards."""
    yield Spawner()
    mark(0, OWN_MARK)


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """New processes that shall enter a directory `hangs` wait for somebody who writes to this pipe."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    known = module._libc.posix_spawn_file_actions_addchdir_np

    def enter(actions: object, directory: bytes) -> object:
        if directory != b"/hangs":
            return known(actions, directory)
        module._libc.posix_spawn_file_actions_addopen(actions, 0, os.fsencode(path), os.O_RDONLY, 0)
        return known(actions, b"/")

    monkeypatch.setattr(module._libc, "posix_spawn_file_actions_addchdir_np", enter)
    return path


def spawned(spawner: Spawner, *spawns: Spawn) -> None:
    """Start programs, and wait until all are executed, or cannot be."""
    waiting = set(spawns)
    for spawn in spawns:
        spawner.request(spawn)
    finish(spawner, waiting)


def finish(spawner: Spawner, waiting: set[Spawn]) -> None:
    def finished() -> bool:
        select.select([spawner], [], [], 0.01)
        waiting.difference_update(spawner.finished())
        spawner.enforce(boot_ms())
        return not waiting

    until(finished, "the programs to be executed")


def descriptors(pid: int) -> dict[str, str]:
    """What the open descriptors of a process lead to."""
    found = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[fd.name] = os.readlink(fd)  # noqa: PTH115  (a Path would lose what is no path)
    return found


def true(null: int, command: str = "true", directory: str = "/", **environment: str) -> Spawn:
    return Spawn([command], ENVIRONMENT | environment, directory, [null] * 3, new_mark())


def test_a_program_leads_a_marked_session_of_its_own(spawner: Spawner, null: int) -> None:
    spawn = Spawn(["sleep", "600"], ENVIRONMENT, "/tmp", [null] * 3, new_mark())
    spawned(spawner, spawn)
    try:
        assert os.getsid(spawn.pid) == os.getpgid(spawn.pid) == spawn.pid
        assert mark_of(spawn.pid) == spawn.mark
        assert Path(f"/proc/{spawn.pid}/cwd").resolve() == Path("/tmp")
        # The program itself opens a file for a moment, when it starts.
        until(lambda: descriptors(spawn.pid) == {"0": os.devnull, "1": os.devnull, "2": os.devnull}, "no other file")
    finally:
        os.kill(spawn.pid, signal.SIGKILL)
        os.waitpid(spawn.pid, 0)
    assert not spawner.is_busy


def test_a_program_is_searched_for_in_the_path_of_its_environment(spawner: Spawner, null: int, tmp_path: Path) -> None:
    for name, mode in (("a", 0o644), ("b", 0o755)):
        Path(tmp_path, name).mkdir()
        Path(tmp_path, name, "tool").write_text("#!/bin/sh\nexit 7\n")
        Path(tmp_path, name, "tool").chmod(mode)
    found = true(null, "tool", PATH=f"/no/such:{tmp_path}/a:{tmp_path}/b")
    refused = true(null, "tool", PATH=f"{tmp_path}/a:/no/such")
    absent = true(null, "tool")
    here = true(null, "tool", str(tmp_path / "b"), PATH=":/no/such")
    spawned(spawner, found, refused, absent, here)
    assert os.waitstatus_to_exitcode(os.waitpid(here.pid, 0)[1]) == 7
    assert os.waitstatus_to_exitcode(os.waitpid(found.pid, 0)[1]) == 7
    assert (refused.pid, os.strerror(refused.error)) == (0, "Permission denied")
    assert (absent.pid, os.strerror(absent.error)) == (0, "No such file or directory")


def test_a_program_that_hangs_before_it_is_executed_holds_no_other_up(spawner: Spawner, null: int, pipe: Path) -> None:
    hanging = [true(null, directory="/hangs") for _ in range(2)]
    for spawn in hanging:
        spawner.request(spawn)
    until(lambda: bool(hanging[0].thread), "a thread to be at it")
    others = [true(null) for _ in range(3)]
    spawned(spawner, *others)
    for spawn in others:
        os.waitpid(spawn.pid, 0)
    until(lambda: all(spawn.thread for spawn in hanging), "threads to be at both")
    assert spawner.is_busy
    # The first one finds somebody who writes, and is executed. The second one is given up.
    spawner.give_up(hanging[1])
    finish(spawner, {hanging[1]})
    assert os.waitstatus_to_exitcode(os.waitpid(hanging[1].pid, 0)[1]) == -signal.SIGKILL
    os.close(os.open(pipe, os.O_WRONLY))
    finish(spawner, {hanging[0]})
    os.waitpid(hanging[0].pid, 0)


def test_threads_beside_one_that_hung_do_not_mix_the_marks(spawner: Spawner, null: int, pipe: Path) -> None:
    hanging = true(null, directory="/hangs")
    spawner.request(hanging)
    spawned(spawner, true(null))
    os.close(os.open(pipe, os.O_WRONLY))
    finish(spawner, {hanging})
    for _ in range(20):
        spawns = [Spawn(["sleep", "600"], ENVIRONMENT, "/", [null] * 3, new_mark()) for _ in range(10)]
        spawned(spawner, *spawns)
        found = [mark_of(spawn.pid) for spawn in spawns]
        for spawn in spawns:
            os.kill(spawn.pid, signal.SIGKILL)
            os.waitpid(spawn.pid, 0)
        assert found == [spawn.mark for spawn in spawns]
    os.waitpid(hanging.pid, 0)


def test_a_program_waits_while_there_can_be_no_thread(
    spawner: Spawner, null: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    spawn = true(null)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        spawner.request(spawn)
        assert not spawner.finished()
    finish(spawner, {spawn})
    assert os.waitpid(spawn.pid, 0)[1] == 0


def test_what_is_given_up_is_not_executed(spawner: Spawner, null: int, tmp_path: Path) -> None:
    spawn = Spawn(["touch", str(tmp_path / "ran")], ENVIRONMENT, "/", [null] * 3, new_mark())
    assert not spawner.give_up(spawn)
    spawned(spawner, spawn)
    assert (spawn.pid, (tmp_path / "ran").exists()) == (0, False)


@pytest.mark.parametrize(
    ("command", "environment", "what"),
    [([], {}, "empty"), (["a\0b"], {}, "null"), (["a"], {"b": "c\0d"}, "null"), (["a"], {"b=c": "d"}, "'='")],
)
def test_what_no_process_can_have_is_refused(command: list[str], environment: dict[str, str], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Spawn(command, environment, "/", [0, 1, 2], 1)
