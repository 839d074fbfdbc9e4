"""The calendar of this process: the port `ftjm.core.calendar.Calendar` over cron expressions, intervals and `tzdata`.

`previous` is found by `next` alone, so that the two can never disagree about a change of the clock. It looks back in
steps that grow until it meets an instant, and halves the distance from there: some tens of questions, whatever the
expression.
"""

from ftjm.adapters.calendar.cron import next_of_cron, parse_cron
from ftjm.adapters.calendar.days import calendar_fault, days_of
from ftjm.adapters.calendar.interval import next_of_interval
from ftjm.adapters.calendar.time_zone import TZDATA_VERSION, load_time_zone
from ftjm.adapters.calendar.windows import window_at, window_fault
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.schedules import ScheduleSpec
from ftjm.core.state.windows import WindowSpec, WindowState

STEP_MS = 60_000
"""The first step back. An instant of a cron expression is never more often than this."""
BACK_MS_MAX = 50 * 366 * 86_400_000
"""The longest look back: `next` looks as far ahead."""
RESOLUTION_MS = 1_000
"""Two instants are at least so far apart: local times of cron have minutes, and offsets change at whole seconds."""


class LocalCalendar:
    """Reckons by the time zones of the installed `tzdata`."""

    @property
    def version(self) -> str:
        """The version of the time zones."""
        return TZDATA_VERSION

    def fault(self, spec: ScheduleSpec, key: str) -> str:
        """Return the fault of the cron expression or of the time zone, as `field: …`; empty if both are valid."""
        try:
            load_time_zone(spec.time_zone)
        except ValueError as error:
            return f"time_zone: {error}"
        try:
            if spec.cron:
                parse_cron(spec.cron, key)
        except ValueError as error:
            return f"cron: {error}"
        return ""

    def next(self, spec: ScheduleSpec, key: str, after: int) -> int | None:
        """The first instant after a time, both in ms since the Unix epoch; None if none comes."""
        if spec.every_ms:
            return next_of_interval(spec.every_ms, spec.start_at, after)
        return next_of_cron(spec.cron, key, spec.time_zone, spec.dst, after)

    def counts(self, days: CalendarSpec, at: int) -> bool:
        """Whether the day of a time, ms since the Unix epoch, is one of a calendar without fault."""
        return days_of(days).counts(at)

    def day_after(self, days: CalendarSpec, at: int) -> int | None:
        """When the first day of a calendar begins that is later than the day of a time; None if none comes."""
        return days_of(days).day_after(at)

    def day_before(self, days: CalendarSpec, at: int) -> int | None:
        """When the last day of a calendar ends that is earlier than the day of a time; None if there was none."""
        return days_of(days).day_before(at)

    def calendar_fault(self, spec: CalendarSpec) -> str:
        """Return the fault of a calendar, as `field: …`; empty if it is valid."""
        return calendar_fault(spec)

    def window_fault(self, spec: WindowSpec, name: str, days: CalendarSpec | None) -> str:
        """Return the fault of a window, as `field: …`; empty if it is valid."""
        return window_fault(spec, name, days)

    def window_at(self, spec: WindowSpec, name: str, days: CalendarSpec | None, now: int) -> WindowState:
        """Whether a window is open at a time, ms since the Unix epoch."""
        return window_at(spec, name, days, now)

    def previous(self, spec: ScheduleSpec, key: str, before: int) -> int | None:
        """The last instant before a time, both in ms since the Unix epoch; None if there was none for 50 years.

        Intervals go on before their start.
        """
        if spec.every_ms:
            return before - 1 - (before - 1 - spec.start_at) % spec.every_ms
        step, found = STEP_MS, None
        while found is None or found >= before:
            if step > BACK_MS_MAX:
                return None
            found = self.next(spec, key, before - step - 1)
            step *= 4
        end = before - 1
        while end - found >= RESOLUTION_MS:
            middle = (found + end) // 2
            later = self.next(spec, key, middle)
            if later is not None and later < before:
                found = later
            else:
                end = middle
        return found
