"""Jobs as users write them, in files and as flags, validated into what the log carries."""

from __future__ import annotations

import difflib
import json
from base64 import b32encode
from collections.abc import Mapping, Set
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ftjm.core.identity import DEFAULT_QUEUE, content_hash
from ftjm.core.model import JobSpec
from ftjm.fields import (
    Arguments,
    Command,
    Deadline,
    Duration,
    EnvironmentName,
    Flag,
    Name,
    TaskName,
    Text,
    Time,
    WorkerLossPolicy,
    between,
    shown,
)
from ftjm.sdk import plain

INLINE_LIMIT_BYTES = 256 * 1024
PYTHON = "python"
"""The executor of tasks."""
TASK_MAX_ATTEMPTS = 3


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


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Backoff(_Fields):
    """Delays between attempts: `initial`, times `factor` after each failure, at most `max`."""

    initial: Duration | None = None
    factor: Annotated[float | None, between(float, 1, 100)] = None
    max: Duration | None = None


class Disconnect(_Fields):
    """What becomes of an attempt whose worker is cut off from the log."""

    continue_for: Duration | None = None


class JobFields(_Fields):
    """Every field that a job may have in a file; what is not given takes `JobSpec`'s default."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["command"]}, {"required": ["task"]}]})

    queue: Name = DEFAULT_QUEUE
    job_id: Name | None = None
    command: Command | None = None
    task: TaskName | None = Field(None, description="The name of a Python task, instead of a command.")
    args: Arguments | None = Field(None, description="What the task is called with; as is `kwargs`.")
    kwargs: dict[Text, Any] | None = None
    payload: Any = Field(None, description="JSON, on the command's standard input.")
    env: dict[EnvironmentName, Text] | None = Field(None, serialization_alias="environment")
    labels: dict[Name, Text] | None = None
    cwd: Text | None = Field(None, serialization_alias="working_directory")
    priority: Annotated[int | None, between(int, 0, 100)] = None
    hold: Flag | None = Field(None, serialization_alias="held")
    delay: Duration | None = Field(None, serialization_alias="delay_ms")
    start_at: Time | None = None
    timeout: Duration | None = Field(None, serialization_alias="timeout_ms")
    deadline: Deadline | None = None
    max_attempts: Annotated[int | None, between(int, 1, 10_000)] = None
    backoff: Backoff = Backoff()
    on_worker_loss: WorkerLossPolicy | None = None
    worker_losses_max: Annotated[int | None, between(int, 0, 10_000)] = None
    disconnect: Disconnect = Disconnect()
    cancel_grace: Duration | None = Field(None, serialization_alias="cancel_grace_ms")
    retention: Duration | None = Field(None, serialization_alias="retention_ms")

    @model_validator(mode="after")
    def _one_start(self) -> JobFields:
        if self.delay is not None and self.start_at is not None:
            raise ValueError("expected either delay or start_at, but found both")
        return self


_SPECIAL = {"queue", "job_id", "command", "task", "args", "kwargs", "payload", "deadline", "backoff", "disconnect"}


def parse_job(fields: Any, inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> JobRequest:
    """Validate one job. Fields that are None count as not given, but for the payload.

    Raises:
        InvalidJobError: with every field that is wrong.
    """
    if not isinstance(fields, Mapping):
        raise InvalidJobError([Problem((), f"expected a job's fields, but found {shown(fields)}")])
    given = {name: value for name, value in fields.items() if value is not None}
    problems = _mixed(given.keys() | fields.keys() & {"payload"})
    try:
        job = JobFields.model_validate(given)
    except ValidationError as error:
        problems += [_problem(details) for details in error.errors(include_url=False)]
    if problems:
        raise InvalidJobError(problems)
    spec = _spec(job, _call(job) if job.task else _payload(fields))
    if problems := _oversize(spec, inline_limit_bytes):
        raise InvalidJobError(problems)
    return JobRequest(job.queue, job.job_id or "", spec)


def derived_id(request: JobRequest, ordinal: int, batch: str = "") -> str:
    """The id of a job that was given none in a file: the same file submitted again asks for the same jobs.

    `ordinal` counts jobs of the same queue and content in the file from 0; another `batch` gives other jobs.
    """
    named = b"\0".join((batch.encode(), request.queue.encode(), content_hash(request.spec), str(ordinal).encode()))
    return b32encode(blake2b(named, digest_size=15).digest()).decode().lower()


def _mixed(given: Set[str]) -> list[Problem]:
    """What does not go together: a job runs a command, with a payload, or a task, with args and kwargs."""
    others: tuple[str, ...]
    runs = given & {"command", "task"}
    if len(runs) != 1:
        found = "found both" if runs else "found neither"
        return [Problem((), f"expected a command (a program and its arguments) or a task, but {found}")]
    if "task" in runs:
        others, todo = ("payload",), "expected args and kwargs beside a task, but found a payload"
    else:
        others, todo = ("args", "kwargs"), "expected a task beside it, but found a command, which holds its arguments"
    return [Problem((name,), todo) for name in others if name in given]


def _call(job: JobFields) -> bytes:
    """The payload of a task."""
    try:
        return plain.encode({"args": job.args or [], "kwargs": job.kwargs or {}}, str(job.task))
    except TypeError as error:
        raise InvalidJobError([Problem((), str(error))]) from None


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
    if job.task:
        chosen = {"executor": PYTHON, "max_attempts": TASK_MAX_ATTEMPTS, "command": [job.task], **chosen}
    else:
        chosen["command"] = job.command
    return JobSpec(payload=payload, **chosen)


def _oversize(spec: JobSpec, limit: int) -> list[Problem]:
    todo = "put it in a file or an object store, and pass its name"
    texts = (*spec.command, *spec.environment, *spec.environment.values(), *spec.labels, *spec.labels.values())
    payload, what = ("args", " with kwargs") if spec.executor == PYTHON else ("payload", "")
    sizes = {
        payload: (len(spec.payload), what),
        "command": (sum(len(text.encode()) for text in texts), " with env and labels"),
    }
    return [
        Problem((field,), f"expected at most {limit} bytes{what}, but found {size}; {todo}")
        for field, (size, what) in sizes.items()
        if size > limit
    ]


def _problem(details: Any) -> Problem:
    """A pydantic error in our words."""
    path = tuple(part for part in details["loc"] if part != "[key]")
    match details["type"]:
        case "value_error":
            return Problem(path, str(details["ctx"]["error"]))
        case "extra_forbidden":
            known = _known_beside(path)
            close = difflib.get_close_matches(str(path[-1]), known, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
            return Problem(path, f"unknown field{hint}")
        case "dict_type" | "model_type" | "model_attributes_type":
            return Problem(path, f"expected names with values, but found {shown(details['input'])}")
        case _:
            return Problem(path, f"{details['msg']}, but found {shown(details['input'])}")


def _known_beside(path: tuple[str | int, ...]) -> tuple[str, ...]:
    nested: dict[str, type[_Fields]] = {"backoff": Backoff, "disconnect": Disconnect}
    return tuple((nested.get(str(path[0]), JobFields) if len(path) > 1 else JobFields).model_fields)
