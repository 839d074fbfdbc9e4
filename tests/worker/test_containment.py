"""What one job does to its files, processes, directories and disk costs no other attempt anything."""

import os
import select
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.attempt_files import CHECKPOINT, PROGRESS, RESULT, Found, Look
from ftjm.worker.attempts.linux_processes import children, kill
from ftjm.worker.attempts.protocol import Checkpointed, Ping, Pong, Warned
from ftjm.worker.executors import command
from ftjm.worker.executors.ports import HasFileno
from ftjm.worker.guard import file_reader, link
from ftjm.worker.guard.file_reader import FileReader
from tests.worker.guarding import Guarded, Tasks, alive, children_of, command_line, freeze, guarded, pid_in, until

VARIABLES = {RESULT: "FTJM_RESULT_FILE", CHECKPOINT: "FTJM_CHECKPOINT_FILE", PROGRESS: "FTJM_PROGRESS_FILE"}
HANGS = """
import os, time
from ftjm.worker.attempts import spawner

def hanging(real):
    def call(path, *arguments, **named):
        if "hangs" in str(path):
            time.sleep(600)
        return real(path, *arguments, **named)
    return call

os.chdir, os.mkdir, os.open = hanging(os.chdir), hanging(os.mkdir), hanging(os.open)

def enter(actions, path, known=spawner._libc.posix_spawn_file_actions_addchdir_np):
    if b"hangs" in path:
        spawner._libc.posix_spawn_file_actions_addopen(actions, 0, {pipe!r}.encode(), os.O_RDONLY, 0)
    return known(actions, path)

spawner._libc.posix_spawn_file_actions_addchdir_np = enter
"""
"""Imitates a disk that does not answer: every directory whose path has the word `hangs` in it. A new process hangs
there, too, since it opens a pipe that nobody writes to."""
DEAF_SECONDS = 30.0
"""A guard that has not answered by then waits for something. On a busy machine an answer may take some seconds."""


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guarded]:
    with guarded(tmp_path / "attempts") as found:
        yield found


@pytest.fixture
def on_a_dead_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards that are started now find directories that hang."""
    (tmp_path / "python").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "python" / "sitecustomize.py").write_text(HANGS.format(pipe=str(tmp_path / "pipe")))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'python'}:{os.environ.get('PYTHONPATH', '')}")


def answers(guard: Guarded) -> float:
    """How many seconds the guard needs for an answer."""
    before = sum(isinstance(frame, Pong) for frame in guard.frames)
    begun = time.monotonic()
    guard.send(Ping())

    def answered() -> bool:
        guard.pump(0.01)
        return sum(isinstance(frame, Pong) for frame in guard.frames) > before

    until(answered, "an answer of the guard")
    return time.monotonic() - begun


# Files.


@pytest.mark.parametrize("name", [RESULT, CHECKPOINT, PROGRESS])
@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("""printf '"\\377"' > $FILE""", "not UTF-8"),
        ("""(printf '{"x":'; head -c 3000 /dev/zero | tr '\\0' '[') > $FILE""", "nested deeper than"),
        ("mkfifo $FILE", "a named pipe"),
        ("mkdir $FILE", "a directory"),
        ("ln -s /dev/zero $FILE", "a symbolic link"),
        ("head -c 70000 /dev/zero > $FILE", "but found 70000"),
    ],
)
def test_a_file_that_cannot_be_read_fails_its_attempt_alone(guard: Guarded, name: str, script: str, what: str) -> None:
    bystander = guard.start("sh", "-c", "read line; echo $line", payload=b"x" * 400_000)
    guard.started(bystander)
    end = guard.run("sh", "-c", script.replace("$FILE", f"${VARIABLES[name]}") + "; sleep 0.3")
    assert (end.reason, end.exit_code) == (FailureReason.RESULT_REFUSED, 0)
    assert VARIABLES[name] in end.error
    assert what in end.error
    assert guard.ended(bystander).reason is None


def test_a_failed_attempt_keeps_its_reason_and_its_files_faults_are_shown(guard: Guarded) -> None:
    tasks = guard.start("sh", "-c", "mkfifo $FTJM_CHECKPOINT_FILE; exit 3")
    assert guard.ended(tasks).reason is FailureReason.EXIT_CODE
    shown = [frame.text for frame in guard.frames if isinstance(frame, Checkpointed)]
    assert "FTJM_CHECKPOINT_FILE: expected" in shown[-1]


def test_a_directory_is_used_again_only_if_it_is_as_new(guard: Guarded) -> None:
    def directory(script: str) -> str:
        end = guard.run("sh", "-c", f"pwd; ls -A . ..; {script}")
        own, *others = end.stdout.decode().split("\n")
        assert others == [".:", "", "..:", "work", ""], "nothing of another attempt is there"
        return own

    first = directory("echo 1 > $FTJM_RESULT_FILE; echo 2 > $FTJM_CHECKPOINT_FILE")
    assert directory("true") == first
    for script in ("touch left", "touch ../left", "mkdir left", "chmod 755 .", "chmod 755 ..", "rmdir ../work"):
        changed = directory(script)
        assert directory("true") != changed, script
    left = directory("setsid sleep 600 >&- 2>&- & while ! grep -q sleep /proc/$!/comm; do :; done")
    assert directory("true") != left, "a process was left in it"
    assert guard.run("pwd", working_directory="/").result == b""
    end = guard.run("sh", "-c", "cat $FTJM_LAST_CHECKPOINT_FILE", checkpoint=b"[7]")
    assert end.stdout == b"[7]"


def test_many_files_beside_the_result_hold_nobody_up(guard: Guarded) -> None:
    many = """
