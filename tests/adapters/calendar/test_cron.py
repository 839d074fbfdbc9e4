from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from ftjm.adapters.calendar.cron import next_of_cron, parse_cron
from ftjm.adapters.calendar.cron_fields import MACROS, expand
from ftjm.adapters.calendar.time_zone import load_time_zone
from ftjm.core.state.schedules import Dst
from tests.adapters.calendar.series import from_ms, ours, to_ms


def next_local(expression: str, zone: str, dst: Dst, after: str) -> str:
    """The next instant in local time, with its offset."""
    ms = next_of_cron(expression, "nightly", zone, dst, to_ms(datetime.fromisoformat(after)))
    assert ms is not None
    return from_ms(ms).astimezone(load_time_zone(zone)).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("30 2 * * *", "2026-11-30T02:29:59.999+00:00", "2026-11-30T02:30+00:00"),
        ("30 2 * * *", "2026-11-30T02:30:00+00:00", "2026-12-01T02:30+00:00"),
        ("* * * * *", "2026-11-30T02:30:00.001+00:00", "2026-11-30T02:31+00:00"),
        ("5/20 8-10 * * *", "2026-11-30T08:05+00:00", "2026-11-30T08:25+00:00"),
        ("0 9 * * MON-FRI", "2026-11-27T09:00+00:00", "2026-11-30T09:00+00:00"),
        ("0 9 * * mon,Wed", "2026-11-30T09:00+00:00", "2026-12-02T09:00+00:00"),
        ("0 0 * * 7", "2026-11-30T00:00+00:00", "2026-12-06T00:00+00:00"),
        ("0 0 1 JAN-MAR/2 *", "2026-01-01T00:00+00:00", "2026-03-01T00:00+00:00"),
        ("0 0 L * *", "2028-02-01T00:00+00:00", "2028-02-29T00:00+00:00"),
        ("0 0 LW * *", "2026-05-01T00:00+00:00", "2026-05-29T00:00+00:00"),
        ("0 0 * * FRIL", "2026-11-01T00:00+00:00", "2026-11-27T00:00+00:00"),
        ("0 0 * * MON#2", "2026-11-01T00:00+00:00", "2026-11-09T00:00+00:00"),
        # Day of the month and day of the week: either of them, unless one begins with `*`, as in crontab(5).
        ("0 0 13 * FRI", "2026-11-14T00:00+00:00", "2026-11-20T00:00+00:00"),
        ("0 0 */13 * FRI", "2026-11-01T00:00+00:00", "2026-11-27T00:00+00:00"),
        # The rarest day: 29 February on a given day of the week, with a year 2100 in between.
        ("0 0 * 2 TUE#5", "2084-03-01T00:00+00:00", "2124-02-29T00:00+00:00"),
    ],
)
def test_the_next_instant(expression, after, due):
    assert next_local(expression, "UTC", Dst.ONCE, after) == due


@pytest.mark.parametrize("macro", MACROS)
def test_a_macro_is_its_expression(macro):
    assert expand(f" {macro.upper()} ", "nightly") == MACROS[macro]


def test_an_hourly_macro_follows_real_time_through_a_fold():
    begin = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    hours = [begin + timedelta(hours=n) for n in range(4)]
    for dst in Dst:
        assert ours("@hourly", "Europe/Berlin", dst, begin, begin + timedelta(hours=4)) == hours


def test_both_passes_of_a_fold_come_in_order():
    begin = datetime(2026, 11, 1, 4, 0, tzinfo=UTC)
    found = ours("30,45 1 * * *", "America/New_York", Dst.BOTH, begin, begin + timedelta(hours=6))
    assert [f"{time:%H:%M}" for time in found] == ["05:30", "05:45", "06:30", "06:45"]


