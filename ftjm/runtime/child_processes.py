"""Child processes that cannot outlive their parent, however the parent dies.

The kernel kills them: each child asks for `PR_SET_PDEATHSIG` (see prctl(2)) before it becomes its program.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ftjm.runtime import logs, private_files

BACKOFF_SECONDS_FIRST = 0.2
BACKOFF_SECONDS_MAX = 30.0
HEALTHY_SECONDS = 30.0
POLL_SECONDS = 0.02

log = logs.get(__name__)

# The launcher replaces itself by the program, so it costs no process of its own. If the parent dies before the launcher
# has requested the signal, no signal is sent; so the launcher then checks that it still has this parent.
_LAUNCHER = """\
import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

# The kernel sends the signal when the *thread* that forked the child ends, so one thread that never ends forks all.
_forker = ThreadPoolExecutor(1, thread_name_prefix="forker")


class _ChildProcess(subprocess.Popen[bytes]):
    """A process that is polled in the thread that forked it.

    `Popen.poll` takes a lock. If a KeyboardInterrupt came in between, which only the main thread gets, the lock would
    stay taken, and every wait for this process would last for ever.
    """

    def poll(self) -> int | None:
        # The kernel is asked first, which takes no lock and no other thread: mostly the process runs.
        if self.returncode is None and not _has_ended(self.pid):
            return None
        return _forker.submit(super().poll).result()

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(POLL_SECONDS)
        return status


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # its status was collected a moment ago
        return True


def spawn(
    command: Sequence[str | Path],
    *,
    output: Path | None = None,
    env: Mapping[str, str] | None = None,
    umask: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that is killed when this process dies. It has a session of its own, so Ctrl-C does not reach it.

    Args:
        command: The program and its arguments. Its standard input is empty.
        output: A file for its standard output and error, which is truncated and private. By default the child shares
            ours.
        env: Its environment. By default a copy of ours.
        umask: Its umask. By default the one that our user has.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]

    def fork() -> subprocess.Popen[bytes]:
        file = os.fdopen(private_files.create(output), "wb") if output else None
        try:
            return _ChildProcess(
                [*launcher, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT if file else None,
                env=env,
                start_new_session=True,
                umask=private_files.users_umask() if umask is None else umask,
            )
        finally:
            if file:
                file.close()

    return _forker.submit(fork).result()


def stop(
    children: Sequence[subprocess.Popen[bytes]], *, within_seconds: float, hurried: Callable[[], bool] = lambda: False
) -> None:
    """Send SIGTERM to all, then SIGKILL to those that have not ended in time. Returns when all have ended.

    Args:
        children: Processes that `spawn` started.
        within_seconds: How long they may take to end by themselves.
        hurried: Asked again and again; once it returns true, the time is over.
    """
    for child in children:
        child.send_signal(signal.SIGCONT)  # a stopped process does not handle SIGTERM
        child.terminate()
    deadline = time.monotonic() + within_seconds
    while any(child.poll() is None for child in children) and time.monotonic() < deadline and not hurried():
        time.sleep(POLL_SECONDS)
    for child in children:
        child.kill()  # does nothing to one that has ended
        child.wait()


class Child:
    """A program that is started again whenever it ends: soon after a long life, later and later after short ones."""

    def __init__(self, name: str, launch: Callable[[], subprocess.Popen[bytes]], *, may_leave: bool = False) -> None:
        """Describe a child; `start` starts it.

        Args:
            name: The name of the child in the log.
            launch: Starts the program.
            may_leave: Whether exit status 0 means that the program was asked to leave. Then it is not started again.
        """
        self.name = name
        self._may_leave = may_leave
        self.process: subprocess.Popen[bytes] | None = None
        self._launch = launch
        self._wanted = False
        self._failures = 0
        self._started_at = 0.0
        self._restart_at: float | None = None

    @property
    def running(self) -> bool:
        """Whether the process has not ended. A process that SIGSTOP stopped is running, too."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the program, and let `watch` keep it alive."""
        self._wanted = True
        self._restart_at = None
        self._started_at = time.monotonic()
        self.process = self._launch()

    def give_up(self) -> None:
        """Do not start the program again when it ends."""
        self._wanted = False

    def watch(self) -> None:
        """Start the program again if it has ended and its backoff has passed. Never waits; call it regularly."""
        if not self._wanted or self.running:
            return
        if self._may_leave and self.process is not None and self.process.returncode == 0:
            log.info("child_left", child=self.name, reason="it was asked to")
            self.give_up()
            return
        now = time.monotonic()
        if self._restart_at is None:
            self._failures = 0 if now - self._started_at > HEALTHY_SECONDS else self._failures + 1
            status = self.process.returncode if self.process else None
            delay = self._schedule_restart(now)
            todo = "see what it logged last; starting it again"
            log.warning("child_ended", child=self.name, status=status, retry_seconds=delay, todo=todo)
        elif now >= self._restart_at:
            try:
                self.start()
            except OSError as error:  # no memory, or no disk: try again later, and keep the other children
                self._failures += 1
                delay = self._schedule_restart(now)
                todo = "free some memory and disk; trying again"
                log.warning("child_not_started", child=self.name, error=str(error), retry_seconds=delay, todo=todo)
            else:
                log.info("child_restarted", child=self.name)

    def _schedule_restart(self, now: float) -> float:
        delay = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0**self._failures)
        self._restart_at = now + delay
        return delay