import os
for number in range(20_000):
    open(os.path.dirname(os.environ["FTJM_RESULT_FILE"]) + f"/{number}", "w").close()
"""
    key = guard.python(many)
    slowest = 0.0
    while not any(getattr(frame, "scratch", "") for frame in guard.frames):
        slowest = max(slowest, answers(guard))
    assert guard.ended(key).reason is None
    assert slowest < DEAF_SECONDS


class Host:
    """Stands for the guard: waits for the helpers of a reader."""

    def __init__(self) -> None:
        self.ready: dict[HasFileno, Callable[[int], None]] = {}

    def watch(self, connection: HasFileno, ready: Callable[[int], None]) -> None:
        self.ready[connection] = ready

    def unwatch(self, connection: HasFileno) -> None:
        del self.ready[connection]

    def serve(self, found: list[Found], count: int) -> None:
        def answered() -> bool:
            for connection in select.select(list(self.ready), [], [], 0.05)[0]:
                self.ready[connection](selectors.EVENT_READ)
            return len(found) >= count

        until(answered, f"{count} answers")


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    for helper in host.ready:
        helper.end()  # type: ignore[attr-defined]
        os.waitpid(helper.pid, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_only_the_question_that_a_reader_was_at_is_given_up(tmp_path: Path, host: Host, how: str) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / RESULT).write_text("7")
    reader = FileReader(host, tmp_path)  # type: ignore[arg-type]
    found: list[Found] = []
    reader.ask(Look(directory=str(tmp_path)), found.append)
    host.serve(found, 1)
    [helper] = [pid for pid in children() if reader.owns(pid)]
    freeze(helper)
    asked = boot_ms()
    for name in "abc":
        reader.ask(Look(directory=str(tmp_path / name), ended=True, result_limit=9), found.append)
    assert reader.is_busy
    if how == "hangs":
        reader.enforce(asked + file_reader.ANSWER_MS - 1)
        assert len(found) == 1
        reader.enforce(boot_ms() + file_reader.ANSWER_MS)
    else:
        os.kill(helper, signal.SIGKILL)
    os.waitpid(helper, 0)
    host.serve(found, 4)
    _, given_up, *others = found
    assert [one.result for one in others] == [b"7", b"7"]
    what = "took longer than 5 s" if how == "hangs" else "ended the process that reads them"
    assert what in given_up.refusal
    assert (given_up.faults, given_up.scratch) == ([given_up.refusal], str(tmp_path / "a"))
    assert not reader.is_busy


def test_questions_are_answered_where_no_process_can_be_started(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    found: list[Found] = []
    FileReader(host, tmp_path).ask(Look(directory=str(tmp_path)), found.append)  # type: ignore[arg-type]
    assert "no process can be started for it (Resource temporarily unavailable)" in found[0].faults[0]


def test_a_reader_that_hangs_holds_no_end_up_for_long(guard: Guarded) -> None:
    guard.run("true")
    [reader] = children_of(guard.link.pid)
    freeze(reader)
    keys = [guard.start("sh", "-c", "echo 3 > $FTJM_RESULT_FILE") for _ in range(4)]
    assert answers(guard) < DEAF_SECONDS
    ends = [guard.ended(key) for key in keys]
    assert sum(end.reason is FailureReason.RESULT_REFUSED for end in ends) <= 1
    assert sum(end.result == b"3\n" for end in ends) >= 3


def alive_leaders(guard: Guarded) -> list[int]:
    """The children of the guard that run a program of their own."""
    ended_or_own = (b"", command_line(guard.link.pid))
    return [pid for pid in children_of(guard.link.pid) if command_line(pid) not in ended_or_own]


# Directories and disks.


@pytest.mark.usefixtures("on_a_dead_disk")
def test_a_working_directory_that_hangs_stops_only_its_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "START_MS", 10_000)
    with guarded(tmp_path / "attempts") as guard:
        bystander = guard.start("sleep", "600", timeout_ms=500, grace_ms=0)
        reads = guard.start("cat", payload=b"x" * 300_000)
        stopped = guard.start("true", working_directory="/hangs/1")
        hanging = guard.start("true", working_directory="/hangs/2")
        assert answers(guard) < DEAF_SECONDS
        assert guard.ended(reads).reason is None, "its input ends, though processes that hang were forked meanwhile"
        assert guard.ended(bystander).reason is FailureReason.TIMEOUT
        guard.stop(stopped, 10_000)
        assert guard.ended(stopped).reason is FailureReason.STOPPED
        end = guard.ended(hanging)
        assert (end.reason, end.started_at) == (FailureReason.START_FAILED, 0)
        assert "not started within 10 s: its working directory /hangs/2" in end.error
        until(lambda: not alive_leaders(guard), "the processes that hang to be killed")


@pytest.mark.usefixtures("on_a_dead_disk")
def test_deadlines_hold_while_the_disk_of_the_attempts_hangs(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    with guarded(tmp_path / "attempts") as guard:
        key = guard.start("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
        pid = pid_in(tmp_path / "pid")
        guard.started(key)
        guard.start("true", working_directory="/hangs")
        guard.renew(300)
        assert guard.ended(key).reason is FailureReason.LEASE_EXPIRED
        assert not alive(pid)


def test_attempts_are_killed_before_a_guard_that_cannot_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that waits for a disk does not die of SIGKILL. Here the signal to it is left out."""
    guard = Guarded(tmp_path / "attempts")
    key = guard.start(
        "sh", "-c", f"env -i setsid sh -c 'echo $$ > {tmp_path}/b; exec sleep 600' & echo $$ > {tmp_path}/a; wait"
    )
    pids = [pid_in(tmp_path / name) for name in "ab"]
    guard.started(key)
    freeze(guard.link.pid)

    def kill_others(pid: int, number: signal.Signals) -> None:
        if pid != guard.link.pid:
            kill(pid, number)

    monkeypatch.setattr("ftjm.worker.attempts.linux_processes.kill", kill_others)
    monkeypatch.setattr(link, "kill", lambda _pid, _number: None)
    monkeypatch.setattr(link, "KILL_SECONDS", 1.0)
    killer = threading.Thread(target=guard.link.kill, daemon=True)
    killer.start()
    killer.join(60)
    try:
        assert not killer.is_alive(), "the supervisor would wait for its guard without limit"
        until(lambda: not any(alive(pid) for pid in pids), "the attempts to end")
    finally:
        monkeypatch.undo()
        guard.link.kill()


