"""The report of a benchmark: one document with figures, whose names scripts may depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

Figure = int | float
STAGE = "stage_"
"""Prefix of figures that follow each other in time: each stage begins where the one before it ends."""


class BenchReport(msgspec.Struct, kw_only=True, frozen=True):
    """The result of one run of one suite."""

    suite: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    figures: Mapping[str, Figure]


def machine() -> dict[str, Any]:
    """Return what figures depend on beside ftjm: processor, memory, system, versions, and the load before the run."""
    import psutil

    from ftjm.adapters.kafka.connection import librdkafka_version
    from ftjm.runtime.version import __version__

    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "librdkafka": librdkafka_version(),
        "ftjm": __version__,
        # The load includes other programs: figures from a busy machine cannot be compared.
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def rate(count: int, seconds: float) -> float:
    """Return `count` per second, with three significant digits; 0 for no time."""
    return significant(count / seconds) if seconds > 0 else 0.0


def significant(value: float, digits: int = 3) -> float:
    """Return the value rounded to significant digits: 12345.6 becomes 12300.0."""
    return float(f"{value:.{digits}g}")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that is at least as large as `percent` of all values (nearest-rank method).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
