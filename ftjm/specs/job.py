"""Validates a job as users write it (in files, options, HTTP and Python), and makes the `JobSpec` of the log."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Mapping, Set
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from ftjm.core.identity import content_hash
from ftjm.core.job_defaults import canonical
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
    written_as,
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
    explicit: tuple[str, ...] = ()
    """Names of the fields of `spec` that the user gave although they have their default, in order. The job's queue
    fills the others that have their default."""


class Template(NamedTuple):
    """A job without what each of its copies has of its own."""

    spec: JobSpec
    explicit: tuple[str, ...] = ()
    """As in `JobRequest`."""


Priority = Annotated[int, between(int, 0, 100), written_as("integer", minimum=0, maximum=100)]
Attempts = Annotated[int, between(int, 1, 10_000), written_as("integer", minimum=1, maximum=10_000)]
Losses = Annotated[int, between(int, 0, 10_000), written_as("integer", minimum=0, maximum=10_000)]
Factor = Annotated[float, between(float, 1, 100), written_as("number", minimum=1, maximum=100)]


class InvalidJobError(Exception):
    """A job that cannot be submitted as it is written, with all of its faults."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class Backoff(Fields):
    """Delays between attempts: `initial`, times `factor` after each failure, at most `max`."""

    initial: Duration | None = Field(default=None, description="The delay before the second attempt. Left out: 1s.")
    factor: Factor | None = Field(
        default=None, description="Each further delay is this many times longer. Left out: 2."
    )
    max: Duration | None = Field(default=None, description="The longest delay. Left out: 5m.")


class Disconnect(Fields):
    """What happens to an attempt while its worker is cut off from the log."""

    continue_for: ContinueFor | None = Field(
        default=None, description="How long the attempt may run on, and is waited for. Left out: not at all."
    )


