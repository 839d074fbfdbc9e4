import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.durations import DURATION_MS_MAX, format_age, format_duration, format_time, parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("0s", 0),
        ("500ms", 500),
        ("10s", 10_000),
        ("1.5s", 1_500),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        (" 1d12h ", 129_600_000),
        ("1m500ms", 60_500),
    ],
)
def test_durations_as_people_write_them(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "10 s", "30m1h", "1y", "1s1s", "1e3s", "٣s.", "PT10S", "10s\n5"]
)
def test_what_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="expected a duration such as 500ms, 10s"):
        parse_duration(text)


def test_more_than_ten_years_is_a_mistake():
    with pytest.raises(ValueError, match="expected at most 3650d"):
        parse_duration("99999d")


@given(st.integers(0, DURATION_MS_MAX))
def test_a_formatted_duration_reads_back(ms):
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T01:00:00.250+01:00", 250),
        ("2030-01-31 18:00:00Z", 1_896_112_800_000),
    ],
)
def test_times(text, ms):
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2030-01-31T18:00:00", "2030-02-31T18:00:00Z", "1960-01-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="expected a time"):
        parse_time(text)


@given(st.integers(1, 4_000_000_000_000))
def test_a_formatted_time_reads_back(ms):
    assert parse_time(format_time(ms)) == ms


def test_no_time_is_empty():
    assert format_time(0) == ""


def test_ages_are_for_a_glance():
    assert [format_age(ms) for ms in (0, 999, 61_000, 3 * 3_600_000 + 5, 2 * 86_400_000)] == [
        "0s",
        "999ms",
        "1m",
        "3h",
        "2d",
    ]
