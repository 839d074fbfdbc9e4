"""Wait for a condition with a limit, so that no test depends on how long something takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LIMIT_SECONDS = 180.0
"""A condition that is not true by then is taken for a hang. Several files run at a time, and one start of Kafka was
seen to take 100 s."""


def until(condition: Callable[[], T | None], what: str, limit_seconds: float = LIMIT_SECONDS) -> T:
    """Wait until the condition returns a true value and return that value. After the limit, fail and name `what`."""
    deadline = time.monotonic() + limit_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {limit_seconds} s for {what}"
        time.sleep(0.05)
    return value