def test_the_second_pass_is_found_from_any_instant_of_the_first():
    berlin, cron = load_time_zone("Europe/Berlin"), parse_cron("15 2 * * *", "nightly")
    begin = to_ms(datetime(2026, 10, 25, 0, 0, tzinfo=UTC))  # 02:00, the first time
    for minute in range(15, 75):
        assert cron.after(begin + minute * 60_000, berlin, Dst.BOTH) == begin + 75 * 60_000


def test_all_that_fell_into_a_gap_is_due_once_at_its_end():
    whole_day = "0-59 0-23 30 12 *"
    begin, end = datetime(2011, 12, 29, tzinfo=UTC), datetime(2012, 1, 2, tzinfo=UTC)
    gap_end = datetime(2011, 12, 30, 10, 0, tzinfo=UTC)
    assert ours(whole_day, "Pacific/Apia", Dst.ONCE, begin, end) == [gap_end]
    assert ours(whole_day, "Pacific/Apia", Dst.BOTH, begin, end) == [gap_end]
    assert ours(whole_day, "Pacific/Apia", Dst.SKIP, begin, end) == []
    assert ours("* * 30 12 *", "Pacific/Apia", Dst.ONCE, begin, end) == []


def test_a_midnight_that_does_not_exist_is_due_an_hour_later():
    assert next_local("@daily", "Asia/Beirut", Dst.ONCE, "2026-03-28T12:00+02:00") == "2026-03-29T01:00+03:00"
    assert next_local("@daily", "Asia/Beirut", Dst.SKIP, "2026-03-28T12:00+02:00") == "2026-03-30T00:00+03:00"


