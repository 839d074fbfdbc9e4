"""The processes of one system: its servers and its workers, each with everything that it starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import psutil

STOP_SECONDS_MAX = 20.0
START_SECONDS_MAX = 300.0
POLL_SECONDS = 0.05
MB = 1e6


class Stalled(Exception):
    """What was waited for did not happen."""


class Processes:
    """The running processes of a system. Each begins a session of its own, so that what it leaves behind is found."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process that writes its output to `NAME.log`. The variables are added to those of this process."""
        with (self._folder / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def check(self) -> None:
        """Raise Stalled if a process has ended by itself."""
        for process in self._running:
            if process.poll() is not None:
                raise Stalled(f"{process.args!r} ended with status {process.returncode}; see {self._folder}/*.log")

    def stop(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Ask processes to end, and kill what is left of them and of all that they started."""
        members = [member for process in processes for member in _family(process)]
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for member in members:
            with suppress(psutil.NoSuchProcess):  # psutil refuses a process that has only the same number
                member.kill()
        psutil.wait_procs(members, timeout=STOP_SECONDS_MAX)
        for process in processes:
            process.wait()
            self._running.remove(process)

    def stop_all(self) -> None:
        """Stop everything, what was started last first."""
        for process in reversed(self._running[:]):
            self.stop([process])

    def pss_mb(self) -> float:
        """Return the memory of all processes as the sum of their PSS, MB."""
        return sum(_measured(member, lambda each: float(each.memory_full_info().pss)) for member in self._members) / MB

    def cpu_percent(self, seconds: float) -> float:
        """Return what all processes take of one core within the next `seconds`, %."""
        members = self._members
        before = sum(_measured(member, _cpu_seconds) for member in members)
        time.sleep(seconds)
        return 100 * (sum(_measured(member, _cpu_seconds) for member in members) - before) / seconds

    @property
    def _members(self) -> list[psutil.Process]:
        return [member for process in self._running for member in _family(process)]


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The process, what it has started, and what is left of its session."""
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(process.pid)
        return [head, *(child for child in head.children(recursive=True) if child.pid != head.pid)]
    return [each for each in psutil.process_iter() if _session(each.pid) == process.pid]


def _session(pid: int) -> int:
    with suppress(OSError):
        return os.getsid(pid)
    return 0


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _measured(process: psutil.Process, measure: Callable[[psutil.Process], float]) -> float:
    with suppress(psutil.NoSuchProcess):
        return measure(process)
    return 0.0


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nothing uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def await_port(port: int, check: Callable[[], None]) -> None:
    """Wait until something answers at a port of loopback. Raises Stalled, and what `check` raises."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        check()
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1.0)):
            return
        time.sleep(POLL_SECONDS)
    raise Stalled(f"nothing answers at port {port} after {START_SECONDS_MAX:g} s")
