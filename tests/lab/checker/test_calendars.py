"""The checker's rules of schedules that use a calendar."""

from __future__ import annotations

from ftjm.core.records import events as e
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.resources import ResourceKind, ResourceSpec
from ftjm.lab.checker.calendars import Calendars

DAY_MS = 86_400_000
WORK = CalendarSpec("Europe/Berlin", [0, 1, 2, 3, 4])


def known(days: CalendarSpec) -> Calendars:
    calendars = Calendars()
    spec = ResourceSpec(calendar=[days])
    applied = e.ResourceApplied(
        kind=ResourceKind.CALENDAR, name="work", revision=1, spec=spec, labels={}, partitions=1, home=0
    )
    assert calendars.take(applied) == ("work",)
    return calendars


def test_days_are_reckoned_by_the_calendars_clock():
    friday_evening = 1_767_999_600_000  # 2026-01-09T23:00:00Z, midnight of Saturday in Berlin
    calendars = known(WORK)
    assert calendars.counts("work", friday_evening - 1_000)
    assert not calendars.counts("work", friday_evening)
    assert calendars.first("work", friday_evening, 1_000) == friday_evening + 2 * DAY_MS
    special = known(CalendarSpec("Europe/Berlin", [0], ["2026-01-10"], ["2026-01-12"]))
    assert special.counts("work", friday_evening)
    assert special.first("work", friday_evening + DAY_MS, DAY_MS) == friday_evening + 9 * DAY_MS


def test_a_calendar_that_is_not_there_has_no_days():
    calendars = Calendars()
    assert (calendars.knows("work"), calendars.counts("work", 0), calendars.counts("", 0)) == (False, False, True)
    calendars = known(WORK)
    assert calendars.take(e.ResourcesReconciled(dropped=["Calendar/work", "Window/w"], home=0)) == ["work"]
    assert not calendars.knows("work")
