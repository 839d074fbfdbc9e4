"""Waiting for a condition, with a limit: no test depends on how long something takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_SECONDS = 90.0
"""Of a hang: several files run at a time, and a start of Kafka alone was seen to take half a minute."""


def until(condition: Callable[[], T | None], what: str, limit_seconds: float = LIMIT_SECONDS) -> T:
    """The condition's first true value. Fails, saying `what` was awaited, after the limit."""
    deadline = time.monotonic() + limit_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {limit_seconds} s for {what}"
        time.sleep(0.05)
    return value
