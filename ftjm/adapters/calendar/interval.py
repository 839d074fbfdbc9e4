"""Intervals: an instant every so many milliseconds."""

from __future__ import annotations


def next_of_interval(every_ms: int, start_ms: int, after_ms: int) -> int:
    """The first instant after `after_ms`. The instants are `start_ms`, and one every `every_ms` from then on.

    All three are milliseconds; `start_ms` and `after_ms` since the Unix epoch. A schedule without a start has
    `start_ms` 0, so its instants do not depend on when it was declared.

    Raises:
        ValueError: `every_ms` is less than 1.
    """
    if every_ms < 1:
        raise ValueError(f"expected an interval of at least 1 ms, but found {every_ms}")
    if after_ms < start_ms:
        return start_ms
    return after_ms + every_ms - (after_ms - start_ms) % every_ms
