"""What a benchmark says: one document, with figures whose names scripts may depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

Figure = int | float


class Report(msgspec.Struct, kw_only=True, frozen=True):
    """One run of one suite."""

    suite: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    figures: Mapping[str, Figure]


def machine() -> dict[str, Any]:
    """What figures depend on beside ourselves."""
    import confluent_kafka
    import psutil

    from ftjm import __version__

    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "ftjm": __version__,
        # Of other programs as well: a figure from a busy machine tells little.
        "load_before": round(psutil.getloadavg()[0], 2),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def rate(count: int, seconds: float) -> float:
    """So many in a second, with the three digits that mean something."""
    return significant(count / seconds) if seconds > 0 else 0.0


def significant(value: float, digits: int = 3) -> float:
    """The value with so many digits: 12345.6 is 12300.0."""
    return float(f"{value:.{digits}g}")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is at least as large as `percent` of them (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
