"""Watermarks of disk, memory and backlog: why an owner refuses new jobs.

Above the high watermark new submissions are refused (`OVERLOADED`); below the low one they are accepted again. The two
differ, so that the decision does not flicker. The numbers are settings: `disk_high_percent`, `memory_high_percent`,
`backlog_high` and their low ones. Everything but new jobs is decided as always.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import psutil

from ftjm.runtime import logs
from ftjm.runtime.config import Settings

log = logs.get(__name__)

PROBE_SECONDS = 1.0
"""Pause between two measurements of disk and memory."""
CGROUP = Path("/sys/fs/cgroup")


class Watermarks:
    """A pair of watermarks: exceeded from the moment a value reaches the high one until one is below the low one."""

    def __init__(self, high: float, low: float) -> None:
        self._high, self._low = high, low
        self.exceeded = False

    def update(self, value: float) -> bool:
        """Take in a new value. Returns whether they are exceeded now."""
        self.exceeded = value >= (self._low if self.exceeded else self._high)
        return self.exceeded


class Overload:
    """Measures disk, memory and the backlog of each owned partition, and gives the reason to refuse new jobs.

    Any thread may use it.
    """

    def __init__(
        self,
        settings: Settings,
        disk: Callable[[Path], float] | None = None,
        memory: Callable[[], float] | None = None,
    ) -> None:
        """
        Args:
            settings: with the watermarks, and the directory of the stores.
            disk: measures how full the disk of a directory (of the stores) is, in percent.
            memory: measures how full memory is, in percent.
        """
        self._settings = settings
        measure_disk = disk or disk_percent
        self._probes: dict[str, tuple[Watermarks, Callable[[], float]]] = {
            "disk": (
                Watermarks(settings.disk_high_percent, settings.disk_low_percent),
                lambda: measure_disk(settings.data_dir),
            ),
            "memory": (Watermarks(settings.memory_high_percent, settings.memory_low_percent), memory or memory_percent),
        }
        self._backlog_watermarks: dict[int, Watermarks] = defaultdict(
            lambda: Watermarks(settings.backlog_high, settings.backlog_low)
        )
        self._lock = threading.Lock()
        self._probed_at = float("-inf")
        self._reason = ""
        self.reasons: dict[str, bool] = {}
        """Whether each pair of watermarks is exceeded, by its name (`disk`, `memory`, `backlog`). For the metrics."""

    def reason(self, partition: int, backlog: int) -> str:
        """Return why the partition refuses new submissions now; empty if it does not.

        Args:
            partition: a partition that this process owns.
            backlog: number of commands that wait to be decided.
        """
        with self._lock:
            if time.monotonic() - self._probed_at > PROBE_SECONDS:
                self._probe()
            behind = self._backlog_watermarks[partition].update(backlog)
            self._count()
        if behind:
            return (
                f"{backlog} commands wait in this partition; new jobs are refused from {self._settings.backlog_high} on"
            )
        return self._reason

    def forget(self, partition: int) -> None:
        """Forget the backlog of a partition that this process does not own any more."""
        with self._lock:
            self._backlog_watermarks.pop(partition, None)
            self._count()

    def _count(self) -> None:
        self.reasons["backlog"] = any(watermarks.exceeded for watermarks in self._backlog_watermarks.values())

    def _probe(self) -> None:
        self._probed_at = time.monotonic()
        reasons = []
        for name, (watermarks, probe) in self._probes.items():
            value, before = probe(), watermarks.exceeded
            if watermarks.update(value):
                reasons.append(f"the scheduler's {name} is {value:.0f} % full")
            self.reasons[name] = watermarks.exceeded
            if watermarks.exceeded and not before:
                log.error("submissions_refused", reason=reasons[-1], todo=f"free some {name}")
            elif before and not watermarks.exceeded:
                log.info("submissions_accepted_again", reason=f"{name} is {value:.0f} % full")
        self._reason = ", ".join(reasons)


def disk_percent(path: Path) -> float:
    """Return how full the file system of `path` is, in percent."""
    return float(psutil.disk_usage(str(path)).percent)


def memory_percent() -> float:
    """Return how full memory is, in percent: that of the host or of this process's control group, the fuller one."""
    host = float(psutil.virtual_memory().percent)
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limit ("max"), or another kind of system
        return host
    return max(host, 100 * (used - int(stat.get("inactive_file", 0))) / limit)
