"""The Python task that the benchmarks run."""

from __future__ import annotations

import time

import ftjm


@ftjm.task(max_attempts=1)
def end_ns() -> int:
    """The time at which it ends, ns since the Unix epoch."""
    return time.time_ns()
