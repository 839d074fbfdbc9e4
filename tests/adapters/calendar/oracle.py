"""When an expression is due around a change of the clock, by brute force: written from the table, not from the code.

It goes through every minute of real time, and looks at what the clock shows. It knows no cron: what an expression means
is a function of the local time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

Matches = Callable[[datetime], bool]

EXPRESSIONS: dict[str, Matches] = {
    "30 2 * * *": lambda t: (t.hour, t.minute) == (2, 30),
    "15 * * * *": lambda t: t.minute == 15,
    "*/30 * * * *": lambda t: t.minute in {0, 30},
    "*/20 2 * * *": lambda t: t.hour == 2 and t.minute in {0, 20, 40},
    "30 1 * * *": lambda t: (t.hour, t.minute) == (1, 30),
    "0 3 * * *": lambda t: (t.hour, t.minute) == (3, 0),
    "45 1,2 * * *": lambda t: t.hour in {1, 2} and t.minute == 45,
    "0 0 * * *": lambda t: (t.hour, t.minute) == (0, 0),
    "15 1-3 * * *": lambda t: t.hour in {1, 2, 3} and t.minute == 15,
    "0 */2 * * *": lambda t: t.hour % 2 == 0 and t.minute == 0,
    "10 2 * * 0": lambda t: t.weekday() == 6 and (t.hour, t.minute) == (2, 10),
}
RHYTHMS = {"15 * * * *", "*/30 * * * *", "*/20 2 * * *", "0 */2 * * *"}
"""Those whose minute or hour begins with `*`."""


class Minute(NamedTuple):
    """A minute of real time."""

    time: datetime
    local: datetime
    """What the clock shows."""
    is_again: bool
    """Whether the clock has shown it before."""
    skipped: list[datetime]
    """What the clock should have shown between the minute before and this one."""


def changes(zone: tzinfo, first_year: int, end_year: int) -> Iterator[datetime]:
    """The minutes of real time whose offset is another one than that of the minute before."""
    time, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(end_year, 1, 1, tzinfo=UTC)
    offset = time.astimezone(zone).utcoffset()
    while time < end:
        if (time + HOUR).astimezone(zone).utcoffset() != offset:
            change = time + MINUTE
            while change.astimezone(zone).utcoffset() == offset:
                change += MINUTE
            yield change
            offset = (time + HOUR).astimezone(zone).utcoffset()
        time += HOUR


def clock(zone: tzinfo, begin: datetime, end: datetime) -> list[Minute]:
    """Every minute of real time from `begin` to before `end`."""
    shown = []
    latest = begin.astimezone(zone).replace(tzinfo=None, fold=0) - MINUTE
    for time in (begin + n * MINUTE for n in range((end - begin) // MINUTE)):
        local = time.astimezone(zone).replace(tzinfo=None, fold=0)
        skipped = [latest + n * MINUTE for n in range(1, (local - latest) // MINUTE)]
        shown.append(Minute(time, local, local <= latest, skipped))
        latest = max(latest, local)
    return shown


def due(shown: list[Minute], matches: Matches, is_rhythm: bool, dst: str) -> list[datetime]:
    """The minutes at which an expression is due, by the table."""
    return [
        minute.time
        for minute in shown
        if (matches(minute.local) and (not minute.is_again or is_rhythm or dst == "both"))
        or (minute.skipped and not is_rhythm and dst != "skip" and any(map(matches, minute.skipped)))
    ]
