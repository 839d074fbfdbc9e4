"""Jobs as users write them, in files and as flags, validated into what the log carries."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shlex
from base64 import b32encode
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from ftjm.core.identity import DEFAULT_QUEUE, content_hash, is_name
from ftjm.core.model import JobSpec, OnWorkerLoss
from ftjm.durations import DURATION_EXAMPLES, TIME_EXAMPLES, parse_duration, parse_time

INLINE_LIMIT_BYTES = 256 * 1024
SET_BY_WORKER = frozenset({"FTJM_JOB_ID", "FTJM_ATTEMPT", "FTJM_RUN_KEY"})


class JobRequest(NamedTuple):
    """A job to submit. `job_id` is empty where the user gave none."""

    queue: str
    job_id: str
    spec: JobSpec


class Problem(NamedTuple):
    """What is wrong with one field (its path; empty for the job as a whole)."""

    path: tuple[str | int, ...]
    text: str

    def __str__(self) -> str:
        field = ".".join(str(part) for part in self.path)
        return f"{field}: {self.text}" if field else self.text


class InvalidJobError(Exception):
    """A job that cannot be submitted as it is written, with all that is wrong."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


# ---- fields. Each says by itself what it expected: pydantic's own messages do not know the user's words.


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _expected(what: str, found: Any) -> ValueError:
    return ValueError(f"expected {what}, but found {_shown(found)}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _expected("text", value)
    if "\0" in value:
        raise ValueError("expected text without NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected text in UTF-8, but found {value!r}") from None
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise _expected("1 to 128 of A-Z a-z 0-9 . _ - starting with a letter or a digit", value)
    return value


def _command(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"expected a command line, but {error} in {_shown(value)}") from None
    if not isinstance(value, list) or not value:
        raise _expected("a program and its arguments", value)
    if not _text(value[0]):
        raise ValueError("expected a program and its arguments, but the program is empty")
    return value


def _environment_name(value: Any) -> str:
    name = _text(value)
    if not name or "=" in name:
        raise _expected("a variable's name", name)
    if name in SET_BY_WORKER:
        raise ValueError(f"expected a variable of your own, but {name} is set by the worker")
    return name


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise _expected(DURATION_EXAMPLES, value)
    return parse_duration(value)


def _time(value: Any) -> int:
    if not isinstance(value, str):
        raise _expected(TIME_EXAMPLES, value)
    return parse_time(value)


def _duration_or_time(value: Any) -> tuple[str, int]:
    if isinstance(value, str) and re.match(r"\d{4}-", value.strip()):
        return "deadline_at", parse_time(value)
    try:
        return "deadline_ms", _duration(value)
    except ValueError as error:
        raise ValueError(str(error).replace(", but", f", or {TIME_EXAMPLES}, but", 1)) from None


def _one_of(values: type[OnWorkerLoss]) -> BeforeValidator:
    def check(value: Any) -> OnWorkerLoss:
        if not isinstance(value, str) or value not in {member.value for member in values}:
            raise _expected(", ".join(values), value)
        return values(value)

    return BeforeValidator(check)


def _number(kind: type[int] | type[float], low: int, high: int) -> BeforeValidator:
    """YAML and flags give numbers as text."""

    def check(value: Any) -> int | float:
        number: int | float | None = None
        if isinstance(value, str | int | kind) and not isinstance(value, bool):
            with contextlib.suppress(ValueError):
                number = kind(value)
        if number is None or not low <= number <= high:
            found = value if isinstance(value, str) else _shown(value)
            raise ValueError(f"expected {low} to {high}, but found {found}")
        return number

    return BeforeValidator(check)


def _flag(value: Any) -> bool:
    found = {"true": True, "false": False}.get(str(value).lower())
    if found is None:
        raise _expected("true or false", value)
    return found


def _written(kind: str, **more: Any) -> WithJsonSchema:
    """How users write it, for the OpenAPI document: pydantic knows only what becomes of it."""
    return WithJsonSchema({"type": kind, **more}, mode="validation")


Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str, BeforeValidator(_name), _written("string", pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
EnvironmentName = Annotated[str, BeforeValidator(_environment_name), _written("string", pattern="^[^=]+$")]
Duration = Annotated[int, BeforeValidator(_duration), _written("string", examples=["10s", "1h30m"])]
Time = Annotated[int, BeforeValidator(_time), _written("string", format="date-time")]
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


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Backoff(_Fields):
    """Delays between attempts: `initial`, times `factor` after each failure, at most `max`."""

    initial: Duration | None = None
    factor: Annotated[float | None, _number(float, 1, 100)] = None
    max: Duration | None = None


class Disconnect(_Fields):
    """What becomes of an attempt whose worker is cut off from the log."""

    continue_for: Duration | None = None


class JobFields(_Fields):
    """Every field that a job may have in a file; what is not given takes `JobSpec`'s default."""

    queue: Name = DEFAULT_QUEUE
    job_id: Name | None = None
    command: Command
    payload: Any = None
    env: dict[EnvironmentName, Text] | None = Field(None, serialization_alias="environment")
    labels: dict[Name, Text] | None = None
    cwd: Text | None = Field(None, serialization_alias="working_directory")
    priority: Annotated[int | None, _number(int, 0, 100)] = None
    hold: Annotated[bool | None, BeforeValidator(_flag)] = Field(None, serialization_alias="held")
    delay: Duration | None = Field(None, serialization_alias="delay_ms")
    start_at: Time | None = None
    timeout: Duration | None = Field(None, serialization_alias="timeout_ms")
    deadline: Annotated[
        tuple[str, int] | None,
        BeforeValidator(_duration_or_time),
        _written("string", examples=["2h", "2030-01-31T18:00:00Z"]),
    ] = None
    max_attempts: Annotated[int | None, _number(int, 1, 10_000)] = None
    backoff: Backoff = Backoff()
    on_worker_loss: Annotated[OnWorkerLoss | None, _one_of(OnWorkerLoss)] = None
    worker_losses_max: Annotated[int | None, _number(int, 0, 10_000)] = None
    disconnect: Disconnect = Disconnect()
    cancel_grace: Duration | None = Field(None, serialization_alias="cancel_grace_ms")
    retention: Duration | None = Field(None, serialization_alias="retention_ms")

    @model_validator(mode="after")
    def _one_start(self) -> JobFields:
        if self.delay is not None and self.start_at is not None:
            raise ValueError("expected either delay or start_at, but found both")
        return self


_SPECIAL = {"queue", "job_id", "payload", "deadline", "backoff", "disconnect"}


def parse_job(fields: Any, inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> JobRequest:
    """Validate one job. Fields that are None count as not given, but for the payload.

    Raises:
        InvalidJobError: with every field that is wrong.
    """
    if not isinstance(fields, Mapping):
        raise InvalidJobError([Problem((), f"expected a job's fields, but found {_shown(fields)}")])
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        job = JobFields.model_validate(given)
    except ValidationError as error:
        raise InvalidJobError([_problem(details) for details in error.errors(include_url=False)]) from None
    spec = _spec(job, _payload(fields))
    if problems := list(_oversize(spec, inline_limit_bytes)):
        raise InvalidJobError(problems)
    return JobRequest(job.queue, job.job_id or "", spec)


def derived_id(request: JobRequest, ordinal: int, batch: str = "") -> str:
    """The id of a job that was given none in a file: the same file submitted again asks for the same jobs.

    `ordinal` counts jobs of the same queue and content in the file from 0; another `batch` gives other jobs.
    """
    named = b"\0".join((batch.encode(), request.queue.encode(), content_hash(request.spec), str(ordinal).encode()))
    return b32encode(blake2b(named, digest_size=15).digest()).decode().lower()


def _payload(fields: Mapping[str, Any]) -> bytes:
    if "payload" not in fields:
        return b""
    try:
        json.dumps(fields["payload"], allow_nan=False)  # which msgspec would make null of, without a word
        return msgspec.json.encode(fields["payload"])
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidJobError([Problem(("payload",), f"expected JSON, but {error}")]) from None


def _spec(job: JobFields, payload: bytes) -> JobSpec:
    chosen = job.model_dump(exclude=_SPECIAL, exclude_none=True, by_alias=True)
    backoff, cut_off = job.backoff, job.disconnect
    nested = {
        "backoff_ms": backoff.initial,
        "backoff_factor": backoff.factor,
        "backoff_max_ms": backoff.max,
        "continue_for_ms": cut_off.continue_for,
    }
    chosen |= {name: value for name, value in nested.items() if value is not None}
    if job.deadline is not None:
        name, value = job.deadline
        chosen[name] = value
    return JobSpec(payload=payload, **chosen)


def _oversize(spec: JobSpec, limit: int) -> list[Problem]:
    todo = "put it in a file or an object store, and pass its name"
    texts = (*spec.command, *spec.environment, *spec.environment.values(), *spec.labels, *spec.labels.values())
    sizes = {"payload": len(spec.payload), "command": sum(len(text.encode()) for text in texts)}
    what = {"payload": "", "command": " with env and labels"}
    return [
        Problem((field,), f"expected at most {limit} bytes{what[field]}, but found {size}; {todo}")
        for field, size in sizes.items()
        if size > limit
    ]


def _problem(details: Any) -> Problem:
    """A pydantic error in our words."""
    path = tuple(part for part in details["loc"] if part != "[key]")
    match details["type"]:
        case "value_error":
            return Problem(path, str(details["ctx"]["error"]))
        case "missing":
            return Problem(path, "expected a program and its arguments, but found none")
        case "extra_forbidden":
            known = _known_beside(path)
            close = difflib.get_close_matches(str(path[-1]), known, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
            return Problem(path, f"unknown field{hint}")
        case "dict_type" | "model_type" | "model_attributes_type":
            return Problem(path, f"expected names with values, but found {_shown(details['input'])}")
        case _:
            return Problem(path, f"{details['msg']}, but found {_shown(details['input'])}")


def _known_beside(path: tuple[str | int, ...]) -> tuple[str, ...]:
    nested: dict[str, type[_Fields]] = {"backoff": Backoff, "disconnect": Disconnect}
    return tuple((nested.get(str(path[0]), JobFields) if len(path) > 1 else JobFields).model_fields)
