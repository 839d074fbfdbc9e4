"""Times as texts, in UTC. This is arithmetic on the numbers of `model.py`, since the core knows no clock."""

DAY_SECONDS = 86_400


def iso_time(at: int) -> str:
    """`2026-11-29T01:30:00Z` for a time in ms since the Unix epoch, without its fraction of a second."""
    year, month, day, hour, minute, second = _fields(at)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"


def compact_time(at: int) -> str:
    """`20261129T013000Z` for a time in ms since the Unix epoch, without its fraction of a second: part of a name."""
    return iso_time(at).replace("-", "").replace(":", "")


def _fields(at: int) -> tuple[int, int, int, int, int, int]:
    days, second = divmod(at // 1_000, DAY_SECONDS)
    minute, second = divmod(second, 60)
    return *_date(days), *divmod(minute, 60), second


def _date(days: int) -> tuple[int, int, int]:
    """Year, month and day that are so many days behind 1970-01-01.

    Years are counted from March, so that a leap day is the last of its year, and in eras of 400 years, which are
    equally long: `civil_from_days` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    """
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + (3 if month_from_march < 10 else -9)
    return era * 400 + year_of_era + (month <= 2), month, day
