"""Windows over local time and calendars: whether one is open, and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.calendar.days import days_of
from ftjm.adapters.calendar.windows import OPENINGS_MAX
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.windows import WindowSpec

CALENDAR = LocalCalendar()
BERLIN = "Europe/Berlin"
HOUR, DAY = 3_600_000, 86_400_000
NOW = 1_795_000_000_000
"""In November 2026."""


def at(text: str, zone: str = BERLIN) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def state(spec: WindowSpec, now: int, days: CalendarSpec | None = None) -> tuple[bool, int]:
    return tuple(CALENDAR.window_at(spec, "w", days, now))  # type: ignore[return-value]


OFFICE = WindowSpec("0 8 * * mon-fri", 10 * HOUR, time_zone=BERLIN)


def test_a_window_opens_at_its_instant_and_closes_after_its_duration():
    monday = "2026-11-30"
    assert state(OFFICE, at(f"{monday} 07:59:59")) == (False, at(f"{monday} 08:00"))
    assert state(OFFICE, at(f"{monday} 08:00")) == (True, at(f"{monday} 18:00"))
    assert state(OFFICE, at(f"{monday} 18:00") - 1) == (True, at(f"{monday} 18:00"))
    assert state(OFFICE, at(f"{monday} 18:00")) == (False, at("2026-12-01 08:00"))
    assert state(OFFICE, at("2026-12-04 20:00")) == (False, at("2026-12-07 08:00"))


def test_its_duration_is_real_time_over_a_change_of_the_clock():
    night = WindowSpec("0 0 * * *", 6 * HOUR, time_zone=BERLIN)
    assert state(night, at("2026-10-25 01:00")) == (True, at("2026-10-25 05:00"))
    assert state(night, at("2026-03-29 01:00")) == (True, at("2026-03-29 07:00"))


def test_it_does_not_open_on_a_day_that_its_calendar_lacks():
    days = CalendarSpec(BERLIN, [0, 1, 2, 3, 4], ["2026-12-26"], ["2026-12-25", "2026-12-28"])
    daily = WindowSpec("0 8 * * *", HOUR, time_zone=BERLIN)
    assert state(daily, at("2026-12-24 09:00"), days) == (False, at("2026-12-26 08:00"))
    assert state(daily, at("2026-12-26 08:30"), days) == (True, at("2026-12-26 09:00"))
    assert state(daily, at("2026-12-26 09:00"), days) == (False, at("2026-12-29 08:00"))


def test_an_opening_reaches_into_a_day_that_the_calendar_lacks():
    days = CalendarSpec(BERLIN, [4], [], [])
    late = WindowSpec("0 22 * * *", 4 * HOUR, time_zone=BERLIN)
    assert state(late, at("2026-12-05 01:00"), days) == (True, at("2026-12-05 02:00"))


def test_openings_that_touch_are_one_for_as_long_as_one_looks():
    always = WindowSpec("* * * * *", 60_000)
    start = NOW - NOW % 60_000
    assert state(always, NOW) == (True, start + (OPENINGS_MAX + 1) * 60_000)


@pytest.mark.parametrize("zone", [BERLIN, "America/Sao_Paulo", "Australia/Lord_Howe", "UTC"])
def test_the_next_day_begins_when_the_date_changes(zone: str) -> None:
    days = days_of(CalendarSpec(zone))
    for instant in range(at("2018-10-01", zone), at("2018-11-30", zone), 5 * HOUR):
        following = days.next_day(instant)
        local = datetime.fromtimestamp(instant / 1000, ZoneInfo(zone)).date()
        assert datetime.fromtimestamp((following - 1) / 1000, ZoneInfo(zone)).date() == local
        assert datetime.fromtimestamp(following / 1000, ZoneInfo(zone)).date() > local


@settings(deadline=None)
@given(
    cron=st.sampled_from(["0 8 * * *", "*/20 * * * *", "30 2 * * *", "0 0 1 * *", "15 3 * * mon"]),
    duration=st.sampled_from([60_000, 10 * 60_000, HOUR, 30 * HOUR]),
    zone=st.sampled_from(["UTC", BERLIN]),
    days=st.sampled_from([None, CalendarSpec(BERLIN, [0, 1, 2, 3, 4], [], ["2026-12-25"]), CalendarSpec("UTC", [6])]),
    now=st.integers(NOW, NOW + 400 * DAY),
)
def test_nothing_changes_before_the_next_edge(cron: str, duration: int, zone: str, days: Any, now: int) -> None:
    spec = WindowSpec(cron, duration, time_zone=zone)
    is_open, until = state(spec, now, days)
    if not until:  # no Sunday is a Monday
        assert not is_open
        assert cron == "15 3 * * mon"
        return
    assert until > now
    for between in (now + (until - now) // 3, until - 1):
        assert state(spec, between, days)[0] == is_open
    assert state(spec, until, days)[0] != is_open or is_open
