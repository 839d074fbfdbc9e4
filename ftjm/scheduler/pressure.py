"""Watermarks: above the high one new submissions are refused, below the low one they are taken again."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil

from ftjm import logs
from ftjm.config import Settings

log = logs.get(__name__)

LOOK_SECONDS = 1.0
CGROUP = Path("/sys/fs/cgroup")


class Gate:
    """Closed from the high-water mark on until the value is below the low one."""

    def __init__(self, high: float, low: float) -> None:
        self._high, self._low = high, low
        self.closed = False

    def look(self, value: float) -> bool:
        """Take in a value; whether the gate is closed now."""
        self.closed = value >= (self._low if self.closed else self._high)
        return self.closed


class Pressure:
    """Of one process: its disk and its memory, and the backlog of each partition that it owns. For any thread."""

    def __init__(
        self,
        settings: Settings,
        disk: Callable[[Path], float] | None = None,
        memory: Callable[[], float] | None = None,
    ) -> None:
        """`disk` and `memory` tell how full they are, in percent; by default the disk of the stores is asked."""
        self._settings = settings
        look = disk or disk_percent
        self._probes: dict[str, tuple[Gate, Callable[[], float]]] = {
            "disk": (Gate(settings.disk_high_percent, settings.disk_low_percent), lambda: look(settings.data_dir)),
            "memory": (Gate(settings.memory_high_percent, settings.memory_low_percent), memory or memory_percent),
        }
        self._lags: dict[int, Gate] = defaultdict(lambda: Gate(settings.backlog_high, settings.backlog_low))
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._reason = ""
        self.reasons: dict[str, bool] = {}
        """Which watermark is exceeded, for the metrics."""

    def why(self, partition: int, backlog: int) -> str:
        """Why the partition refuses new submissions now; empty if it does not.

        Args:
            backlog: commands that wait to be decided.
        """
        with self._lock:
            if time.monotonic() - self._looked_at > LOOK_SECONDS:
                self._look()
            behind = self._lags[partition].look(backlog)
            self._count()
        if behind:
            return f"{backlog} commands wait in this partition; the mark is {self._settings.backlog_high}"
        return self._reason

    def forget(self, partition: int) -> None:
        """The partition is another's now."""
        with self._lock:
            self._lags.pop(partition, None)
            self._count()

    def _count(self) -> None:
        self.reasons["backlog"] = any(gate.closed for gate in self._lags.values())

    def _look(self) -> None:
        self._looked_at = time.monotonic()
        reasons = []
        for name, (gate, probe) in self._probes.items():
            value, before = probe(), gate.closed
            if gate.look(value):
                reasons.append(f"the scheduler's {name} is {value:.0f} % full")
            self.reasons[name] = gate.closed
            if gate.closed and not before:
                log.error("submissions_refused", reason=reasons[-1], todo=f"make room: {name}")
            elif before and not gate.closed:
                log.info("submissions_taken_again", reason=f"{name} is {value:.0f} % full")
        self._reason = ", ".join(reasons)


def disk_percent(path: Path) -> float:
    """How full the file system of `path` is."""
    return float(psutil.disk_usage(str(path)).percent)


def memory_percent() -> float:
    """How full memory is: the host's, or that of the control group that limits us, whichever is fuller."""
    host = float(psutil.virtual_memory().percent)
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limit ("max"), or another kind of system
        return host
    return max(host, 100 * (used - int(stat.get("inactive_file", 0))) / limit)
