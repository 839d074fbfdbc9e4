"""The Python tasks that the benchmarks run. Each gets the payload of all jobs, 200 bytes as JSON."""

from __future__ import annotations

import time

import ftjm


@ftjm.task(max_attempts=1)
def no_op(payload: str) -> str:
    """Return the payload."""
    return payload


@ftjm.task(max_attempts=1)
def end_ns(payload: str) -> int:  # noqa: ARG001 -- every job carries the payload
    """Return the time at which the task ends, ns since the Unix epoch."""
    return time.time_ns()
