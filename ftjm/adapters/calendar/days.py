"""Days of a calendar: whether a day counts, and what is wrong with a calendar."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache

from ftjm.adapters.calendar.local_time import change_of_clock, instants_of, read_clock
from ftjm.adapters.calendar.time_zone import load_time_zone
from ftjm.core.state.calendars import CalendarSpec
from ftjm.runtime.errors import short

DAY = timedelta(days=1)
WEEKDAYS = 7
PARSED_MAX = 1_024
"""Number of calendars whose dates are kept."""


class Days:
    """The days of a calendar, for quick questions."""

    def __init__(self, spec: CalendarSpec) -> None:
        self._zone = load_time_zone(spec.time_zone)
        self._weekdays = frozenset(spec.weekdays or range(WEEKDAYS))
        self._included = frozenset(spec.included)
        self._excluded = frozenset(spec.excluded)

    def counts(self, instant: int) -> bool:
        """Whether the day of an instant, ms since the Unix epoch, is one of the calendar."""
        return self._is_in(read_clock(instant, self._zone).local.date())

    def _is_in(self, day: date) -> bool:
        text = day.isoformat()
        return text in self._included or (day.weekday() in self._weekdays and text not in self._excluded)

    def day_after(self, instant: int) -> int | None:
        """When the first day begins that counts and is later than that of an instant, both in ms since the Unix epoch.

        None if there is none before the year 10000.
        """
        return self._begin_of(self._search(instant, DAY))

    def day_before(self, instant: int) -> int | None:
        """When the last day ends that counts and is earlier than that of an instant, both in ms since the Unix epoch.

        None if there is none after the year 1.
        """
        found = self._search(instant, -DAY)
        return None if found is None else self._begin_of(found + DAY)

    def _search(self, instant: int, step: timedelta) -> date | None:
        """The first date behind that of an instant that counts. Each excluded date costs a week at most."""
        day = read_clock(instant, self._zone).local.date()
        try:
            for _ in range(WEEKDAYS * (len(self._excluded) + 1)):
                day += step
                if self._is_in(day):
                    return day
        except OverflowError:  # Python has no dates there
            pass
        return None

    def _begin_of(self, day: date | None) -> int | None:
        if day is None:
            return None
        midnight = instants_of(datetime(day.year, day.month, day.day), self._zone)  # noqa: DTZ001 - a local time
        return change_of_clock(midnight, self._zone) if midnight.are_in_gap else midnight.first

    def next_day(self, instant: int) -> int:
        """When the day after that of an instant begins, both in ms since the Unix epoch."""
        found = self._begin_of(read_clock(instant, self._zone).local.date() + DAY)
        assert found is not None
        return found


def days_of(spec: CalendarSpec) -> Days:
    """The days of a calendar without fault."""
    return _days(spec.time_zone, tuple(spec.weekdays), tuple(spec.included), tuple(spec.excluded))


@lru_cache(maxsize=PARSED_MAX)
def _days(time_zone: str, weekdays: tuple[int, ...], included: tuple[str, ...], excluded: tuple[str, ...]) -> Days:
    return Days(CalendarSpec(time_zone, list(weekdays), list(included), list(excluded)))


def calendar_fault(spec: CalendarSpec) -> str:
    """Return the fault of a calendar, as `field: expected …, but found …`; empty if it is valid."""
    try:
        load_time_zone(spec.time_zone)
    except ValueError as error:
        return f"time_zone: {error}"
    for field, dates in (("included", spec.included), ("excluded", spec.excluded)):
        for text in dates:
            if fault := date_fault(text):
                return f"{field}: {fault}"
    if both := sorted(set(spec.included) & set(spec.excluded)):
        return f"excluded: expected dates that are not included, but found {both[0]} in both"
    return ""


def date_fault(text: str) -> str:
    """Return the fault of a date, as text; empty if it is valid."""
    try:
        is_date = date.fromisoformat(text).isoformat() == text
    except ValueError:
        is_date = False
    return "" if is_date else f"expected a date that there is, such as 2026-12-25, but found {short(text)!r}"
