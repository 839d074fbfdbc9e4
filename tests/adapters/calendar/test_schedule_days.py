"""Instants on days of a calendar, compared with an oracle that goes through every instant of years."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.calendar.days import Days
from ftjm.core.calendar import OnDays
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import ScheduleSpec

HOUR_MS = 3_600_000
BEGIN = 1_767_225_600_000  # 2026-01-01
END = BEGIN + 200 * 24 * HOUR_MS
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "America/Santiago")
RECURRENCES = ({"every_ms": 7 * HOUR_MS}, {"cron": "30 2 * * *"}, {"cron": "0 */5 * * *"}, {"cron": "0 0 1,15 * *"})
DATES = st.dates(date(2026, 1, 1), date(2026, 12, 31)).map(date.isoformat)


def counts(days: CalendarSpec, instant: int) -> bool:
    """The oracle."""
    local = datetime.fromtimestamp(instant / 1_000, ZoneInfo(days.time_zone)).date()
    if local.isoformat() in days.included:
        return True
    return (not days.weekdays or local.weekday() in days.weekdays) and local.isoformat() not in days.excluded


def instants(spec: ScheduleSpec) -> list[int]:
    found, at = [], BEGIN
    while (at := LocalCalendar().next(spec, "q/n", at) or END) < END:
        found.append(at)
    return found


@settings(max_examples=50, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    weekdays=st.lists(st.integers(0, 6), unique=True, max_size=6),
    included=st.lists(DATES, max_size=5),
    excluded=st.lists(DATES, max_size=60),
    recurrence=st.sampled_from(RECURRENCES),
)
def test_instants_are_those_that_the_oracle_finds(zone, weekdays, included, excluded, recurrence):
    excluded = [day for day in excluded if day not in included]
    days = CalendarSpec(zone, weekdays, included, excluded)
    spec = ScheduleSpec(JobSpec(command=["true"]), calendar="c", time_zone="Europe/Berlin", **recurrence)
    wanted = [instant for instant in instants(spec) if counts(days, instant)]
    calendar = OnDays(LocalCalendar(), "c", days)
    found, at = [], BEGIN
    while (at := calendar.next(spec, "q/n", at) or END) < END:
        found.append(at)
    assert found == wanted
    assert all(calendar.previous(spec, "q/n", later) == earlier for earlier, later in pairwise(found))


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_begins_where_the_clock_first_shows_it_and_ends_where_the_next_begins(zone):
    days, clock = Days(CalendarSpec(zone)), ZoneInfo(zone)
    at = BEGIN
    while at < END:
        following = days.day_after(at)
        assert following is not None
        before, behind = (datetime.fromtimestamp(ms / 1_000, clock).date() for ms in (following - 1, following))
        assert (before, behind) == (datetime.fromtimestamp(at / 1_000, clock).date(), before + timedelta(days=1))
        end = days.day_before(following)
        assert end is not None
        assert end <= following
        assert datetime.fromtimestamp((end - 1) / 1_000, clock).date() == before
        at = following


def test_there_are_no_days_beyond_those_of_python():
    days = Days(CalendarSpec(weekdays=[0], excluded=["9999-12-27"]))
    assert days.day_after(253_402_300_799_000) is None
    assert days.day_before(-62_135_596_800_000) is None
