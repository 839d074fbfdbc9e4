"""Durations and times as people write them (`1h30m`, RFC 3339), from and to milliseconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from ftjm.runtime.errors import short

UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
DURATION_MS_MAX = 3650 * UNITS_MS["d"]
DURATION_EXAMPLES = "a duration such as 500ms, 10s, 2m, 1h30m or 1d"
TIME_SHOWN_MAX_MS = 253_402_300_799_999
"""The end of the year 9999, after which Python has no dates. Commands of other programs may name later times."""
TIME_SHOWN_MIN_MS = 1
TIME_EXAMPLES = "a time with its offset from UTC, such as 2030-01-31T18:00:00Z or 2030-01-31T18:00:00+02:00"

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile(r"(?=.)" + "".join(rf"(?:(?P<{unit}>{_NUMBER}){unit})?" for unit in UNITS_MS) + r"\Z")


def parse_duration(text: str) -> int:
    """The milliseconds of a duration: numbers with units, the largest unit first, such as `1h30m` or `1.5d`; or `0`.

    Raises:
        ValueError: Another form, such as a number without a unit, or more than ten years.
    """
    found = _DURATION.match(text.strip())
    if found is None:
        if text.strip() == "0":
            return 0
        raise ValueError(f"expected {DURATION_EXAMPLES}, but found {short(text)!r}")
    ms = sum(float(number) * UNITS_MS[unit] for unit, number in found.groupdict().items() if number)
    if ms > DURATION_MS_MAX:  # it may be infinite
        raise ValueError(f"expected at most {format_duration(DURATION_MS_MAX)}, but found {short(text)!r}")
    return round(ms)


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
        ValueError: Another form, a time without its offset from UTC, or a time before 1970.
    """
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"expected {TIME_EXAMPLES}, but found {short(text)!r}") from None
    if when.tzinfo is None:
        raise ValueError(f"expected {TIME_EXAMPLES}, but {short(text)!r} has no offset")
    ms = round(when.timestamp() * 1000)
    if ms < 0:
        raise ValueError(f"expected a time after 1970, but found {short(text)!r}")
    return ms


def format_time(ms: int) -> str:
    """A time in UTC by RFC 3339, with milliseconds. Empty for 0, which means no time.

    Reports and commands of other programs may hold any number: one that Python has no date for, or that is before 1970,
    is shown as the nearest time that `parse_time` reads.
    """
    if ms == 0:
        return ""
    return (
        datetime.fromtimestamp(max(TIME_SHOWN_MIN_MS, min(ms, TIME_SHOWN_MAX_MS)) / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def format_age(ms: int) -> str:
    """A duration rounded down to its largest unit, such as `3h`."""
    for unit, size in UNITS_MS.items():
        if ms >= size:
            return f"{ms // size}{unit}"
    return "0s"


def age_of(time_ms: int) -> str:
    """How long ago a time was, by this machine's clock, rounded down to its largest unit."""
    return format_age(max(0, time.time_ns() // 1_000_000 - time_ms))
