"""The calendar as the core asks it: the next instant, the last one, and what is wrong with a recurrence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import Dst, ScheduleSpec

CALENDAR = LocalCalendar()
DAY = 86_400_000
NOW = 1_795_000_000_000
"""In November 2026, between two changes of the clock."""


def spec(**fields: Any) -> ScheduleSpec:
    return ScheduleSpec(job=JobSpec(), **fields)


@settings(deadline=None)
@given(
    cron=st.sampled_from(["* * * * *", "*/7 1-3 * * *", "30 2 * * *", "0 0 1 * *", "0 12 29 2 *", "5 */6 * * MON"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    dst=st.sampled_from(Dst),
    before=st.integers(NOW - 400 * DAY, NOW + 400 * DAY),
)
def test_nothing_comes_between_the_last_instant_and_the_next(cron: str, zone: str, dst: Dst, before: int) -> None:
    recurrence = spec(cron=cron, time_zone=zone, dst=dst)
    last = CALENDAR.previous(recurrence, "q/n", before)
    assert last is not None
    assert last < before
    following = CALENDAR.next(recurrence, "q/n", last)
    assert following is not None
    assert following >= before
    assert CALENDAR.next(recurrence, "q/n", last - 1) == last


@given(every=st.integers(1, 10**6), start=st.integers(0, 10**9), before=st.integers(0, 10**10))
def test_intervals_go_on_before_their_start(every: int, start: int, before: int) -> None:
    last = CALENDAR.previous(spec(every_ms=every, start_at=start), "q/n", before)
    assert last is not None
    assert before - every <= last < before
    assert (last - start) % every == 0
    assert CALENDAR.next(spec(every_ms=every), "q/n", before) == before + every - before % every


def test_what_never_comes_and_never_was() -> None:
    # Egypt puts its clocks forward at this midnight: all local times of the expression fall into gaps.
    assert CALENDAR.next(spec(cron="0 0 * 4 FRIL", time_zone="Africa/Cairo", dst=Dst.SKIP), "q/n", NOW) is None
    first_day = -62_135_596_800_000  # of the year 1
    assert CALENDAR.previous(spec(cron="0 12 * * *"), "q/n", first_day + 1) is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cron": "61 * * * *"}, "cron: expected 0 to 59"),
        ({"cron": "0 0 30 2 *"}, "cron: expected a date that comes"),
        ({"cron": "* * * * *", "time_zone": "Berlin"}, "time_zone: expected the IANA name"),
        ({"every_ms": 1_000, "time_zone": "Berlin"}, "time_zone: expected the IANA name"),
    ],
)
def test_the_fault_names_its_field(wrong: dict[str, Any], words: str) -> None:
    assert CALENDAR.fault(spec(**wrong), "q/n").startswith(words)


def test_what_is_right_has_no_fault() -> None:
    assert CALENDAR.fault(spec(cron="H 2 * * *", time_zone="Europe/Berlin"), "q/n") == ""
    assert CALENDAR.fault(spec(every_ms=1_000), "q/n") == ""


def test_the_hash_of_an_expression_depends_on_the_whole_key() -> None:
    recurrence = spec(cron="H H * * *")
    assert len({CALENDAR.next(recurrence, f"{queue}/n", NOW) for queue in "abcdef"}) > 3