def test_an_expression_all_of_whose_times_are_skipped_is_never_due():
    """The midnight at which Egypt puts its clocks forward: the last Friday of April."""
    cairo, after = load_time_zone("Africa/Cairo"), to_ms(datetime(2026, 1, 1, tzinfo=UTC))
    cron = parse_cron("0 0 * 4 FRIL", "nightly")
    assert cron.after(after, cairo, Dst.SKIP) is None
    assert cron.after(after, cairo, Dst.ONCE) == to_ms(datetime(2026, 4, 23, 22, 0, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York", "Etc/GMT+12"])
@pytest.mark.parametrize("dst", Dst)
def test_nothing_is_due_after_the_year_9999(zone, dst):
    last = to_ms(datetime(9999, 12, 30, tzinfo=UTC))
    for after in (last + 86_400_000, last + 3 * 86_400_000, 2**63, 10**30):
        assert next_of_cron("0 0 1 1 *", "nightly", zone, dst, after) is None
    assert next_of_cron("* * * * *", "nightly", zone, dst, last) == last + 60_000


def test_years_with_offsets_of_seconds_are_right_too():
    """Berlin had an offset of 53 minutes and 28 seconds until 1893."""
    assert next_local("0 0 * * *", "Europe/Berlin", Dst.ONCE, "1890-01-01T12:00+00:00").startswith("1890-01-02T00:00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected a cron expression such as 30 2 \* \* MON-FRI, but found an empty text"),
        (" \t ", "but found an empty text"),
        ("* * * *", r"expected 5 fields \(minute, hour, day of the month, month, day of the week\), but found 4 in"),
        ("0 30 2 * * *", "but found 6 in '0 30 2 .*'; a schedule has no seconds"),
        ("1 2 3 4 5 6 7", "but found 7 in '1 2 3 4 5 6 7'$"),
        ("* " * 101, "of at most 200 characters, but found 202"),
        ("é * * * *", r"in ASCII, but found '\\xe9 \* "),
        ("٣ * * * *", "in ASCII"),
        ("@reboot", "found '@reboot', which is no time"),
        ("@sometimes", "expected one of @annually, @daily, .*, but found '@sometimes'"),
        ("60 * * * *", "expected 0 to 59 as the minute, .* but found '60'"),
        ("* 24 * * *", "expected 0 to 23 as the hour"),
        ("0 0 0 * *", "expected 1 to 31 as the day of the month"),
        ("0 0 * 13 *", "expected 1 to 12, or JAN to DEC, as the month"),
        ("0 0 * * 8", "expected 0 to 7, or SUN to SAT, as the day of the week"),
        ("0 0 * MON *", "as the month, .* but found 'MON'"),
        ("0 0 * * MON#6", "as the day of the week, .* but found 'MON#6'"),
        ("0 0 ? * *", r"as the day of the month, .* but found '\?'"),
        ("-1 * * * *", "as the minute, .* but found '-1'"),
        ("1,,2 * * * *", "as the minute, .* but found ''"),
        ("L * * * *", "as the minute, .* but found 'L'"),
        ("0 0 L/2 * *", "as the day of the month, .* but found 'L'"),
        ("50-10 * * * *", "expected a range of the minute from the lower to the higher value, but found 50-10"),
        ("0 0 * * SAT-SUN", "found 6-0, which ends before it begins"),
        ("*/0 * * * *", "expected 1 to 59 as a step of the minute, but found 0"),
        ("*/90 * * * *", "expected 1 to 59 as a step of the minute, but found 90"),
        ("H/1 * * * *", "expected 2 to 60, the length of the range, as a step of H in the minute, but found 1"),
        ("H(0-9)/11 * * * *", "expected 2 to 10, .* but found 11"),
        ("H(0-99) * * * *", "expected 0 to 59 as the minute"),
        ("H(9-0) * * * *", "found 9-0, which ends before it begins"),
        ("H() * * * *", r"but found 'H\(\)'"),
        ("H-5 * * * *", "but found 'H'"),
        ("0 0 30 2 *", "expected a date that comes, but '0 0 30 2 .*' is never due"),
        ("0 0 31 APR,JUN *", "is never due"),
        ("0 0 */20 * MON#5", "is never due"),
        ("9" * 190 + " * * * *", r"but found '9+\.\.\.'$"),
    ],
)
def test_what_is_no_cron_expression_is_refused_in_words(text, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_cron(text, "nightly")
    assert len(str(raised.value)) < 300


def test_h_depends_on_the_name_alone():
    """The numbers are written down: another hash would move every schedule that uses `H`."""
    assert expand("H H * * *", "nightly") == "29 18 * * *"
    assert expand("H/15 * * * *", "nightly") == "14,29,44,59 * * * *"
    assert expand("H(0-29)/10 H(0-7) H * H(MON-FRI)", "nightly") == "9,19,29 2 20 * 5"
    assert expand("h H * * *", "weekly") == "34 17 * * *"
    assert expand("H(0-29),H(30-59) * * * *", "nightly") == "29,59 * * * *"


def test_h_spreads_names_over_its_range():
    names = [f"queue/schedule-{n}" for n in range(6_000)]
    minutes = Counter(expand("H * * * *", name).split()[0] for name in names)
    assert len(minutes) == 60
    assert 60 < min(minutes.values()) < max(minutes.values()) < 150  # 100 each; their standard deviation is 10
    pairs = {tuple(expand("H H * * *", name).split()[:2]) for name in names}
    assert len(pairs) > 1_300  # of 1,440: minute and hour do not depend on each other


@pytest.mark.parametrize(("field", "low", "high"), [(0, 0, 59), (1, 0, 23), (2, 1, 28), (3, 1, 12), (4, 0, 6)])
def test_h_takes_every_value_of_its_field(field, low, high):
    words = ["H" if each == field else "*" for each in range(5)]
    found = {int(expand(" ".join(words), str(n)).split()[field]) for n in range(2_000)}
    assert found == set(range(low, high + 1))


def test_h_is_no_star():
    """`H H * * *` asks for a time of day, so it is due once in a fold and at the end of a gap."""
    assert not parse_cron("H H * * *", "nightly").is_rhythm
    assert parse_cron("H * * * *", "nightly").is_rhythm
