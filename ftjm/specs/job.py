"""Validates a job as users write it (in files, options, HTTP and Python), and makes the `JobSpec` of the log."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Mapping, Set
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from ftjm.core.identity import content_hash
from ftjm.core.state.executors import OWN_DEFAULTS
from ftjm.core.state.model import JobSpec
from ftjm.specs.executors import (
    ARGUMENT_FIELDS,
    BY_NAME,
    SCHEMAS,
    ArgumentError,
    ExecutorSchema,
    Fields,
    IdentityFields,
)
from ftjm.specs.fields import (
    ENTRIES_MAX,
    ContinueFor,
    Deadline,
    Duration,
    EnvironmentName,
    Flag,
    Name,
    Text,
    Time,
    WorkerLossPolicy,
    at_most,
    between,
    shown,
)
from ftjm.specs.problems import FieldProblem, problems_of

INLINE_LIMIT_BYTES = 256 * 1024
NAMES_MAX = 200
"""Fields of one job, of which most may be unknown ones."""


class JobRequest(NamedTuple):
    """A job to submit. `job_id` is empty where the user gave none."""

    queue: str
    job_id: str
    spec: JobSpec


class InvalidJobError(Exception):
    """A job that cannot be submitted as it is written, with all of its faults."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class Backoff(Fields):
    """Delays between attempts: `initial`, times `factor` after each failure, at most `max`."""

    initial: Duration | None = None
    factor: Annotated[float | None, between(float, 1, 100)] = None
    max: Duration | None = None


class Disconnect(Fields):
    """What happens to an attempt while its worker is cut off from the log."""

    continue_for: ContinueFor | None = None


