"""The five fields of a cron expression: checked, and without macros, names and `H`.

The form is that of crontab(5): numbers, ranges, lists, steps, `*`, names of months and of days of the week. A number
with a step, such as `5/20`, begins a range up to the end of the field. `L` and `LW` are the last day and the last
weekday of a month, `5L` is its last Friday, and `1#2` its second Monday.

`H` is a number that depends on the name of the schedule alone, so that schedules spread over the hour or the day. It is
taken from the field's range, or from the one in parentheses: `H`, `H(0-29)`, `H/15`, `H(0-29)/10`. Form and ranges are
those of Jenkins ("Job Scheduling Syntax", and `doHash` of its class `hudson.scheduler.BaseParser`). The hash is another
one: in a field, one name has one number, however many `H` there are. So `H(0-29),H(30-59)` is every half an hour.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

from ftjm.runtime.errors import short

CRON_EXAMPLE = "a cron expression such as 30 2 * * MON-FRI"
EXPRESSION_CHARACTERS_MAX = 200
MACROS = {
    "@annually": "0 0 1 1 *",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@midnight": "0 0 * * *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@yearly": "0 0 1 1 *",
}
"""The macros of crontab(5). `@reboot` is none: it is no time."""

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS_OF_THE_WEEK = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class Field(NamedTuple):
    """A field of a cron expression, and the values that it may have."""

    name: str
    low: int
    high: int
    hash_high: int
    """The largest value of `H`: all months have a day 28, and the days 0 and 7 of a week are both a Sunday."""
    value_names: tuple[str, ...] = ()
    """Names of the values, from `low` on."""


MINUTE = Field("minute", 0, 59, 59)
HOUR = Field("hour", 0, 23, 23)
DAY = Field("day of the month", 1, 31, 28)
MONTH = Field("month", 1, 12, 12, MONTHS)
WEEKDAY = Field("day of the week", 0, 7, 6, DAYS_OF_THE_WEEK)
FIELDS = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)

_HASH = r"(?P<hash>H)(?:\((?P<hash_low>\w+)-(?P<hash_high>\w+)\))?"
_RANGE = r"(?P<low>\w+)(?:-(?P<high>\w+))?"
_TERM = re.compile(rf"(?:(?P<every>\*)|{_HASH}|{_RANGE})(?:/(?P<step>[0-9]+))?", re.ASCII)
_WEEKDAY_OF_MONTH = re.compile(r"(?P<day>\w+)(?P<which>L|#[1-5])", re.ASCII)


def expand(text: str, name: str) -> str:
    """The five fields of an expression in numbers, with a space between them. To expand them again changes nothing.

    Args:
        text: the expression, as users write it. Upper and lower case are the same.
        name: the name that `H` depends on.

    Raises:
        ValueError: It is no cron expression. The text names the field, what was expected and what was found.
    """
    if len(text) > EXPRESSION_CHARACTERS_MAX:
        most = f"at most {EXPRESSION_CHARACTERS_MAX} characters"
        raise ValueError(f"expected {CRON_EXAMPLE}, of {most}, but found {len(text)}")
    if not text.isascii():
        raise ValueError(f"expected {CRON_EXAMPLE}, in ASCII, but found {short(text)!a}")
    words = _without_macro(text).upper().split()
    if not words:
        raise ValueError(f"expected {CRON_EXAMPLE}, but found an empty text")
    if len(words) != len(FIELDS):
        names = ", ".join(field.name for field in FIELDS)
        why = "; a schedule has no seconds" if len(words) == len(FIELDS) + 1 else ""
        raise ValueError(f"expected {len(FIELDS)} fields ({names}), but found {len(words)} in {short(text)!r}{why}")
    return " ".join(
        ",".join(_term(field, term, name) for term in word.split(","))
        for field, word in zip(FIELDS, words, strict=True)
    )


def _without_macro(text: str) -> str:
    macro = text.strip().lower()
    if not macro.startswith("@"):
        return text
    if macro == "@reboot":
        raise ValueError(f"expected {CRON_EXAMPLE}, but found '@reboot', which is no time: a cluster has no start")
    if macro not in MACROS:
        raise ValueError(f"expected one of {', '.join(MACROS)}, but found {short(text)!r}")
    return MACROS[macro]


def _term(field: Field, term: str, name: str) -> str:
    """A term of a list, in numbers."""
    if field is DAY and term in {"L", "LW"}:
        return term
    if field is WEEKDAY and (found := _WEEKDAY_OF_MONTH.fullmatch(term)):
        return f"{_value(field, found['day'])}{found['which']}"
    found = _TERM.fullmatch(term)
    if found is None:
        raise _refused(field, term)
    if found["hash"]:
        low = _value(field, found["hash_low"]) if found["hash_low"] else field.low
        high = _value(field, found["hash_high"]) if found["hash_high"] else field.hash_high
        return _hashed(field, low, high, found["step"], name)
    if found["step"] and not 1 <= int(found["step"]) <= field.high:
        raise ValueError(f"expected 1 to {field.high} as a step of the {field.name}, but found {short(found['step'])}")
    step = f"/{int(found['step'])}" if found["step"] else ""
    if found["every"]:
        return f"*{step}"
    low = _value(field, found["low"])
    if not found["high"]:
        return f"{low}{step}"
    high = _value(field, found["high"])
    _check_range(field, low, high)
    # cronsim takes the step of a range of one value as that of a range up to the field's end.
    return f"{low}-{high}{step}" if low < high else str(low)


def _value(field: Field, text: str) -> int:
    if text in field.value_names:
        return field.low + field.value_names.index(text)
    if not text.isdecimal() or not field.low <= int(text) <= field.high:
        raise _refused(field, text)
    return int(text)


def _refused(field: Field, found: str) -> ValueError:
    names = f", or {field.value_names[0]} to {field.value_names[-1]}," if field.value_names else ""
    expected = f"{field.low} to {field.high}{names} as the {field.name}"
    return ValueError(f"expected {expected}, or a range, a step or a list of them, but found {short(found)!r}")


def _check_range(field: Field, low: int, high: int) -> None:
    if low > high:
        wrong = f"{low}-{high}, which ends before it begins"
        raise ValueError(f"expected a range of the {field.name} from the lower to the higher value, but found {wrong}")


def _hashed(field: Field, low: int, high: int, step_text: str | None, name: str) -> str:
    """The values of an `H` in a range: one; with a step, the first one below the step, and each step from there."""
    _check_range(field, low, high)
    size = high - low + 1
    step = int(step_text) if step_text else size
    if step_text and not 2 <= step <= size:  # H/1 would be H for Jenkins, and * for everybody else
        expected = f"2 to {size}, the length of the range, as a step of H in the {field.name}"
        raise ValueError(f"expected {expected}, but found {short(step_text)}")
    draw = int.from_bytes(blake2b(f"{field.name}/{name}".encode(), digest_size=8).digest())
    return ",".join(map(str, range(low + draw % step, high + 1, step)))
