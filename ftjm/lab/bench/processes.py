"""The processes of a benchmark. Each writes its output into a file, and none outlives the run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from ftjm.runtime import child_processes
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

STOP_SECONDS_MAX = 25.0
LINES_SHOWN = 15
POLL_SECONDS = 0.01
MB = 1e6


class BenchProcess:
    """One process and the file of its output."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.process = process
        self.output = output

    def failure(self) -> FtjmError:
        """Return an error that shows the last lines of the output."""
        lines = "".join(f"\n    {line}" for line in self.output.read_text(errors="replace").splitlines()[-LINES_SHOWN:])
        return FtjmError(
            f"{self.name} to keep running",
            f"it ended with status {self.process.returncode} and wrote:{lines}",
            "fix what it reports, and run the benchmark again",
        )


class ProcessGroup:
    """The running processes of a benchmark. A context manager: on exit, all are stopped."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._environment = {**os.environ, **settings.environment(), "FTJM_LOG_FORMAT": "json"}
        self._members: list[BenchProcess] = []

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(list(self._members))

    @property
    def members(self) -> list[BenchProcess]:
        """The processes that should be running."""
        return list(self._members)

    def start(self, name: str, *command: str) -> BenchProcess:
        """Start `python -m COMMAND`."""
        output = self._folder / f"{name}.log"
        process = child_processes.spawn([sys.executable, "-m", *command], output=output, env=self._environment)
        member = BenchProcess(name, process, output)
        self._members.append(member)
        return member

    def start_role(self, name: str, role: str, arguments: Any) -> BenchProcess:
        """Start a process of `ftjm.lab.bench`: a role of its `__main__`, with arguments that become JSON."""
        return self.start(name, "ftjm.lab.bench", role, msgspec.json.encode(arguments).decode())

    def check(self) -> None:
        """Raise FtjmError if a process has ended with an error."""
        for member in self._members:
            if member.process.poll() not in {None, 0}:
                raise member.failure()

    def await_ready(self, members: Iterable[BenchProcess], timeout_seconds: float) -> None:
        """Wait until each process has written its first output. Raises FtjmError as `results`."""
        deadline = time.monotonic() + timeout_seconds
        for member in members:
            while not member.output.stat().st_size:
                self._wait(member, deadline)

    def results(self, members: Iterable[BenchProcess], kind: Any, timeout_seconds: float) -> list[Any]:
        """Wait until these processes have ended, and return the last line of each, decoded as `kind`.

        Raises:
            FtjmError: a process failed, or takes too long.
        """
        deadline = time.monotonic() + timeout_seconds
        found = []
        for member in members:
            while member.process.poll() is None:
                self._wait(member, deadline)
            self.check()
            found.append(msgspec.json.decode(member.output.read_bytes().splitlines()[-1], type=kind))
            self._members.remove(member)
        return found

    def _wait(self, member: BenchProcess, deadline: float) -> None:
        self.check()
        if time.monotonic() > deadline:
            todo = "take fewer --jobs, or find out what keeps this machine busy"
            raise FtjmError(f"{member.name} to finish in time", "it has not", todo)
        time.sleep(POLL_SECONDS)

    @contextmanager
    def losing(self, member: BenchProcess) -> Iterator[None]:
        """Let the process end in any way inside the block; kill it at the end of the block."""
        self._members.remove(member)
        try:
            yield
        finally:
            member.process.kill()
            member.process.wait()

    def stop(self, members: Sequence[BenchProcess]) -> None:
        """Send SIGTERM, and SIGKILL to those that take too long. May be called again."""
        running = [member.process for member in members if member.process.poll() is None]
        child_processes.stop(running, within_seconds=STOP_SECONDS_MAX)
        self._members = [member for member in self._members if member not in members]


def largest_pss_mb(members: Iterable[BenchProcess]) -> float:
    """Return the memory of the largest of these processes, MB: its proportional set size (PSS).

    PSS counts a page that several processes share as a part for each, so the PSS of all processes add up to what they
    take together.
    """
    return float(max(psutil.Process(member.process.pid).memory_full_info().pss for member in members) / MB)


def cpu_seconds(members: Iterable[BenchProcess]) -> float:
    """Return the processor time that these processes have used so far, s."""
    times = [psutil.Process(member.process.pid).cpu_times() for member in members]
    return float(sum(each.user + each.system for each in times))
