"""What holds for every expression in every time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.adapters.calendar.cron import parse_cron
from ftjm.adapters.calendar.cron_fields import expand
from ftjm.adapters.calendar.time_zone import load_time_zone, time_zone_names
from ftjm.core.state.schedules import Dst
from tests.adapters.calendar.oracle import changes, clock, due
from tests.adapters.calendar.series import from_ms, ours, to_ms


class Written(NamedTuple):
    """A field as it is written, and the values that it stands for."""

    text: str
    values: set[int]


def fields(low: int, high: int) -> st.SearchStrategy[Written]:
    numbers = st.integers(low, high)
    steps = st.integers(1, max(1, high // 2))
    return st.one_of(
        st.just(Written("*", set(range(low, high + 1)))),
        steps.map(lambda step: Written(f"*/{step}", set(range(low, high + 1, step)))),
        numbers.map(lambda each: Written(str(each), {each})),
        st.sets(numbers, min_size=2, max_size=5).map(lambda each: Written(",".join(map(str, sorted(each))), each)),
        st.tuples(numbers, numbers, steps).map(
            lambda each: Written(
                f"{min(each[:2])}-{max(each[:2])}/{each[2]}", set(range(min(each[:2]), max(each[:2]) + 1, each[2]))
            )
        ),
    )


TIMES_OF_DAY = st.tuples(fields(0, 59), fields(0, 23))
DAYS = st.tuples(fields(1, 31), fields(1, 12), fields(0, 6))
ZONES = st.sampled_from(sorted(time_zone_names()))
YEARS = st.integers(1973, 2037)
"""Liberia had an offset with seconds until 1972, and the oracle knows minutes only."""
EXAMPLES = settings(deadline=None, max_examples=150)


@EXAMPLES
@given(TIMES_OF_DAY, ZONES, YEARS, st.sampled_from(Dst), st.integers(-300, 300))
def test_each_change_of_each_zone_is_as_the_table_has_it(times, zone, year, dst, shift):
    """A window of two days around each change of a year, not always in its middle. It may begin in a fold or a gap."""
    minute, hour = times
    is_rhythm = minute.text.startswith("*") or hour.text.startswith("*")
    for change in changes(load_time_zone(zone), year, year + 1):
        begin = change + timedelta(minutes=shift)
        shown = clock(load_time_zone(zone), begin - timedelta(days=2), begin + timedelta(hours=8))
        expected = due(shown, lambda t: t.minute in minute.values and t.hour in hour.values, is_rhythm, dst)
        found = ours(f"{minute.text} {hour.text} * * *", zone, dst, begin, begin + timedelta(hours=8))
        assert found == [time for time in expected if time >= begin]


@EXAMPLES
@given(TIMES_OF_DAY, DAYS, ZONES, YEARS, st.sampled_from(Dst))
def test_each_instant_shows_a_local_time_of_the_expression_or_ends_a_gap(times, days, zone, year, dst):
    (minute, hour), (day, month, weekday) = times, days
    expression = " ".join(each.text for each in (*times, *days))
    try:
        cron = parse_cron(expression, "any")
    except ValueError as error:
        assert "never due" in str(error)  # noqa: PT017 - most expressions are due
        return
    either = not (day.text.startswith("*") or weekday.text.startswith("*"))
    tz, ms = load_time_zone(zone), to_ms(datetime(year, 1, 1, tzinfo=UTC))
    for _ in range(20):
        instant = cron.after(ms, tz, dst)
        if instant is None:
            break
        assert instant > ms
        assert cron.after(instant - 1, tz, dst) == instant
        local = from_ms(instant).astimezone(tz)
        before = from_ms(instant - 1).astimezone(tz)
        ends_gap = (local.utcoffset() or timedelta()) > (before.utcoffset() or timedelta())
        found = (local.day in day.values, local.isoweekday() % 7 in weekday.values)
        assert ends_gap or (
            local.minute in minute.values
            and local.hour in hour.values
            and local.month in month.values
            and (any(found) if either else all(found))
        )
        ms = instant


@EXAMPLES
@given(TIMES_OF_DAY, ZONES, st.sampled_from(Dst), st.integers(0, 4 * 10**12), st.integers(0, 4 * 10**8))
def test_no_instant_lies_between_a_time_and_the_next_one(times, zone, dst, ms, later):
    """From whichever time before it, the next instant is the same."""
    cron = parse_cron(f"{times[0].text} {times[1].text} * * *", "any")
    tz = load_time_zone(zone)
    instant = cron.after(ms, tz, dst)
    assert instant is not None
    between = min(ms + later, instant - 1)
    assert cron.after(between, tz, dst) == instant


@EXAMPLES
@given(st.text(max_size=30) | st.text("0123456789*/,-LWH#()@ MONJAF", max_size=30), st.text(max_size=5))
def test_any_text_is_an_expression_or_is_refused_in_words(text, name):
    try:
        cron = parse_cron(text, name)
    except ValueError as error:
        assert str(error).startswith("expected ")  # noqa: PT017 - most texts are none
    else:
        assert cron.after(0, load_time_zone("UTC"), Dst.ONCE)


TERMS = [
    *("*", "*/7", "5", "0-59/13", "H", "H/3", "H(2-4)", "H(1-9)/3", "1,H", "3/2", "2-2/5"),
    *("L", "LW", "5L", "FRIL", "MON#1", "JAN-MAR"),
]


@EXAMPLES
@given(st.lists(st.sampled_from(TERMS), min_size=5, max_size=5), st.text("abc", max_size=3))
def test_to_expand_an_expression_again_changes_nothing(words, name):
    try:
        expanded = expand(" ".join(words), name)
    except ValueError:
        return
    assert "H" not in expanded
    assert expand(expanded, "another name") == expanded
