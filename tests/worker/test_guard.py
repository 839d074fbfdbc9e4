"""The guard runs commands as real processes and reports how they ended."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from ftjm.core.state.model import FailureReason
from ftjm.runtime.clock import boot_ms
from ftjm.worker.attempts.linux_processes import MemoryKiller, children, mark, new_mark
from ftjm.worker.attempts.protocol import Ended
from ftjm.worker.guard import stragglers
from tests.worker.guarding import LIMIT, Guarded, alive, guarded, pid_in, until

ESCAPE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
        time.sleep(600)
    os._exit(0)
while not os.path.exists(sys.argv[1]) or not open(sys.argv[1]).read():
    time.sleep(0.001)
print("done", flush=True)
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
print("up", flush=True)
open(sys.argv[1], "w").close()
while True: time.sleep(600)
"""


@pytest.fixture
def guard(tmp_path: Path):
    with guarded(tmp_path / "attempts") as found:
        yield found


def test_a_success_is_reported_with_both_outputs(guard: Guarded) -> None:
    end = guard.ended(guard.python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert (end.reason, end.exit_code, end.signal) == (None, 0, 0)
    assert (end.stdout, end.stderr, end.stdout_cut, end.stderr_cut) == (b"out\n", b"err\n", 0, 0)
    assert 0 < end.started_at <= end.ended_at


def test_an_exit_code_is_reported(guard: Guarded) -> None:
    end = guard.run("sh", "-c", "exit 7")
    assert (end.reason, end.exit_code, end.error) == (FailureReason.EXIT_CODE, 7, "exit status 7")


def test_a_signal_is_reported(guard: Guarded) -> None:
    end = guard.run("sh", "-c", "kill -SEGV $$")
    assert (end.reason, end.signal) == (FailureReason.SIGNAL, signal.SIGSEGV)
    assert "SIGSEGV" in end.error


def test_a_killed_command_is_reported_with_its_signal(guard: Guarded, tmp_path: Path) -> None:
    key = guard.start("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    pid = pid_in(tmp_path / "pid")
    guard.started(key)
    os.kill(pid, signal.SIGKILL)
    end = guard.ended(key)
    assert (end.reason, end.signal) == (FailureReason.SIGNAL, signal.SIGKILL)


def test_out_of_memory_is_distinguished_from_a_plain_kill(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 1\noom_kill 3\n")
    killer = MemoryKiller(vmstat)
    killer.check(1_000)
    assert not killer.was_active(1_000)
    vmstat.write_text("nr_free_pages 1\noom_kill 4\n")
    killer.check(2_000)
    assert killer.was_active(2_500)
    assert not killer.was_active(10_000)


def test_a_command_that_cannot_be_executed_says_why(guard: Guarded, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a program")
    for command, fields, message in [
        (("no-such-program",), {}, "no such program"),
        ((str(tmp_path / "data"),), {}, "Permission denied"),
        ((), {}, "empty"),
        (("true",), {"working_directory": "/no/such/place"}, "working directory '/no/such/place'"),
        (("true",), {"executor": "container"}, "'container'"),
        (("echo", "a\0b"), {}, "null"),
        (("echo", "x" * 3_000_000), {}, "use the payload"),
    ]:
        end = guard.run(*command, **fields)
        assert end.reason is FailureReason.START_FAILED, end
        assert message in end.error
        assert end.started_at == 0


def test_a_timeout_sends_sigterm_and_then_sigkill(guard: Guarded, tmp_path: Path) -> None:
    begun = time.monotonic()
    key = guard.python(STUBBORN, str(tmp_path / "up"), timeout_ms=3_000, grace_ms=3_000)
    end = guard.ended(key)
    assert time.monotonic() - begun >= 6.0
    assert (end.reason, end.signal, end.stdout) == (FailureReason.TIMEOUT, signal.SIGKILL, b"up\nno\n")


def test_a_stopped_command_may_end_by_itself(guard: Guarded, tmp_path: Path) -> None:
    program = """
import signal, sys, time
def leave(*_):
    print("bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open(sys.argv[1], "w").close()
while True: time.sleep(600)
"""
    key = guard.python(program, str(tmp_path / "up"))
    until((tmp_path / "up").exists, "the command is up")
    guard.stop(key, 30_000)
    end = guard.ended(key)
    assert (end.reason, end.exit_code, end.stdout) == (FailureReason.STOPPED, 0, b"bye\n")


@pytest.mark.parametrize("grace_ms", [0, 3_000])
def test_a_stop_kills_after_its_grace(guard: Guarded, tmp_path: Path, grace_ms: int) -> None:
    key = guard.python(STUBBORN, str(tmp_path / "up"))
    until((tmp_path / "up").exists, "the command is up")
    guard.stop(key, grace_ms)
    end = guard.ended(key)
    assert (end.reason, end.signal) == (FailureReason.STOPPED, signal.SIGKILL)
    assert end.stdout == (b"up\nno\n" if grace_ms else b"up\n")


def test_the_rest_of_the_group_dies_with_its_leader(guard: Guarded, tmp_path: Path) -> None:
    end = guard.run("sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; echo done")
    assert (end.reason, end.stdout) == (None, b"done\n")
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the background process dies")


def test_an_escaped_grandchild_dies_and_delays_nothing(guard: Guarded, tmp_path: Path) -> None:
    """The grandchild holds standard output open, in its own session."""
    end = guard.ended(guard.python(ESCAPE, str(tmp_path / "pid")))
    assert (end.reason, end.stdout) == (None, b"done\n")
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the daemon dies")


def test_an_escaped_grandchild_with_an_empty_environment_dies_when_nothing_runs(guard: Guarded, tmp_path: Path) -> None:
    program = ESCAPE.replace("time.sleep(600)", "os.execve('/bin/sleep', ['sleep', '600'], {})")
    guard.ended(guard.python(program, str(tmp_path / "pid")))
    until(lambda: not alive(pid_in(tmp_path / "pid")), "the daemon dies")


def test_a_daemon_of_a_running_attempt_is_left_alone(guard: Guarded, tmp_path: Path) -> None:
    key = guard.python(
        ESCAPE + "\nopen(sys.argv[2], 'w').close(); time.sleep(600)", str(tmp_path / "a"), str(tmp_path / "up")
    )
    until((tmp_path / "up").exists, "the attempt has its daemon")
    assert guard.run("true").reason is None
    assert alive(pid_in(tmp_path / "a"))
    guard.stop(key, 0)
    guard.ended(key)
    until(lambda: not alive(pid_in(tmp_path / "a")), "the daemon dies with its attempt")


def test_output_is_cut_to_its_tail(guard: Guarded) -> None:
    end = guard.ended(guard.python("import sys; sys.stdout.write('x' * 3_000_000 + 'the end')"))
    assert end.stdout.endswith(b"xxthe end")
    assert len(end.stdout) == LIMIT
    assert end.stdout_cut == 3_000_007 - LIMIT


def test_the_payload_arrives_on_standard_input(guard: Guarded) -> None:
    payload = msgspec.json.encode({"n": 1, "pad": "x" * 500_000})
    end = guard.ended(guard.python("import sys; d = sys.stdin.read(); print(len(d))", payload=payload))
    assert end.stdout == f"{len(payload)}\n".encode()
    assert guard.run("cat").stdout == b""
    assert guard.run("true", payload=payload).reason is None


def test_the_result_is_read_from_its_file(guard: Guarded) -> None:
    end = guard.run("sh", "-c", "echo '{\"digest\": 7}' > $FTJM_RESULT_FILE")
    assert (end.reason, end.result) == (None, b'{"digest": 7}\n')
    assert end.scratch == ""
    for command, message in [
        ("echo NaN > $FTJM_RESULT_FILE", "expected JSON"),
        ("echo '{' > $FTJM_RESULT_FILE", "write one JSON value, or nothing"),
        (f"head -c {LIMIT + 1} /dev/zero > $FTJM_RESULT_FILE", "store it elsewhere"),
        (f"head -c {LIMIT + 1} /dev/zero > $FTJM_RESULT_FILE", f"at most {LIMIT} bytes"),
        ("mkfifo $FTJM_RESULT_FILE", "it is a named pipe, not a regular file"),
    ]:
        end = guard.run("sh", "-c", command)
        assert end.reason is FailureReason.RESULT_REFUSED, command
        assert message in end.error
    assert guard.run("sh", "-c", "echo 1 > $FTJM_RESULT_FILE; exit 3").result == b""


def test_a_command_gets_its_environment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTJM_KAFKA_SASL_PASSWORD", "secret")
    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.delenv("LANG", raising=False)
    with guarded(tmp_path / "attempts") as guard:
        end = guard.run("env", "-0", environment={"MINE": "a\nb", "FTJM_ATTEMPT": "99"})
    found = dict(entry.split("=", 1) for entry in end.stdout.decode().split("\0") if entry)
    ours = {name: value for name, value in found.items() if name.startswith("FTJM_")}
    result = ours.pop("FTJM_RESULT_FILE")
    assert result.startswith(str(tmp_path))
    files = {ours.pop(name) for name in ("FTJM_CHECKPOINT_FILE", "FTJM_PROGRESS_FILE")}
    assert len(files) == 2
    assert ours == {
        "FTJM_JOB_ID": "q/j1",
        "FTJM_QUEUE": "q",
        "FTJM_ATTEMPT": "1",
        "FTJM_RUN": "3",
        "FTJM_RUN_KEY": "q/j1/3",
    }
    assert (found["MINE"], found["INHERITED"], found["LANG"]) == ("a\nb", "yes", "C.UTF-8")


def test_each_attempt_has_a_directory_of_its_own(guard: Guarded, tmp_path: Path) -> None:
    keys = [guard.start("sh", "-c", f"pwd; touch {tmp_path}/{n}; exec sleep 600") for n in range(3)]
    for n, key in enumerate(keys):
        guard.started(key)
        until((tmp_path / str(n)).exists, "the attempt to have written its directory")
    guard.renew(300)
    assert len({guard.ended(key).stdout for key in keys}) == len(keys)
    guard.renew(600_000)
    left = guard.run("touch", "something")
    assert Path(left.scratch, "work", "something").exists()
    assert guard.run("pwd", working_directory=str(tmp_path)).stdout == f"{tmp_path}\n".encode()


def test_attempts_have_default_signals_and_no_foreign_descriptors(guard: Guarded) -> None:
    program = """
import os, signal
fds = sorted(map(int, os.listdir("/proc/self/fd")))
print(fds, signal.getsignal(signal.SIGTERM).name, os.getpgrp() == os.getpid())
"""
    assert guard.ended(guard.python(program)).stdout == b"[0, 1, 2, 3] SIG_DFL True\n"


def test_no_attempt_starts_without_a_lease(guard: Guarded) -> None:
    assert guard.run("true", session="unknown").reason is FailureReason.LEASE_EXPIRED
    guard.renew(-1, "late")
    end = guard.run("true", session="late")
    assert (end.reason, end.started_at) == (FailureReason.LEASE_EXPIRED, 0)


def test_the_deadline_kills_at_once_and_continue_for_is_counted_from_it(guard: Guarded, tmp_path: Path) -> None:
    key = guard.python(STUBBORN, str(tmp_path / "a"))
    longer = guard.start("sleep", "600", continue_for_ms=5_000)
    until((tmp_path / "a").exists, "the command is up")
    guard.started(longer)
    deadline = guard.renew(100)
    end = guard.ended(key)
    assert (end.reason, end.signal) == (FailureReason.LEASE_EXPIRED, signal.SIGKILL)
    assert boot_ms() >= deadline
    assert guard.ended(longer).reason is FailureReason.LEASE_EXPIRED
    assert boot_ms() - deadline >= 5_000
    assert [frame.key for frame in guard.frames if isinstance(frame, Ended)] == [key, longer]


def test_deadlines_hold_while_the_supervisor_is_stopped(tmp_path: Path) -> None:
    """A process in place of the supervisor is stopped by SIGSTOP. The guard still acts."""
    program = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.worker.guarding import Guarded, pid_in
guard = Guarded(Path(sys.argv[2]))
key = guard.start("sh", "-c", f"echo $$ > {sys.argv[3]}; exec sleep 600")
guard.started(key)
pid_in(Path(sys.argv[3]))
guard.renew(300)
Path(sys.argv[4]).touch()
time.sleep(600)
"""
    renewed, pid_file = tmp_path / "renewed", tmp_path / "pid"
    arguments = [str(path) for path in (Path(__file__).parents[2], tmp_path / "a", pid_file, renewed)]
    stand_in = os.posix_spawn(sys.executable, [sys.executable, "-c", program, *arguments], os.environ)
    try:
        until(renewed.exists, "the deadline is set")
        pid = pid_in(pid_file)
        os.kill(stand_in, signal.SIGSTOP)
        stopped = time.monotonic()
        until(lambda: not alive(pid), "the attempt is killed")
        assert time.monotonic() - stopped < 30
    finally:
        os.kill(stand_in, signal.SIGKILL)
        os.waitpid(stand_in, 0)


def test_all_attempts_end_when_the_supervisor_has_died(tmp_path: Path) -> None:
    """Even if an attempt may continue beyond the lease: no process is left to report it."""
    with guarded(tmp_path / "attempts") as guard:
        key = guard.python(ESCAPE + "\ntime.sleep(600)", str(tmp_path / "daemon"), continue_for_ms=600_000)
        leader = guard.start("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 600")
        guard.started(key)
        guard.started(leader)
        pids = [pid_in(tmp_path / "daemon"), pid_in(tmp_path / "pid")]
        guard.link.channel.close()
        until(lambda: not any(alive(pid) for pid in pids), "all attempts die")


def test_signals_to_the_guard_change_nothing(guard: Guarded) -> None:
    guard.run("true")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guard.link.pid, number)
    assert guard.run("true").reason is None


def test_stragglers_are_found_beyond_one_page_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lists the children of a process page by page."""
    monkeypatch.setattr(stragglers, "_PAGE_BYTES", 32)
    others = set(children())
    marks = stragglers.LivingMarks()
    with ExitStack() as stack:
        started = [stack.enter_context(subprocess.Popen(["sleep", "600"])) for _ in range(12)]
        for process in started:
            mark(process.pid, new_mark())
        try:
            assert marks.kill_stragglers(lambda pid: pid in others, lambda: False)
            assert [process.wait(10.0) for process in started] == [-signal.SIGKILL] * len(started)
        finally:
            for process in started:
                process.kill()


def test_a_straggler_that_is_killed_and_not_gone_yet_is_not_another_attempts() -> None:
    others = set(children())
    ended, other = new_mark(), new_mark()
    marks = stragglers.LivingMarks()
    marks.add(other)
    with subprocess.Popen(["sleep", "600"]) as straggler:
        mark(straggler.pid, ended)
        try:
            first = marks.kill_stragglers(lambda pid: pid in others, lambda: False)
            marks.look_again()
            marks.discard(other)
            # It is not waited for, so the kernel still lists it.
            second = marks.kill_stragglers(lambda pid: pid in others, lambda: False)
        finally:
            straggler.kill()
    assert ended in first
    assert other not in second
