"""The processes of a benchmark: each with a file for what it says, and none left behind."""

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

from ftjm import children
from ftjm.config import Settings
from ftjm.errors import FtjmError

STOP_SECONDS_MAX = 25.0
LINES_SHOWN = 15
LOOK_SECONDS = 0.01


class Member:
    """One process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.process = process
        self.output = output

    def failure(self) -> FtjmError:
        """An error that shows the end of what it said."""
        said = "".join(f"\n    {line}" for line in self.output.read_text(errors="replace").splitlines()[-LINES_SHOWN:])
        return FtjmError(
            f"{self.name} to go on",
            f"it ended with status {self.process.returncode} and said:{said}",
            "mend what it says, and run the benchmark again",
        )


class Crew:
    """A context manager: on leaving it none of the processes is left."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._environment = {**os.environ, **settings.environment(), "FTJM_LOG_FORMAT": "json"}
        self._members: list[Member] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(list(self._members))

    @property
    def members(self) -> list[Member]:
        """Those that should be running."""
        return list(self._members)

    def start(self, name: str, *command: str) -> Member:
        """Start `python -m` with this command."""
        output = self._folder / f"{name}.log"
        process = children.spawn([sys.executable, "-m", *command], output=output, env=self._environment)
        member = Member(name, process, output)
        self._members.append(member)
        return member

    def role(self, name: str, role: str, what: Any) -> Member:
        """Start a process of `ftjm.bench`; see its `__main__`."""
        return self.start(name, "ftjm.bench", role, msgspec.json.encode(what).decode())

    def check(self) -> None:
        """Raise FtjmError if a process has ended that should not, or badly."""
        for member in self._members:
            if member.process.poll() not in {None, 0}:
                raise member.failure()

    def await_ready(self, members: Iterable[Member], timeout_seconds: float) -> None:
        """Wait until each has said something. Raises FtjmError as `results`."""
        deadline = time.monotonic() + timeout_seconds
        for member in members:
            while not member.output.stat().st_size:
                self._wait(member, deadline)

    def results(self, members: Iterable[Member], kind: Any, timeout_seconds: float) -> list[Any]:
        """Wait for the ends of these; what each printed last. Raises FtjmError if one fails, or takes too long."""
        deadline = time.monotonic() + timeout_seconds
        found = []
        for member in members:
            while member.process.poll() is None:
                self._wait(member, deadline)
            self.check()
            found.append(msgspec.json.decode(member.output.read_bytes().splitlines()[-1], type=kind))
            self._members.remove(member)
        return found

    def _wait(self, member: Member, deadline: float) -> None:
        self.check()
        if time.monotonic() > deadline:
            todo = "take fewer --jobs, or look what keeps this machine busy"
            raise FtjmError(f"{member.name} to get on in time", "it does not", todo)
        time.sleep(LOOK_SECONDS)

    @contextmanager
    def losing(self, member: Member) -> Iterator[None]:
        """Whatever becomes of the process in this time is meant; at the end of it, it is killed."""
        self._members.remove(member)
        try:
            yield
        finally:
            member.process.kill()
            member.process.wait()

    def stop(self, members: Sequence[Member]) -> None:
        """SIGTERM, and SIGKILL to those that take too long; again is fine."""
        running = [member.process for member in members if member.process.poll() is None]
        children.stop(running, within_seconds=STOP_SECONDS_MAX)
        self._members = [member for member in self._members if member not in members]


def cpu_seconds(members: Iterable[Member]) -> float:
    """What these processes have used of the processors so far, s."""
    times = [psutil.Process(member.process.pid).cpu_times() for member in members]
    return float(sum(each.user + each.system for each in times))
