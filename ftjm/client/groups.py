"""Groups of jobs that are sent together.

A producer sends what it is given at once, and what is given to it meanwhile with its next request. A program that makes
one job after the other would so have few in each request, and requests are most of what a submission costs.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

GROUP_MAX = 128
"""Most items of a group."""
PAUSE_SECONDS = 0.001
"""An item that took longer than this to come ends its group."""

T = TypeVar("T")


def grouped(items: Iterable[T]) -> Iterator[list[T]]:
    """Put items that come right after each other into groups.

    Args:
        items: Where they come from. If it raises, the items before come first, and then it is raised here.
    """
    group: list[T] = []
    asked_at = time.monotonic()
    try:
        for item in items:
            group.append(item)
            if len(group) >= GROUP_MAX or time.monotonic() - asked_at > PAUSE_SECONDS:
                yield group
                group = []
            asked_at = time.monotonic()
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group
