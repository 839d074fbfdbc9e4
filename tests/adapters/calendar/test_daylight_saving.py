"""Every change of the clock in three zones over ten years, as an oracle of our own and two libraries have it."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

import pytest

from ftjm.adapters.calendar.time_zone import load_time_zone
from ftjm.core.state.schedules import Dst
from tests.adapters.calendar.oracle import EXPRESSIONS, RHYTHMS, Minute, changes, clock, due
from tests.adapters.calendar.series import of_croniter, of_cronsim, ours

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
YEARS = (2026, 2036)
AROUND = timedelta(hours=31)
"""Time before and after a change that is compared: its day, and what is left of the days beside it."""

ODD = {
    "Pacific/Apia": (2011, "the whole 30 December does not exist, since the date line moved"),
    "Africa/Cairo": (2026, "the clock goes from 00:00 to 01:00, and from 24:00 to 23:00"),
    "Asia/Beirut": (2026, "the same, on other days"),
    "Europe/Dublin": (2026, "its daylight saving is in winter, and negative"),
    "Africa/Casablanca": (2026, "goes back for Ramadan, and forward behind it"),
    "Antarctica/Troll": (2026, "goes forward and back by two hours"),
    "America/Caracas": (2016, "half an hour forward for good, at 02:30"),
    "Asia/Pyongyang": (2015, "half an hour back for good, at 00:00"),
    "Asia/Kathmandu": (1985, "a quarter of an hour forward for good, at 00:00 of the new year"),
    "Antarctica/Casey": (2020, "three hours forward, at 00:01"),
    "Antarctica/Vostok": (1994, "seven hours back for good, and seven forward"),
    "America/Scoresbysund": (2024, "another offset and another rule of daylight saving in one year"),
    "Pacific/Kiritimati": (1994, "another day that does not exist"),
    "Europe/Lisbon": (1992, "another offset for good on the day at which summer time ends: the clock stays"),
}
"""Zones with other changes, a year to look at, and why."""


class Window(NamedTuple):
    begin: datetime
    end: datetime
    is_fold: bool
    shown: list[Minute]


@cache
def windows(name: str, first_year: int, end_year: int) -> list[Window]:
    zone = load_time_zone(name)
    found = []
    for change in changes(zone, first_year, end_year):
        shown = clock(zone, change - AROUND, change + AROUND)
        found.append(Window(change - AROUND, change + AROUND, any(each.is_again for each in shown), shown))
    return found


def compare_with_the_table(zone: str, first_year: int, end_year: int) -> int:
    cases = 0
    for begin, end, _, shown in windows(zone, first_year, end_year):
        for expression, matches in EXPRESSIONS.items():
            for dst in Dst:
                expected = due(shown, matches, expression in RHYTHMS, dst)
                assert ours(expression, zone, dst, begin, end) == expected, (expression, dst, begin)
                cases += 1
    return cases


@pytest.mark.parametrize("zone", ZONES)
def test_each_change_is_as_the_table_has_it(zone):
    """20 changes, 11 expressions, 3 modes: 660 cases for each zone, 1,980 in all."""
    assert compare_with_the_table(zone, *YEARS) == 20 * 11 * 3


@pytest.mark.parametrize("zone", ODD)
def test_other_changes_of_the_clock_are_as_the_table_has_them(zone):
    year, _ = ODD[zone]
    assert compare_with_the_table(zone, year, year + 1) >= 11 * 3


@pytest.mark.parametrize("zone", ZONES)
def test_once_is_what_cronsim_says(zone):
    """660 cases, 20 exceptions."""
    exceptions = 0
    for begin, end, is_fold, _ in windows(zone, *YEARS):
        for expression in EXPRESSIONS:
            expected = of_cronsim(expression, zone, begin, end)
            found = ours(expression, zone, Dst.ONCE, begin, end)
            if zone == "Australia/Lord_Howe" and is_fold and expression in {"*/20 2 * * *", "0 */2 * * *"}:
                # cronsim looks for the hour in steps of an hour of real time. Where the clock goes back by half an hour
                # at 02:00, they lead from 01:00 over 01:30, in the second pass, to 02:30. So it never sees 02:00 and
                # 02:20, although the clock shows them once, as on every day.
                lost = [time.astimezone(load_time_zone(zone)) for time in found if time not in expected]
                assert {(each.hour, each.minute) for each in lost} <= {(2, 0), (2, 20)}
                assert lost
                found = [time for time in found if time in expected]
                exceptions += 1
            assert found == expected, (expression, begin)
    assert exceptions == (20 if zone == "Australia/Lord_Howe" else 0)


@pytest.mark.parametrize("zone", ZONES)
def test_both_is_what_croniter_says(zone):
    """660 cases, 60 exceptions."""
    exceptions = 0
    for begin, end, is_fold, _ in windows(zone, *YEARS):
        for expression in EXPRESSIONS:
            expected = of_croniter(expression, zone, begin, end)
            found = ours(expression, zone, Dst.BOTH, begin, end)
            if not is_fold and expression in {"*/20 2 * * *", "0 */2 * * *"}:
                # croniter has no rule for a rhythm: one whose local times fall into a gap is due at the gap's end, as a
                # time of day is. By the table real time goes on, as in cron of Debian, and nothing was missed.
                change = begin + AROUND
                assert set(expected) - set(found) == {change}
                expected.remove(change)
                exceptions += 1
            assert found == expected, (expression, begin)
    assert exceptions == 20