def test_the_guard_writes_nothing_to_its_standard_errors(tmp_path: Path) -> None:
    """They may be a pipe that is full. What it has to say goes to the supervisor."""
    tasks = Tasks(tmp_path / "attempts")
    try:
        assert tasks.does("leaves_processes", str(tmp_path / "mark")).reason is None
        assert any(isinstance(frame, Warned) and "is not kept" in frame.text for frame in tasks.frames)
    finally:
        tasks.link.leave()


# Processes.

LEAVES = {
    "an empty environment": "env -i setsid sh -c 'echo $$ > {pid}; exec sleep 600' &",
    "an environment that is no UTF-8": """
        python3 -S -c "
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open('{pid}', 'w').write(str(os.getpid()) + '\\n')
        odd = {{b'FTJM_JOB_ID': b'q/\\xff', b'FTJM_ATTEMPT': b'1', b'FTJM_POOL': b'1' * 5000}}
        os.execve('/bin/sleep', ['sleep', '600'], odd)
    os._exit(0)
" """,
    "memory that others cannot read": """
        python3 -S -c "
import ctypes, os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
        open('{pid}', 'w').write(str(os.getpid()) + '\\n')
        time.sleep(600)
    os._exit(0)
" """,
    "another attempt's name": "FTJM_JOB_ID=q/j1 FTJM_ATTEMPT=1 setsid sh -c 'echo $$ > {pid}; exec sleep 600' &",
}


@pytest.mark.parametrize("leaves", list(LEAVES))
@pytest.mark.parametrize("ends", ["exit 0", "exit 1", "exec sleep 600", "kill -9 $$"])
def test_what_an_attempt_leaves_behind_ends_with_it_while_others_run(
    guard: Guarded, tmp_path: Path, leaves: str, ends: str
) -> None:
    other = guard.start("sh", "-c", f"setsid sh -c 'echo $$ > {tmp_path}/other; exec sleep 600' & exec sleep 600")
    theirs = pid_in(tmp_path / "other")
    script = LEAVES[leaves].format(pid=tmp_path / "pid")
    key = guard.start("sh", "-c", f"{script}\nwhile ! test -s {tmp_path}/pid; do :; done; {ends}")
    if "sleep" in ends:
        pid_in(tmp_path / "pid")
        guard.stop(key, 0)
    guard.ended(key)
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the process that was left behind to end")
    assert alive(theirs), "it is a daemon of an attempt that runs"
    guard.stop(other, 0)
    guard.ended(other)
    until(lambda: not alive(theirs), "the daemon to end with its attempt")


def test_a_chain_of_processes_ends_with_its_attempt(guard: Guarded, tmp_path: Path) -> None:
    other = guard.start("sleep", "600")
    guard.started(other)
    chain = f"""
import os, sys, time
for level in range(50):
    if os.fork():
        time.sleep(600)
    os.setsid()
open("{tmp_path}/pid", "w").write(str(os.getpid()) + "\\n")
time.sleep(600)
"""
    key = guard.python(chain)
    last = pid_in(tmp_path / "pid")
    guard.stop(key, 0)
    guard.ended(key)
    until(lambda: not alive(last), "the last of the chain to end")
    assert select.select([guard.link], [], [], 0.2)[0] == []
