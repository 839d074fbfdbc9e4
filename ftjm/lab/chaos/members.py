"""The processes of the cluster that a run breaks: starting them again, and sending them signals."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from ftjm.lab.chaos.process_trees import running, send, stop_tree
from ftjm.lab.chaos.proxies import Link
from ftjm.runtime import child_processes, logs
from ftjm.worker.attempts.linux_processes import mark_of

ON_FULL_DISK = "on a full disk"
"""Text in the report for a process that ended while its disk was full: it cannot log the reason."""

ERROR_LINES = 3
"""An error of ftjm has so many: what was expected, what was found, and what to do."""
ZYGOTE = "ftjm.worker.executors.python.zygote"

log = logs.get(__name__)


class Member:
    """One process of the cluster, and its proxies to the brokers."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path, links: Sequence[Link]
    ) -> None:
        self.name = name
        self.links = links
        self.start_count = 0
        self.unexpected_ends: list[str] = []
        """Description of each unexpected end of the process."""
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [sys.executable, *command]
        self._env = env
        self._folder = folder
        self._lock = threading.Lock()
        self._should_run = False
        self._full_start = 0
        """Number of the newest start during which the disk was full."""

    # -- starting and ending

    def start(self) -> None:
        """Start the process, unless it runs already."""
        with self._lock:
            self._should_run = True
            if self.process is None or self.process.poll() is not None:
                self.start_count += 1
                output = self._folder / f"{self.name}-{self.start_count}.log"
                self.process = child_processes.spawn(self._command, output=output, env=self._env)

    def restart_if_ended(self) -> None:
        """Start the process again if it has ended unexpectedly, and remember how it ended."""
        with self._lock:
            status = self.process.poll() if self.process and self._should_run else None
        if status is not None:
            lines = (self._folder / f"{self.name}-{self.start_count}.log").read_text(errors="replace").splitlines()
            full = f" {ON_FULL_DISK}" if self._full_start == self.start_count else ""
            last = " | ".join(line.strip() for line in lines[-ERROR_LINES:])
            self.unexpected_ends.append(
                f"{self.name} ended with status {status}{full}, start {self.start_count}: {last}"
            )
            todo = "see its newest log, and the report; starting it again"
            log.warning("member_ended", member=self.name, status=status, todo=todo)
            self.start()

    def expect_end(self) -> subprocess.Popen[bytes] | None:
        """Note that the process is meant to end, and return it if it still runs."""
        with self._lock:
            self._should_run = False
            return self.process if self.process and self.process.poll() is None else None

    def log_lines(self, first_start: int) -> Iterator[dict[str, Any]]:
        """Return what the process logged since its start number `first_start`."""
        for number in range(first_start, self.start_count + 1):
            for text in (self._folder / f"{self.name}-{number}.log").read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    if isinstance(line := json.loads(text), dict):
                        yield line

    # -- breaking it

    def kill(self) -> int:
        """Kill the process (SIGKILL), and keep it down until `start`. Return its pid; 0 if it did not run."""
        process = self.expect_end()
        if process is None:
            return 0
        process.kill()
        process.wait()
        return process.pid

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the process itself, not to its children. Return whether it was there."""
        return bool(send([self._process()], number))

    def guards(self) -> list[psutil.Process]:
        """Return the guard processes of a worker: one, and more while attempts have a guard of their own."""
        return running(self._process().pid, "ftjm.worker.guard.guard")

    def zygotes(self) -> list[psutil.Process]:
        """Return the processes of a worker that fork task processes."""
        return [process for process in running(self._process().pid, ZYGOTE) if not self._is_marked(process)]

    def task_processes(self) -> list[psutil.Process]:
        """Return the kept processes that run Python tasks, those that wait for an attempt included.

        They have the zygote's command line, and the mark of an attempt.
        """
        return [process for process in running(self._process().pid, ZYGOTE) if self._is_marked(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        return mark_of(process.pid) != mark_of(self._process().pid)

    def freeze(self) -> list[psutil.Process]:
        """Stop the process and all below it (SIGSTOP), and return them."""
        return stop_tree(self._process().pid)

    def limit_files(self, *, full: bool) -> bool:
        """Let no file of the process grow, as on a full disk, or let all grow again. Return whether the process was
        there.

        A write then fails with EFBIG, where a full disk would give ENOSPC.
        """
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            limit_files(self._process().pid, full=full)
            self._full_start = self.start_count if full else self._full_start
            return True
        return False

    def _process(self) -> psutil.Process:
        assert self.process is not None
        return psutil.Process(self.process.pid)


def limit_files(pid: int, *, full: bool) -> None:
    """Let no regular file of a process grow, as on a full disk, or let them grow again."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0 if full else hard, hard))
