"""Types of the fields of jobs and resources as users write them. Each checks its value, and its error text names the
expected form."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Sized
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from ftjm.core.limits import CONTINUE_FOR_MAX_MS
from ftjm.core.names import NAME_TEXT, TASK_NAME_CHARACTERS_MAX, is_name, is_task_name
from ftjm.core.state.model import OnWorkerLoss
from ftjm.runtime.durations import DURATION_EXAMPLES, TIME_EXAMPLES, format_duration, parse_duration, parse_time
from ftjm.runtime.errors import short

ENTRIES_MAX = 10_000
"""Words of a command, variables, labels: of each so many at most."""
COMMAND_LINE_CHARACTERS_MAX = 64 * 1024
"""A text is split into words as a shell does, character by character. A list of words may be longer."""
SET_BY_WORKER = frozenset({"FTJM_JOB_ID", "FTJM_ATTEMPT", "FTJM_RUN_KEY"})


def shown(value: Any) -> str:
    """A value for an error message, shortened to 80 characters. A large value is not written out for that.

    Half a surrogate pair, which stands for a byte that is no UTF-8, is escaped: pydantic takes no message with one.
    """
    text: list[str] = []
    length = 0
    if isinstance(value, str):
        value = value[:100]
    try:
        for part in json.JSONEncoder(ensure_ascii=False, default=lambda other: str(other)[:100]).iterencode(value):
            text.append(part[:100])
            length += len(text[-1])
            if length > 80:
                break
    except (TypeError, ValueError, RecursionError):  # such as a number of 5,000 digits
        return f"a value of the type {type(value).__name__}"
    return short("".join(text)).encode(errors="backslashreplace").decode()


def wrong_value(expected: str, found: Any) -> ValueError:
    """The error of a value of another form."""
    return ValueError(f"expected {expected}, but found {shown(found)}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_value("text", value)
    if "\0" in value:
        raise wrong_value("text without NUL characters", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected text in UTF-8, but found {short(value)!r}") from None
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise wrong_value(NAME_TEXT, value)
    return value


def _command(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > COMMAND_LINE_CHARACTERS_MAX:
            expected = f"a command line of at most {COMMAND_LINE_CHARACTERS_MAX} characters"
            raise ValueError(f"expected {expected}, but found {len(value)}; put it into a script, or use the payload")
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"expected a command line, but {error} in {shown(value)}") from None
    if not isinstance(value, list) or not value:
        raise wrong_value("a program and its arguments", value)
    if len(value) > ENTRIES_MAX:
        raise ValueError(f"expected at most {ENTRIES_MAX} words, but found {len(value)}; use the payload")
    if not _text(value[0]):
        raise ValueError("expected a program and its arguments, but the program is empty")
    return value


def _task_name(value: Any) -> str:
    if not isinstance(value, str) or not is_task_name(value):
        raise wrong_value("a task's name, such as thumbnails.resize", value)
    return value


def _arguments(value: Any) -> Any:
    if not isinstance(value, list):
        raise wrong_value("a list of arguments", value)
    return value


def _environment_name(value: Any) -> str:
    name = _text(value)
    if not name or "=" in name:
        raise wrong_value("a variable's name", name)
    if name in SET_BY_WORKER:
        raise ValueError(f"expected a variable of your own, but {name} is set by the worker")
    return name


def duration(value: Any) -> int:
    """The milliseconds of a duration. Raises ValueError."""
    if not isinstance(value, str):
        raise wrong_value(DURATION_EXAMPLES, value)
    return parse_duration(value)


def _continue_for(value: Any) -> int:
    if (ms := duration(value)) > CONTINUE_FOR_MAX_MS:
        raise wrong_value(f"at most {format_duration(CONTINUE_FOR_MAX_MS)}", value)
    return ms


def time_of(value: Any) -> int:
    """The milliseconds since the Unix epoch of a time. Raises ValueError."""
    if not isinstance(value, str):
        raise wrong_value(TIME_EXAMPLES, value)
    return parse_time(value)


def _duration_or_time(value: Any) -> tuple[str, int]:
    if isinstance(value, str) and re.match(r"\d{4}-", value.strip()):
        return "deadline_at", parse_time(value)
    try:
        return "deadline_ms", duration(value)
    except ValueError as error:
        raise ValueError(str(error).replace(", but", f", or {TIME_EXAMPLES}, but", 1)) from None


def _on_worker_loss(value: Any) -> OnWorkerLoss:
    if not isinstance(value, str) or value not in {member.value for member in OnWorkerLoss}:
        raise wrong_value(", ".join(OnWorkerLoss), value)
    return OnWorkerLoss(value)


def number_of(kind: type[int] | type[float], value: Any) -> int | float | None:
    """The number that a value is, or that its text stands for; None if it is none."""
    if isinstance(value, str | int | kind) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return kind(value)
    return None


def between(kind: type[int] | type[float], low: int, high: int) -> BeforeValidator:
    """A validator of numbers from `low` to `high`. YAML and the command line give numbers as text."""

    def check(value: Any) -> int | float:
        number = number_of(kind, value)
        if number is None or not low <= number <= high:
            found = short(value) if isinstance(value, str) else shown(value)
            raise ValueError(f"expected {low} to {high}, but found {found}")
        return number

    return BeforeValidator(check)


def at_most(count: int, what: str, todo: str = "use the payload") -> BeforeValidator:
    """A validator of how many entries a value has. It comes first, so that no time is spent on each of too many."""

    def check(value: Any) -> Any:
        if isinstance(value, Sized) and len(value) > count:
            raise ValueError(f"expected at most {count} {what}, but found {len(value)}; {todo}")
        return value

    return BeforeValidator(check)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in {"true", "false"}:
        raise wrong_value("true or false", value)
    return value.lower() == "true"


def written_as(kind: str, **more: Any) -> WithJsonSchema:
    """How users write a value, for the OpenAPI document. pydantic knows only the type that it becomes."""
    return WithJsonSchema({"type": kind, **more}, mode="validation")


def one_of(kind: type[StrEnum]) -> Any:
    """A field that has one of these values."""
    values = [member.value for member in kind]

    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in values:
            raise wrong_value(", ".join(values), value)
        return value

    return Annotated[kind, BeforeValidator(check), written_as("string", enum=values)]


Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str, BeforeValidator(_name), written_as("string", pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
EnvironmentName = Annotated[str, BeforeValidator(_environment_name), written_as("string", pattern="^[^=]+$")]
Duration = Annotated[int, BeforeValidator(duration), written_as("string", examples=["10s", "1h30m"])]
ContinueFor = Annotated[
    int,
    BeforeValidator(_continue_for),
    written_as("string", examples=["10m"], description=f"At most {format_duration(CONTINUE_FOR_MAX_MS)}."),
]
Time = Annotated[int, BeforeValidator(time_of), written_as("string", format="date-time")]
Command = Annotated[
    list[Text],
    BeforeValidator(_command),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "string", "minLength": 1},
            ],
            "description": "A program and its arguments; a text is split into words as a shell does.",
            "examples": [["echo", "hello"]],
        },
        mode="validation",
    ),
]
TaskName = Annotated[
    str,
    BeforeValidator(_task_name),
    written_as("string", minLength=1, maxLength=TASK_NAME_CHARACTERS_MAX, examples=["thumbnails.resize"]),
]
Arguments = Annotated[list[Any], BeforeValidator(_arguments)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Deadline = Annotated[
    tuple[str, int],
    BeforeValidator(_duration_or_time),
    written_as("string", examples=["2h", "2030-01-31T18:00:00Z"]),
]
"""A field of `JobSpec`, `deadline_ms` or `deadline_at`, and its value."""
WorkerLossPolicy = Annotated[
    OnWorkerLoss, BeforeValidator(_on_worker_loss), written_as("string", enum=[member.value for member in OnWorkerLoss])
]
