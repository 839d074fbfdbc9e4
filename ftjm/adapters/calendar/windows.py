"""Windows: whether one is open at a time, and until when."""

from __future__ import annotations

from ftjm.adapters.calendar.cron import next_of_cron, parse_cron
from ftjm.adapters.calendar.days import days_of
from ftjm.adapters.calendar.time_zone import load_time_zone
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.schedules import Dst
from ftjm.core.state.windows import WindowSpec, WindowState

DAYS_MAX = 3_700
"""Days without an opening that are passed over: ten years."""
OPENINGS_MAX = 100
"""Openings that follow each other without a pause and are taken together. Behind them, one asks again."""


def window_fault(spec: WindowSpec, name: str, days: CalendarSpec | None) -> str:
    """Return the fault of a window, as `field: expected …, but found …`; empty if it is valid."""
    try:
        load_time_zone(spec.time_zone)
    except ValueError as error:
        return f"time_zone: {error}"
    try:
        parse_cron(spec.cron, name)
    except ValueError as error:
        return f"cron: {error}"
    if _next_opening(spec, name, days, 0) is None:
        on_days = f" on a day of the calendar {spec.calendar}" if days else ""
        return f"cron: expected a window that opens, but {spec.cron!r} is never due{on_days}"
    return ""


def window_at(spec: WindowSpec, name: str, days: CalendarSpec | None, now: int) -> WindowState:
    """Whether a window without fault is open at a time, ms since the Unix epoch, and until when.

    An opening at the moment of a closing goes on from it, so the window does not close then.
    """
    opening = _next_opening(spec, name, days, now - spec.duration_ms)
    if opening is None or opening > now:
        return WindowState(False, opening or 0)
    end = opening + spec.duration_ms
    for _ in range(OPENINGS_MAX):
        following = _next_opening(spec, name, days, opening)
        if following is None or following > end:
            break
        opening, end = following, following + spec.duration_ms
    return WindowState(True, end)


def _next_opening(spec: WindowSpec, name: str, days: CalendarSpec | None, after: int) -> int | None:
    """The first opening after a time on a day of the calendar; None if none comes."""
    calendar = days_of(days) if days else None
    for _ in range(DAYS_MAX):
        opening = next_of_cron(spec.cron, name, spec.time_zone, Dst.ONCE, after)
        if opening is None or calendar is None or calendar.counts(opening):
            return opening
        after = calendar.next_day(opening) - 1
    return None
