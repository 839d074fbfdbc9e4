import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjm.runtime.durations import DURATION_MS_MAX, format_age, format_duration, format_time, parse_duration, parse_time


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
def test_written_durations_are_parsed(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "10 s", "30m1h", "1y", "1s1s", "1e3s", "٣s.", "PT10S", "10s\n5"]
)
def test_a_text_that_is_no_duration_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="expected a duration such as 500ms, 10s"):
        parse_duration(text)


def test_more_than_ten_years_is_a_mistake():
    with pytest.raises(ValueError, match="expected at most 3650d"):
        parse_duration("99999d")
    with pytest.raises(ValueError, match=r"expected at most 3650d, but found '9+\.\.\.'"):
        parse_duration("9" * 400 + "s")


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
def test_written_times_are_parsed(text, ms):
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2030-01-31T18:00:00", "2030-02-31T18:00:00Z", "1960-01-01T00:00:00Z"]
)
def test_a_text_that_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="expected a time"):
        parse_time(text)


@given(st.integers(1, 4_000_000_000_000))
def test_a_formatted_time_reads_back(ms):
    assert parse_time(format_time(ms)) == ms


def test_a_missing_time_is_formatted_as_an_empty_text():
    assert format_time(0) == ""


def test_an_age_is_rounded_to_its_largest_unit():
    assert [format_age(ms) for ms in (0, 999, 61_000, 3 * 3_600_000 + 5, 2 * 86_400_000)] == [
        "0s",
        "999ms",
        "1m",
        "3h",
        "2d",
    ]