class PolicyFields(IdentityFields):
    """The fields of a job that do not depend on its executor. One that is not given is left open: see
    `core/job_defaults.py`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [schema.field]} for schema in SCHEMAS]},
    )

    env: Annotated[dict[EnvironmentName, Text], at_most(ENTRIES_MAX, "variables")] | None = Field(
        None,
        serialization_alias="environment",
        description="Environment variables. They are public: they stay in the log.",
        examples=[{"LEVEL": "info"}],
    )
    labels: Annotated[dict[Name, Text], at_most(ENTRIES_MAX, "labels")] | None = Field(
        None, description="Names with values of your choice, by which jobs are found.", examples=[{"team": "web"}]
    )
    cwd: Text | None = Field(
        None,
        serialization_alias="working_directory",
        description="The working directory on the worker's host. Left out: one of its own for each attempt.",
        examples=["/srv/data"],
    )
    priority: Priority | None = Field(None, description="0 to 100, higher first. Left out: 50.")
    hold: Flag | None = Field(
        None, serialization_alias="held", description="Whether it waits for `ftjm release`.", examples=["true"]
    )
    delay: Duration | None = Field(
        None, serialization_alias="delay_ms", description="How long it waits from its submission on."
    )
    start_at: Time | None = Field(
        None, description="When it may start. Either this or `delay`.", examples=["2030-01-31T18:00:00Z"]
    )
    timeout: Duration | None = Field(
        None, serialization_alias="timeout_ms", description="The longest time of one attempt. `0s`: no limit."
    )
    deadline: Deadline | None = Field(
        None, description="When it must have ended: a duration from its submission on, or a time. `0s`: no deadline."
    )
    max_attempts: Attempts | None = Field(None, description="How many attempts it has. Left out: 1, and 3 for a task.")
    backoff: Backoff = Field(default_factory=Backoff, description="The delays before further attempts.")
    on_worker_loss: WorkerLossPolicy | None = Field(
        None,
        description="What follows when its worker is lost: `requeue`, `fail` or `hold`. Left out: `requeue`.",
    )
    worker_losses_max: Losses | None = Field(
        None, description="How often it is requeued after the loss of a worker. Left out: 3."
    )
    disconnect: Disconnect = Field(
        default_factory=Disconnect, description="What follows when its worker is cut off from the log."
    )
    cancel_grace: Duration | None = Field(
        None, serialization_alias="cancel_grace_ms", description="The time from SIGTERM to SIGKILL. Left out: 10s."
    )
    retention: Duration | None = Field(
        None,
        serialization_alias="retention_ms",
        description="How long it is kept after its end. Left out: as long as the cluster says.",
    )
    concurrency_key: Name | None = Field(
        None,
        description="Of the jobs of the queue with the same key, only so many as the queue says have a worker at a "
        "time; by default one.",
        examples=["customer-7"],
    )
    share_identifier: Name | None = Field(
        None,
        description="The share of the queue that it belongs to. Shares have slot time by their weights, as the queue "
        "declares them.",
        examples=["finance"],
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
TO_COME = (
    *("depends_on", "any_of", "array", "semaphores", "mutex", "evaluate_on_exit"),
    *("on_success", "on_failure", "on_exit", "stall_timeout", "resources", "gang"),
)
"""Fields that a later build has. They are refused in words, since their authors have not misspelt anything."""
_SPECIAL = {"queue", "job_id", "deadline", "backoff", "disconnect", *ARGUMENT_FIELDS}


def parse_job(fields: Any, inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> JobRequest:
    """Validate one job.

    Args:
        fields: The fields as the user wrote them, by name. One that is None counts as not given, except `payload`.
        inline_limit_bytes: The largest payload, in bytes.

    Raises:
        InvalidJobError: Some fields are wrong. It names all of them.
    """
    job, made = _parsed(fields, JobFields, inline_limit_bytes)
    return JobRequest(job.queue, job.job_id or "", *made)


def parse_template(fields: Any, inline_limit_bytes: int = INLINE_LIMIT_BYTES) -> Template:
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
        _, made = _parsed(fields, TemplateFields, inline_limit_bytes)
    except InvalidJobError as error:
        problems += error.problems
    if problems:
        raise InvalidJobError(problems)
    return made


def _parsed(fields: Any, model: type[BaseModel], inline_limit_bytes: int) -> tuple[Any, Template]:
    """The validated fields, and the job that they stand for. Raises InvalidJobError."""
    if not isinstance(fields, Mapping):
        raise InvalidJobError([FieldProblem((), f"expected a job's fields, but found {shown(fields)}")])
    if len(fields) > NAMES_MAX:
        raise InvalidJobError([FieldProblem((), f"expected a job's fields, but found {len(fields)} of them")])
    given = {name: value for name, value in fields.items() if value is not None}
    to_come = [name for name in TO_COME if given.pop(name, None) is not None]
    problems = [FieldProblem((name,), f"{name} is not supported yet; leave it out") for name in to_come]
    chosen = [schema for schema in SCHEMAS if schema.field in given]
    problems += _mixed(chosen, given.keys() | fields.keys() & {"payload"})
    try:
        job = model.model_validate(given)
    except ValidationError as error:
        problems += problems_of(error, model)
    if problems:
        raise InvalidJobError(problems)
    (schema,) = chosen
    made = _made(job, schema, fields)
    if problems := _oversize(made.spec, inline_limit_bytes):
        raise InvalidJobError(problems)
    return job, made


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


def _made(job: Any, schema: ExecutorSchema, fields: Mapping[str, Any]) -> Template:
    written = ((name, getattr(job, name)) for name in ARGUMENT_FIELDS)
    arguments = {name: value for name, value in written if value is not None}
    if "payload" in fields:
        arguments["payload"] = fields["payload"]  # null is a payload, too
    try:
        payload = schema.payload(arguments)
    except ArgumentError as error:
        raise InvalidJobError([FieldProblem(error.path, error.text)]) from None
    runs = {"executor": schema.name, "command": schema.command(arguments), "payload": payload}
    chosen = policy_values(job)
    spec = JobSpec(**{**OWN_DEFAULTS.get(schema.name, {}), **runs, **chosen})
    return Template(spec, tuple(canonical(spec, chosen)))


def policy_values(job: Any) -> dict[str, Any]:
    """The fields of `JobSpec` that a validated model of policies gives, by their names there."""
    chosen: dict[str, Any] = job.model_dump(exclude=_SPECIAL, exclude_none=True, by_alias=True)
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
    return chosen


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
