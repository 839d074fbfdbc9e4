"""The processes that are broken, and the ways in which a process can be."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from ftjm import children, logs
from ftjm.chaos.links import Link

ON_FULL_DISK = "on a full disk"
"""Where it may end, since it cannot even say why it does."""

log = logs.get(__name__)


class Member:
    """One process of the cluster, and its links to the brokers."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path, links: Sequence[Link]
    ) -> None:
        self.name = name
        self.links = links
        self.lives = 0
        self.deaths: list[str] = []
        """How it ended by itself."""
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [sys.executable, *command]
        self._env = env
        self._folder = folder
        self._lock = threading.Lock()
        self._wanted = False
        self._full_life = 0
        """The newest of its lives that had a full disk."""

    # -- its life

    def start(self) -> None:
        """A new life, unless it has one."""
        with self._lock:
            self._wanted = True
            if self.process is None or self.process.poll() is not None:
                self.lives += 1
                output = self._folder / f"{self.name}-{self.lives}.log"
                self.process = children.spawn(self._command, output=output, env=self._env)

    def watch(self) -> None:
        """Start it again if it has ended although nobody killed it, and remember that."""
        with self._lock:
            status = self.process.poll() if self.process and self._wanted else None
        if status is not None:
            said = (self._folder / f"{self.name}-{self.lives}.log").read_text(errors="replace").splitlines()
            full = f" {ON_FULL_DISK}" if self._full_life == self.lives else ""
            last = " | ".join(said[-1:])
            self.deaths.append(f"{self.name} ended with status {status}{full}, life {self.lives}: {last}")
            log.warning("a member ended by itself", member=self.name, status=status)
            self.start()

    def let_go(self) -> subprocess.Popen[bytes] | None:
        """It is meant to end: its process, if it runs."""
        with self._lock:
            self._wanted = False
            return self.process if self.process and self.process.poll() is None else None

    def said(self, life: int) -> Iterator[dict[str, Any]]:
        """What it logged in this life and later ones."""
        for number in range(life, self.lives + 1):
            for line in (self._folder / f"{self.name}-{number}.log").read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    if isinstance(told := json.loads(line), dict):
                        yield told

    # -- what breaks it

    def kill(self) -> int:
        """`kill -9`, and not started again before `start`; the pid of what was killed, 0 if it did not run."""
        process = self.let_go()
        if process is None:
            return 0
        process.kill()
        process.wait()
        return process.pid

    def send(self, number: signal.Signals) -> bool:
        """A signal to its own process; whether that is there."""
        return bool(self._to([self._self()], number))

    def guard(self) -> list[psutil.Process]:
        """The worker's guard, if it has one just now."""
        with contextlib.suppress(psutil.Error):
            for child in self._self().children():
                if any("ftjm.worker.guard" in part for part in child.cmdline()):
                    return [child]
        return []

    def freeze(self) -> list[psutil.Process]:
        """Stop all that it consists of; whom to wake."""
        frozen: list[psutil.Process] = []
        # What starts others is stopped before they are counted.
        while newer := [process for process in self._family() if process not in frozen]:
            if not (hit := self._to(newer, signal.SIGSTOP)):
                break
            frozen += hit
        return frozen

    def signal_guard(self, number: signal.Signals) -> list[psutil.Process]:
        """Send it to the guard; whom it went to."""
        return self._to(self.guard(), number)

    @staticmethod
    def wake(processes: Sequence[psutil.Process]) -> None:
        """Let them run again."""
        Member._to(processes, signal.SIGCONT)

    def limit_files(self, *, full: bool) -> bool:
        """No file can grow any more (EFBIG, where a full disk says ENOSPC), or all can again; whether it is there."""
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            limit_files(self._self().pid, full=full)
            self._full_life = self.lives if full else self._full_life
            return True
        return False

    def _self(self) -> psutil.Process:
        assert self.process is not None
        return psutil.Process(self.process.pid)

    def _family(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            yield self._self()
            yield from self._self().children(recursive=True)

    @staticmethod
    def _to(processes: Sequence[psutil.Process], number: signal.Signals) -> list[psutil.Process]:
        """Whom it reached: those that are there, and no zombies."""
        reached = []
        for process in processes:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if process.status() != psutil.STATUS_ZOMBIE:
                    os.kill(process.pid, number)
                    reached.append(process)
        return reached


def limit_files(pid: int, *, full: bool) -> None:
    """Let no regular file of a process grow, as on a full disk; or let it again."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))
