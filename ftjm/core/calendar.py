"""The port to time zones and cron expressions, and what the core reckons with it: the instants of one schedule.

The core knows no calendar, since that depends on files (the IANA database) that change. An owner asks its calendar when
it decides, and puts what it is told into the event. `evolve` never asks, so a replay under another version of the
database gives the same rows.

Every function here asks a bounded number of times, however long ago the last instant was.
"""

from typing import Protocol

from ftjm.core.limits import INSTANT_MAX_MS
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.core.state.windows import WindowSpec, WindowState

COUNTED_MAX = 100
"""Instants that are counted one by one. Those of an interval without a calendar are counted by division."""


QUESTIONS_MAX = 400
"""Stretches of excluded days that are passed over in search of an instant on a day that counts. With an instant a week
these are more than seven years. Behind them, no instant comes."""


class Recurrence(Protocol):
    """What reckons the instants of schedules.

    Of a declaration it reads what recurs: `cron` with `time_zone` and `dst`, or `every_ms` from `start_at` on. It does
    not stop at `start_at` or `end_at`. `key` is `queue/name`: the `H` of a cron expression depends on it.
    """

    @property
    def version(self) -> str:
        """The version of the time zones. Another version may have other instants."""

    def fault(self, spec: ScheduleSpec, key: str) -> str:
        """Return the fault of the recurrence, as `field: expected …, but found …`; empty if it is valid."""

    def next(self, spec: ScheduleSpec, key: str, after: int) -> int | None:
        """The first instant after a time, both in ms since the Unix epoch; None if none comes."""

    def previous(self, spec: ScheduleSpec, key: str, before: int) -> int | None:
        """The last instant before a time, both in ms since the Unix epoch; None if there was none."""


class Calendar(Recurrence, Protocol):
    """What the core must know of time zones. `ftjm.adapters.calendar.calendar` implements it.

    As a `Recurrence` it leaves the calendar of a schedule out: `OnDays` adds it.
    """

    def counts(self, days: CalendarSpec, at: int) -> bool:
        """Whether the day of a time, ms since the Unix epoch, is one of a calendar without fault."""

    def day_after(self, days: CalendarSpec, at: int) -> int | None:
        """When the first day of a calendar begins that is later than the day of a time; None if none comes."""

    def day_before(self, days: CalendarSpec, at: int) -> int | None:
        """When the last day of a calendar ends that is earlier than the day of a time; None if there was none."""

    def calendar_fault(self, spec: CalendarSpec) -> str:
        """Return the fault of a calendar, as `field: expected …, but found …`; empty if it is valid."""

    def window_fault(self, spec: WindowSpec, name: str, days: CalendarSpec | None) -> str:
        """Return the fault of a window, as above; empty if it is valid. `days` are those of its calendar."""

    def window_at(self, spec: WindowSpec, name: str, days: CalendarSpec | None, now: int) -> WindowState:
        """Whether a window is open at a time, ms since the Unix epoch."""


class OnDays:
    """The instants on days of a declared calendar. From an excluded day it goes on to the next day that counts, so that
    the number of questions does not depend on how long an exclusion is."""

    def __init__(self, calendar: Calendar, name: str, days: CalendarSpec) -> None:
        """`name` is the calendar's, and `days` what it is declared to."""
        self._calendar = calendar
        self._name = name
        self._days = days

    @property
    def version(self) -> str:
        """The version of the time zones."""
        return self._calendar.version

    def fault(self, spec: ScheduleSpec, key: str) -> str:
        """Return the fault of the recurrence or of the calendar; empty if both are valid."""
        if fault := self._calendar.fault(spec, key):
            return fault
        fault = self._calendar.calendar_fault(self._days)
        return f"calendar {self._name}: {fault}" if fault else ""

    def next(self, spec: ScheduleSpec, key: str, after: int) -> int | None:
        """The first instant after a time; None if none comes."""
        for _ in range(QUESTIONS_MAX):
            found = self._calendar.next(spec, key, after)
            if found is None or self._calendar.counts(self._days, found):
                return found
            day = self._calendar.day_after(self._days, found)
            if day is None:
                break
            after = day - 1
        return None

    def previous(self, spec: ScheduleSpec, key: str, before: int) -> int | None:
        """The last instant before a time; None if there was none."""
        for _ in range(QUESTIONS_MAX):
            found = self._calendar.previous(spec, key, before)
            if found is None or self._calendar.counts(self._days, found):
                return found
            end = self._calendar.day_before(self._days, found)
            if end is None:
                break
            before = end
        return None


def next_instant(calendar: Recurrence, spec: ScheduleSpec, key: str, after: int) -> int:
    """The first instant after a time, from `start_at` to `end_at`; 0 if none comes."""
    found = calendar.next(spec, key, max(after, spec.start_at - 1))
    return found if found is not None and found <= _end(spec) else 0


def next_instants(calendar: Recurrence, spec: ScheduleSpec, key: str, after: int, count: int) -> list[int]:
    """The first instants after a time, at most so many."""
    found: list[int] = []
    while len(found) < count and (after := next_instant(calendar, spec, key, after)):
        found.append(after)
    return found


def interval_start(calendar: Recurrence, spec: ScheduleSpec, key: str, instant: int) -> int:
    """Begin of the data interval that ends at an instant: the instant before, be it before `start_at`.

    Where there was none in a lifetime, the interval is empty.
    """
    found = calendar.previous(spec, key, instant)
    return instant if found is None else found


def last_before(calendar: Recurrence, spec: ScheduleSpec, key: str, first: int, before: int) -> int:
    """The last instant before a time, where the instant `first` is before it."""
    found = calendar.previous(spec, key, min(before, _end(spec) + 1))
    return first if found is None else max(first, found)


def count_instants(calendar: Recurrence, spec: ScheduleSpec, key: str, first: int, last: int) -> int:
    """How many instants there are from one to another; of a cron expression, or on days of a calendar, at most
    `COUNTED_MAX` are counted."""
    if spec.every_ms and not spec.calendar:
        return (last - first) // spec.every_ms + 1
    count, instant = 1, first
    while instant < last and count < COUNTED_MAX:
        instant = next_instant(calendar, spec, key, instant) or last
        count += 1
    return count


def _end(spec: ScheduleSpec) -> int:
    return spec.end_at or INSTANT_MAX_MS
