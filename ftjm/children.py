"""Child processes that cannot outlive their parent, however it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ftjm import logs

BACKOFF_SECONDS_FIRST = 0.2
BACKOFF_SECONDS_MAX = 30.0
HEALTHY_SECONDS = 30.0

log = logs.get(__name__)

# Replaces itself by the program, so it costs no process. The signal is asked for after the fork, hence the second look
# at the parent: one that died in between sends none.
_LAUNCHER = """\
import ctypes, os, sys
ctypes.CDLL(None, use_errno=True).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

# The kernel sends a child its signal when the *thread* that forked it ends, so all are forked by one that never does.
_forker = ThreadPoolExecutor(1, thread_name_prefix="forker")


def spawn(
    command: Sequence[str | Path], *, output: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own (so that Ctrl-C reaches only us), killed when this process dies.

    `output` takes its standard output and error, and is truncated; by default it shares ours. Standard input is empty.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]

    def fork() -> subprocess.Popen[bytes]:
        file = output.open("wb") if output else None
        try:
            return subprocess.Popen(
                [*launcher, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT if file else None,
                env=env,
                start_new_session=True,
            )
        finally:
            if file:
                file.close()

    return _forker.submit(fork).result()


def stop(children: Sequence[subprocess.Popen[bytes]], *, within_seconds: float) -> None:
    """SIGTERM to all, then SIGKILL to those that have not ended in time. Returns when all are gone."""
    for child in children:
        child.send_signal(signal.SIGCONT)  # a stopped process would not hear the next one
        child.terminate()
    deadline = time.monotonic() + within_seconds
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Child:
    """A program that is started again whenever it ends: at once after a healthy life, later each time otherwise."""

    def __init__(self, name: str, launch: Callable[[], subprocess.Popen[bytes]], *, may_leave: bool = False) -> None:
        """With `may_leave`, exit status 0 means that it was told to end by somebody else: it stays away."""
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
        """Whether the process is there (a stopped one is)."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the program, to be kept alive from now on."""
        self._wanted = True
        self._restart_at = None
        self._started_at = time.monotonic()
        self.process = self._launch()

    def give_up(self) -> None:
        """It is meant to end: do not start it again."""
        self._wanted = False

    def watch(self) -> None:
        """Start it again if it has ended and its backoff is over. To be called every now and then; never waits."""
        if not self._wanted or self.running:
            return
        if self._may_leave and self.process is not None and self.process.returncode == 0:
            log.info("a child has left, as it was told to; it is not started again", child=self.name)
            self.give_up()
            return
        now = time.monotonic()
        if self._restart_at is None:
            self._failures = 0 if now - self._started_at > HEALTHY_SECONDS else self._failures + 1
            status = self.process.returncode if self.process else None
            delay = self._put_off(now)
            log.warning("a child ended; it is started again", child=self.name, status=status, after_seconds=delay)
        elif now >= self._restart_at:
            try:
                self.start()
            except OSError as error:  # no memory, no disk: the others go on, and this one is tried again
                self._failures += 1
                delay = self._put_off(now)
                log.warning("a child cannot be started", child=self.name, problem=str(error), again_after_seconds=delay)
            else:
                log.info("a child was started again", child=self.name)

    def _put_off(self, now: float) -> float:
        delay = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0**self._failures)
        self._restart_at = now + delay
        return delay
