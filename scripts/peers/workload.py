"""The workload that every system gets, run by the Python that has the system's client. Prints the figures as JSON.

Jobs call a Python function that does nothing, with 200 bytes, and are submitted by one client. A job counts as done
when its function returns: the trace that it leaves is the same for all systems.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.peers.processes import Processes, Stalled, free_ports

WARM_UP = 100
SETTLE_PART = 0.2
"""Workers that were just started get this part of the time of latency before something is measured: one may be slower
to start than another."""
RATE = 50
"""Jobs per second while latency is measured."""
SILENCE_SECONDS_MAX = 60.0
POLL_SECONDS = 0.005


class Peer(ABC):
    """One system. A file beside this one has a subclass, and the functions as tasks of the system."""

    title: str
    flushes: str
    """Where a job is once its submission is acknowledged: it survives the loss of everything else."""
    stores: str
    """What the system keeps of a job, apart from the job's place in the queue."""

    def __init__(self, folder: Path, processes: Processes, ports: Sequence[int]) -> None:
        """
        Args:
            folder: an empty directory.
            processes: starts servers.
            ports: free ports of loopback.
        """
        self.folder = folder
        self.processes = processes
        self.ports = ports

    @property
    @abstractmethod
    def version(self) -> str:
        """The versions of what runs."""

    @abstractmethod
    def start(self) -> None:
        """Start the servers, and return when they answer."""

    @abstractmethod
    def worker_command(self, number: int) -> Sequence[str]:
        """Return the command of the worker process of this number."""

    @abstractmethod
    def submit(self, count: int) -> None:
        """Submit so many jobs of `functions.no_op`, and return when all are acknowledged."""

    @abstractmethod
    def submit_stamp(self, number: int) -> None:
        """Submit a job of `functions.stamp`, and return when it is acknowledged."""


class Workload:
    """The phases of the workload, on a system whose servers run."""

    def __init__(self, peer: Peer, processes: Processes, jobs: int, seconds: float) -> None:
        """
        Args:
            jobs: how many jobs each phase submits at once.
            seconds: how long latency and the idle system are measured.
        """
        from scripts.peers import functions

        self._files = functions
        self._peer = peer
        self._processes = processes
        self._jobs = jobs
        self._seconds = seconds
        self._settle_seconds = SETTLE_PART * seconds

    def run(self) -> dict[str, float]:
        """Run all phases and return their figures."""
        with self._workers(1):  # servers and files are warm for all phases then
            pass
        figures: dict[str, float] = {}
        for workers in (1, 2):
            figures |= self._drain(workers)
        for workers in (1, 2):
            figures |= self._end_to_end(workers)
        return figures | self._quiet()

    def _drain(self, workers: int) -> dict[str, float]:
        """Submit jobs, then start workers. The time runs from the first end of a job to the last one."""
        before = self._files.done()
        began = time.perf_counter()
        self._peer.submit(self._jobs)
        submit_seconds = time.perf_counter() - began
        running = self._start(workers)
        first, early = self._await_done(before + 1)
        last, _ = self._await_done(before + self._jobs)
        self._processes.stop(running)
        left = before + self._jobs - early
        found = {f"drain_{workers}_per_s": left / (last - first) if left else 0.0}
        return found if workers > 1 else {"submit_per_s": self._jobs / submit_seconds, **found}

    def _end_to_end(self, workers: int) -> dict[str, float]:
        """Submit jobs while workers run. The time runs from the first submission to the last end of a job."""
        with self._workers(workers):
            before = self._files.done()
            began = time.perf_counter()
            self._peer.submit(self._jobs)
            last, _ = self._await_done(before + self._jobs)
        return {f"end_to_end_{workers}_per_s": self._jobs / (last - began)}

    def _quiet(self) -> dict[str, float]:
        """Submit a few jobs per second, then none."""
        with self._workers(1):
            took = sorted(self._latencies_ms(int(RATE * self._seconds)))
            time.sleep(self._settle_seconds)
            return {
                "p50_ms": took[len(took) // 2],
                "p99_ms": took[min(len(took) - 1, len(took) * 99 // 100)],
                "idle_percent": self._processes.cpu_percent(self._seconds),
                "memory_mb": self._processes.pss_mb(),
            }

    def _latencies_ms(self, count: int) -> Iterator[float]:
        began, first = {}, time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, first + number / RATE - time.monotonic()))
            began[number] = time.time_ns()
            self._peer.submit_stamp(number)
        self._await(lambda: len(self._files.stamps()), count)
        ended = self._files.stamps()
        return ((ended[number] - began[number]) / 1e6 for number in range(count))

    @contextmanager
    def _workers(self, count: int) -> Iterator[None]:
        """Let workers run inside the block. They have run some jobs before."""
        running = self._start(count)
        before = self._files.done()
        self._peer.submit(WARM_UP)
        self._await_done(before + WARM_UP)
        time.sleep(self._settle_seconds)
        yield
        self._processes.stop(running)

    def _start(self, count: int) -> list[subprocess.Popen[bytes]]:
        return [self._processes.start(f"worker-{number}", self._peer.worker_command(number)) for number in range(count)]

    def _await_done(self, count: int) -> tuple[float, int]:
        """Wait until so many jobs are done in all. Return when that was, and how many were done then."""
        return self._await(self._files.done, count)

    def _await(self, measure: Callable[[], int], count: int) -> tuple[float, int]:
        last, changed = -1, time.monotonic()
        while True:
            now, found = time.perf_counter(), measure()
            if found >= count:
                return now, found
            if found != last:
                last, changed = found, time.monotonic()
            if time.monotonic() - changed > SILENCE_SECONDS_MAX:
                raise Stalled(f"{count - found} of {count} jobs did not end, and none for {SILENCE_SECONDS_MAX:g} s")
            self._processes.check()
            time.sleep(POLL_SECONDS)


def main() -> int:
    """Run the workload on the system that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="the module of a system")
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ftjm-peers-", ignore_cleanup_errors=True) as name:
        folder, ports = Path(name), free_ports(3)
        # Workers are started with these variables, and the file of the peer reads them when it is imported.
        os.environ |= {"PEERS_FOLDER": name, "PEERS_PORT": str(ports[0])}
        processes = Processes(folder)
        peer: Peer = importlib.import_module(options.module).System(folder, processes, ports)
        try:
            peer.start()
            figures = Workload(peer, processes, options.jobs, options.seconds).run()
        except Stalled as problem:
            sys.stderr.write(f"{problem}\n")
            return 1
        finally:
            processes.stop_all()
    about = {"title": peer.title, "version": peer.version, "flushes": peer.flushes, "stores": peer.stores}
    sys.stdout.write(json.dumps({**about, "figures": figures}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
