"""Durations and times as people write them, in milliseconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
DURATION_MS_MAX = 3650 * UNITS_MS["d"]
DURATION_EXAMPLES = "a duration such as 500ms, 10s, 2m, 1h30m or 1d"
TIME_SHOWN_MAX_MS = 253_402_300_799_999
"""The end of the year 9999: other programs' commands may name later times, which no calendar of Python's has."""
TIME_EXAMPLES = "a time with its offset from UTC, such as 2030-01-31T18:00:00Z or 2030-01-31T18:00:00+02:00"

_DURATION = re.compile(r"(?=.)" + "".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?){unit})?" for unit in UNITS_MS) + r"\Z")


def parse_duration(text: str) -> int:
    """Milliseconds of `500ms`, `10s`, `2m`, `1h30m`, `1.5d`: numbers with units, the largest unit first; or `0`.

    Raises:
        ValueError: for anything else, a number without a unit among it, and for more than ten years.
    """
    found = _DURATION.match(text.strip())
    if found is None:
        if text.strip() == "0":
            return 0
        raise ValueError(f"expected {DURATION_EXAMPLES}, but found {text!r}")
    ms = round(sum(float(number) * UNITS_MS[unit] for unit, number in found.groupdict().items() if number))
    if ms > DURATION_MS_MAX:
        raise ValueError(f"expected at most {format_duration(DURATION_MS_MAX)}, but found {text!r}")
    return ms


def format_duration(ms: int) -> str:
    """The shortest exact form, such as `1h30m`, that `parse_duration` reads back."""
    parts = []
    for unit, size in UNITS_MS.items():
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_time(text: str) -> int:
    """Milliseconds since the Unix epoch of an RFC 3339 time.

    Raises:
        ValueError: for another form, a time without an offset (whose noon is it?), and one before 1970.
    """
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"expected {TIME_EXAMPLES}, but found {text!r}") from None
    if when.tzinfo is None:
        raise ValueError(f"expected {TIME_EXAMPLES}, but {text!r} has no offset")
    ms = round(when.timestamp() * 1000)
    if ms < 0:
        raise ValueError(f"expected a time after 1970, but found {text!r}")
    return ms


def format_time(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds; empty for 0, which stands for no time."""
    if ms == 0:
        return ""
    return (
        datetime.fromtimestamp(min(ms, TIME_SHOWN_MAX_MS) / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def format_age(ms: int) -> str:
    """A duration for a glance: its largest unit only, such as `3h`."""
    for unit, size in UNITS_MS.items():
        if ms >= size:
            return f"{ms // size}{unit}"
    return "0s"


def age_of(time_ms: int) -> str:
    """How long ago that was, by this machine's clock, for a glance."""
    return format_age(max(0, time.time_ns() // 1_000_000 - time_ms))