class PolicyFields(IdentityFields):
    """The fields of a job that do not depend on its executor. A field that is not given has `JobSpec`'s default."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [schema.field]} for schema in SCHEMAS]},
    )

    env: Annotated[dict[EnvironmentName, Text], at_most(ENTRIES_MAX, "variables")] | None = Field(
        None, serialization_alias="environment"
    )
    labels: Annotated[dict[Name, Text], at_most(ENTRIES_MAX, "labels")] | None = None
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
    concurrency_key: Name | None = Field(
        None,
        description="Of the jobs of the queue with the same key, only so many as the queue says have a worker at a "
        "time; by default one.",
    )

    @model_validator(mode="after")
    def _one_start(self) -> PolicyFields:
        if self.delay is not None and self.start_at is not None:
            raise ValueError("expected either delay or start_at, but found both")
        return self


JobFields: type[PolicyFields] = create_model(
    "JobFields",
    __base__=(PolicyFields, *(schema.fields for schema in reversed(SCHEMAS))),  # type: ignore[arg-type]
    __module__=__name__,
    __doc__="Every field that a job may have in a file. A field that is not given has `JobSpec`'s default.",
)
"""The model of a whole job: identity, the arguments of every executor, and policies."""
OWN_FIELDS: Mapping[str, str] = {
    "queue": "its jobs are of the queue that the spec names",
    "job_id": "the id of each job is made from its instant",
    "delay": "each job starts at its instant",
    "start_at": "each job starts at its instant",
}
"""Fields of a job that a template does not have, and the reason."""
TemplateFields: type[Fields] = create_model(  # type: ignore[call-overload]
    "TemplateFields",
    __base__=Fields,
    __module__=__name__,
    __doc__="A job as in a file of `ftjm submit -f`, without what each copy of it has of its own.",
    **{name: (field.annotation, field) for name, field in JobFields.model_fields.items() if name not in OWN_FIELDS},
)
TemplateFields.model_config["json_schema_extra"] = PolicyFields.model_config["json_schema_extra"]
_SPECIAL = {"queue", "job_id", "deadline", "backoff", "disconnect", *ARGUMENT_FIELDS}


def parse_job(fields: Any, inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> JobRequest:
    """Validate one job.

    Args:
        fields: The fields as the user wrote them, by name. One that is None counts as not given, except `payload`.
        inline_limit_bytes: The largest payload, in bytes.

    Raises:
        InvalidJobError: Some fields are wrong. It names all of them.
    """
    job, spec = _parsed(fields, JobFields, inline_limit_bytes)
    return JobRequest(job.queue, job.job_id or "", spec)


def parse_template(fields: Any, inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> JobSpec:
    """Validate a job without what each of its copies has of its own: queue, id and start. See `parse_job`."""
    problems = []
    if isinstance(fields, Mapping):
        problems = [
            FieldProblem((name,), f"expected none, since {why}; leave it out")
            for name, why in OWN_FIELDS.items()
            if fields.get(name) is not None
        ]
        fields = {name: value for name, value in fields.items() if name not in OWN_FIELDS}
    try:
        _, spec = _parsed(fields, TemplateFields, inline_limit_bytes)
    except InvalidJobError as error:
        problems += error.problems
    if problems:
        raise InvalidJobError(problems)
    return spec


def _parsed(fields: Any, model: type[BaseModel], inline_limit_bytes: int) -> tuple[Any, JobSpec]:
    """The validated fields, and the job that they stand for. Raises InvalidJobError."""
    if not isinstance(fields, Mapping):
        raise InvalidJobError([FieldProblem((), f"expected a job's fields, but found {shown(fields)}")])
    if len(fields) > NAMES_MAX:
        raise InvalidJobError([FieldProblem((), f"expected a job's fields, but found {len(fields)} of them")])
    given = {name: value for name, value in fields.items() if value is not None}
    chosen = [schema for schema in SCHEMAS if schema.field in given]
    problems = _mixed(chosen, given.keys() | fields.keys() & {"payload"})
    try:
        job = model.model_validate(given)
    except ValidationError as error:
        problems += problems_of(error, model)
    if problems:
        raise InvalidJobError(problems)
    (schema,) = chosen
    spec = _spec(job, schema, fields)
    if problems := _oversize(spec, inline_limit_bytes):
        raise InvalidJobError(problems)
    return job, spec


def derived_id(request: JobRequest, ordinal: int, batch: str = "") -> str:
    """The id of a job that has none in its file. The same file submitted again gives the same ids.

    The id is made from version 1 of the content hash wherever that can express the job, else from version 2, so that a
    file whose submission was interrupted can be submitted again with a later program.

    Args:
        request: The job.
        ordinal: The job's number among those of the same queue and content in the file, from 0.
        batch: Another batch gives other ids.
    """
    content = content_hash(request.spec, 1) or content_hash(request.spec, 2)
    named = b"\0".join((batch.encode(), request.queue.encode(), content, str(ordinal).encode()))
    return b32encode(blake2b(named, digest_size=15).digest()).decode().lower()


def _mixed(chosen: list[ExecutorSchema], given: Set[str]) -> list[FieldProblem]:
    """Faults of fields that do not go together: a job has one executor, and only the arguments of that one."""
    if len(chosen) != 1:
        known = " or ".join(schema.description for schema in SCHEMAS)
        return [FieldProblem((), f"expected {known}, but found {'both' if chosen else 'neither'}")]
    (schema,) = chosen
    foreign = (given & ARGUMENT_FIELDS) - schema.fields.model_fields.keys()
    return [FieldProblem((name,), schema.others) for name in sorted(foreign)]


def _spec(job: Any, schema: ExecutorSchema, fields: Mapping[str, Any]) -> JobSpec:
    written = ((name, getattr(job, name)) for name in ARGUMENT_FIELDS)
    arguments = {name: value for name, value in written if value is not None}
    if "payload" in fields:
        arguments["payload"] = fields["payload"]  # null is a payload, too
    try:
        payload = schema.payload(arguments)
    except ArgumentError as error:
        raise InvalidJobError([FieldProblem(error.path, error.text)]) from None
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
    runs = {"executor": schema.name, "command": schema.command(arguments), "payload": payload}
    return JobSpec(**{**OWN_DEFAULTS.get(schema.name, {}), **runs, **chosen})


def _oversize(spec: JobSpec, limit: int) -> list[FieldProblem]:
    todo = "put it in a file or an object store, and pass its name"
    texts = (*spec.command, *spec.environment, *spec.environment.values(), *spec.labels, *spec.labels.values())
    schema = BY_NAME[spec.executor]
    sizes = {
        schema.payload_field: (len(spec.payload), schema.payload_text),
        "command": (sum(len(text.encode()) for text in texts), " with env and labels"),
    }
    return [
        FieldProblem((field,), f"expected at most {limit} bytes{what}, but found {size}; {todo}")
        for field, (size, what) in sizes.items()
        if size > limit
    ]
