"""Arithmetic of intervals of time."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[float, float]
"""Start and end, ms of one clock."""


def uncovered(start: float, end: float, spans: Iterable[Span]) -> float:
    """Return how much of the time from `start` to `end` lies in none of `spans`, ms. The spans may overlap."""
    left = 0.0
    for since, until in sorted(spans):
        if start >= end:
            break
        if until > start:
            left += max(0.0, min(since, end) - start)
            start = until
    return left + max(0.0, end - start)
