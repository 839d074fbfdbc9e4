"""Schedules that use a calendar: which instants count, and what a change of the calendar does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftjm.core import calendar as calendar_module
from ftjm.core.calendar import COUNTED_MAX, OnDays, count_instants, interval_start, last_before, next_instants
from ftjm.core.decide import calendars as calendars_module
from ftjm.core.decide.processes import next_slice
from ftjm.core.evolve.handlers import evolve
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.backfills import Reprocess
from ftjm.core.state.calendars import CalendarSpec
from ftjm.core.state.processes import ProcessKind
from ftjm.core.state.resources import ResourceKind
from ftjm.core.state.schedules import CatchUp, SkipReason
from tests.core import resource_story
from tests.core.schedule_story import OtherCalendar, apply, fired, order, row, schedule
from tests.core.story import HOUR_MS, NOW, POLICY, Story, like

DAY_MS = 24 * HOUR_MS
DAILY: dict[str, Any] = {"every_ms": DAY_MS}
"""At midnight in UTC. `NOW` is a quarter past midnight on Thursday, 1970-01-01."""
ALL, WEEK_DAYS = CalendarSpec(), CalendarSpec(weekdays=[0, 1, 2, 3, 4])
FRIDAY, SATURDAY, SUNDAY, MONDAY, TUESDAY = (number * DAY_MS for number in range(1, 6))


def declare(story: Story, days: CalendarSpec, at: int | None = None) -> Story:
    return story.when(resource_story.apply("work", days), at)


def slices(story: Story, policy: Any = POLICY) -> list[e.Event]:
    """Reckon the schedules anew until that is done. Returns the events without those that end a slice."""
    found: list[e.Event] = []
    while story.state.processes():
        ((kind, name),) = story.state.processes()
        assert (kind, name) == (ProcessKind.RECKON, "work")
        *events, last = next_slice(story.state, kind, name, 1_000, story.now, policy)
        assert isinstance(last, e.SchedulesReckoned)
        for event in (*events, last):
            event.at, event.cause = story.now, e.Cause.CONTINUATION
            evolve(story.state, event)
        found += events
        story.written()
    return found


def using(days: CalendarSpec = WEEK_DAYS, **spec: Any) -> Story:
    """A calendar, and a schedule of every day that uses it."""
    story = declare(resource_story.alone(), days)
    slices(story)
    return story.when(apply(calendar="work", **{**DAILY, **spec}))


def on_days(days: CalendarSpec) -> OnDays:
    assert POLICY.calendar is not None
    return OnDays(POLICY.calendar, "work", days)


# ---- instants


def test_only_instants_on_days_of_the_calendar_count():
    spec = schedule(calendar="work", every_ms=6 * HOUR_MS, start_at=HOUR_MS)
    calendar = on_days(WEEK_DAYS)
    friday_evening = FRIDAY + 19 * HOUR_MS
    assert next_instants(calendar, spec, "q/n", friday_evening - 1, 3) == [
        friday_evening,
        MONDAY + HOUR_MS,
        MONDAY + 7 * HOUR_MS,
    ]
    assert interval_start(calendar, spec, "q/n", MONDAY + HOUR_MS) == friday_evening
    assert last_before(calendar, spec, "q/n", HOUR_MS, MONDAY) == friday_evening
    assert count_instants(calendar, spec, "q/n", friday_evening, MONDAY + 7 * HOUR_MS) == 3
    assert count_instants(calendar, spec, "q/n", HOUR_MS, 900 * DAY_MS) == COUNTED_MAX


def test_a_fault_of_the_recurrence_comes_before_one_of_the_calendar():
    days = on_days(CalendarSpec(time_zone="Mars/Olympus"))
    assert days.fault(schedule(cron="* * * * * *"), "q/n").startswith("cron: expected ")
    assert days.fault(schedule(cron="@daily"), "q/n").startswith("calendar work: ")


def test_a_long_exclusion_costs_one_question(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calendar_module, "QUESTIONS_MAX", 2)
    dates = [f"1970-{month:02}-{day:02}" for month in (1, 2) for day in range(1, 32 if month == 1 else 29)]
    calendar = on_days(CalendarSpec(excluded=dates))
    spec = schedule(calendar="work", every_ms=1_000)
    march = 59 * DAY_MS
    assert next_instants(calendar, spec, "q/n", 0, 1) == [march]
    assert calendar.previous(spec, "q/n", march) == -1_000, "the last day of 1969"


def test_instants_that_never_meet_a_day_that_counts_end_the_search(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calendar_module, "QUESTIONS_MAX", 9)
    calendar, spec = on_days(WEEK_DAYS), schedule(calendar="work", cron="0 0 * * SUN")
    assert calendar.next(spec, "q/n", NOW) is None
    assert calendar.previous(spec, "q/n", NOW) is None
    never = schedule(calendar="work", every_ms=DAY_MS)
    everything = on_days(ALL)
    monkeypatch.setattr(type(POLICY.calendar), "counts", lambda *_: False)
    monkeypatch.setattr(type(POLICY.calendar), "day_after", lambda *_: None)
    monkeypatch.setattr(type(POLICY.calendar), "day_before", lambda *_: None)
    assert (everything.next(never, "q/n", NOW), everything.previous(never, "q/n", NOW)) == (None, None)


def test_a_schedule_fires_on_days_of_its_calendar():
    story = using()
    assert row(story).next_at == FRIDAY
    story.when_due(FRIDAY)
    assert fired(story) == ["n.19700102T000000Z"]
    assert (row(story).next_at, row(story).interval_start) == (MONDAY, FRIDAY)
    story.when_due(MONDAY)
    assert isinstance(story.decided, list)
    submitted = story.decided[0]
    assert isinstance(submitted, e.JobSubmitted)
    assert submitted.spec.environment["FTJM_INTERVAL_START"] == "1970-01-02T00:00:00Z"


def test_the_days_are_those_of_the_calendars_time_zone():
    """Midnight of Saturday in UTC is Friday in New York."""
    story = using(CalendarSpec("America/New_York", [0, 1, 2, 3, 4]))
    story.when_due(FRIDAY)
    assert row(story).next_at == SATURDAY
    story.when_due(SATURDAY)
    assert row(story).next_at == TUESDAY, "midnight of Monday in UTC is Sunday in New York"


def test_only_missed_instants_on_days_of_the_calendar_are_counted():
    story = using()
    story.when_due(TUESDAY + HOUR_MS).then(
        like(e.ScheduleSkipped, instant=FRIDAY, until=TUESDAY, count=3, reason=SkipReason.MISSED)
    )
    story = using(catch_up=CatchUp.ALL)
    done = []
    for _ in range(3):
        story.when_due(TUESDAY + HOUR_MS)
        done += fired(story)
    assert done == ["n.19700102T000000Z", "n.19700105T000000Z", "n.19700106T000000Z"]


def test_a_triggered_job_and_a_backfill_have_the_calendars_intervals():
    story = using()
    story.when(order(c.TriggerSchedule, command_id="t"), at=SUNDAY)
    submitted = story.decided
    assert isinstance(submitted, list)
    assert isinstance(submitted[0], e.JobSubmitted)
    assert submitted[0].spec.environment["FTJM_INTERVAL_START"] == "1970-01-02T00:00:00Z"
    request = order(
        c.BackfillSchedule, command_id="b", from_at=FRIDAY, to_at=TUESDAY, reprocess=Reprocess.NONE, max_active=9
    )
    story.when(request, at=TUESDAY)
    jobs = []
    while story.state.processes():
        ((kind, name),) = story.state.processes()
        *events, last = next_slice(story.state, kind, name, 1_000, story.now, POLICY)
        for event in (*events, last):
            event.at = story.now
            evolve(story.state, event)
        story.written()
        assert isinstance(last, e.BackfillAdvanced)
        jobs += last.jobs
    assert jobs == ["n.19700102T000000Z", "n.19700105T000000Z", "n.19700106T000000Z"]


# ---- a calendar that changes


def test_a_calendar_that_changes_makes_the_next_instant_earlier_or_later():
    story = using()
    story.when_due(FRIDAY)
    declare(story, ALL)
    (reckoned,) = slices(story)
    assert isinstance(reckoned, e.ScheduleReckoned)
    assert (row(story).next_at, row(story).interval_start) == (SATURDAY, FRIDAY)
    declare(story, CalendarSpec(excluded=["1970-01-03", "1970-01-04", "1970-01-05"]))
    slices(story)
    assert row(story).next_at == TUESDAY
    declare(story, CalendarSpec(excluded=["1970-01-03", "1970-01-04", "1970-01-05"], time_zone="UTC"))
    assert slices(story) == [], "the same declaration changes nothing"


def test_an_instant_that_is_due_before_the_process_comes_to_it_is_reckoned_first():
    story = using()
    declare(story, CalendarSpec(weekdays=[0]))
    story.when_due(FRIDAY).then(like(e.ScheduleReckoned, next_at=MONDAY))
    assert slices(story) == [], "it is reckoned already"


def test_a_resume_of_a_schedule_that_is_not_paused_does_not_count_as_reckoned():
    story = using()
    declare(story, CalendarSpec(weekdays=[0]))
    story.when(order(c.ResumeSchedule))
    (reckoned,) = slices(story)
    assert isinstance(reckoned, e.ScheduleReckoned)
    assert reckoned.next_at == MONDAY


def test_days_that_are_included_later_and_have_passed_are_missed():
    story = using()
    story.when_due(FRIDAY)
    declare(story, ALL, at=SUNDAY + HOUR_MS)
    slices(story)
    assert row(story).next_at == SATURDAY
    story.when_due(SUNDAY + HOUR_MS).then(
        like(e.ScheduleSkipped, instant=SATURDAY, until=SUNDAY, reason=SkipReason.MISSED, next_at=MONDAY)
    )


def test_a_deleted_calendar_pauses_the_schedules_that_use_it():
    story = using()
    story.when(apply("other", **DAILY))
    story.when(c.DeleteResource(kind=ResourceKind.CALENDAR, name="work"))
    (paused,) = slices(story)
    assert isinstance(paused, e.SchedulePaused)
    assert row(story).pause_reason == "its calendar work was deleted"
    assert not row(story, "other").paused_at
    story.when(order(c.ResumeSchedule)).refused("UNKNOWN_CALENDAR", "work")
    story.when(order(c.TriggerSchedule, command_id="t"))
    assert isinstance(story.decided, list)
    declare(story, ALL)
    assert slices(story) == [], "a pause is ended by people"
    story.when(order(c.ResumeSchedule)).then(like(e.ScheduleResumed, next_at=FRIDAY))


def test_a_deleted_calendar_pauses_a_schedule_that_is_due_before_the_process_comes_to_it():
    story = using()
    story.when(c.DeleteResource(kind=ResourceKind.CALENDAR, name="work"))
    story.when_due(FRIDAY).then(like(e.SchedulePaused, reason="its calendar work was deleted"))


def test_a_calendar_whose_zone_an_owner_does_not_know_pauses_the_schedule():
    class Lacking(OtherCalendar):
        def calendar_fault(self, spec: CalendarSpec) -> str:
            return "time_zone: expected one of the IANA database, but found Mars/Base"

    story = using()
    story.when_due(FRIDAY, msgspec.structs.replace(POLICY, calendar=Lacking()))
    story.then(like(e.SchedulePaused))
    assert "calendar work: time_zone: expected one" in row(story).pause_reason


def test_a_slice_is_bounded_in_what_it_looks_at_and_reckons(monkeypatch: pytest.MonkeyPatch):
    story = declare(resource_story.alone(), WEEK_DAYS)
    slices(story)
    for number in range(5):
        story.when(apply(f"n{number}", calendar="work", **DAILY))
    monkeypatch.setattr(calendars_module, "RECKONED_MAX", 2)
    declare(story, ALL)
    assert len(next_slice(story.state, ProcessKind.RECKON, "work", 1_000, NOW, POLICY)) == 2 + 1
    monkeypatch.setattr(calendars_module, "LOOKED_MAX", 1)
    assert len(next_slice(story.state, ProcessKind.RECKON, "work", 1_000, NOW, POLICY)) == 1 + 1
    assert len(slices(story)) == 5


# ---- bad input


def test_a_schedule_needs_a_calendar_that_is_declared_and_has_instants_to_come():
    story = resource_story.alone()
    story.when(apply(calendar="work", **DAILY)).refused("UNKNOWN_CALENDAR", "calendar: expected", "work")
    declare(story, WEEK_DAYS)
    slices(story)
    story.when(apply(calendar="work", cron="0 0 * * SUN")).refused("INVALID", "calendar: expected instants", "work")
    past: dict[str, Any] = {"start_at": 1_000, "end_at": NOW - NOW % 1_000}
    story.when(apply(calendar="work", every_ms=60_000, **past), at=NOW + DAY_MS)
    story.then(like(e.ScheduleApplied, next_at=0))


def test_a_backfill_of_a_schedule_whose_calendar_was_deleted_is_refused_or_stopped():
    story = using()
    request = {"from_at": FRIDAY, "to_at": TUESDAY, "reprocess": Reprocess.NONE, "max_active": 9}
    story.when(order(c.BackfillSchedule, command_id="b1", **request), at=TUESDAY)
    story.when(c.DeleteResource(kind=ResourceKind.CALENDAR, name="work"))
    (stopped,) = next_slice(story.state, ProcessKind.BACKFILL, "q/n", 1_000, story.now, POLICY)
    assert isinstance(stopped, e.BackfillStopped)
    assert stopped.reason == "the calendar work was deleted"
    story.when(order(c.StopBackfill, backfill="b1"))
    story.when(order(c.BackfillSchedule, command_id="b2", **request)).refused("UNKNOWN_CALENDAR")
