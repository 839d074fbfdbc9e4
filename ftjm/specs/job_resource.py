"""A job as a resource in a file: `kind: Job`.

    metadata: {name: load-2026, labels: {team: data}}     its id in its queue, and its labels
    spec: {queue: etl, command: [./load, "2026"]}         the other fields of a job, as in a file of `ftjm submit -f`

A job is no declaration: it runs once. `ftjm apply` submits it, and the same content again is the same job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PlainValidator, create_model

from ftjm.core.identity import content_hash
from ftjm.specs.executors import Fields
from ftjm.specs.fields import wrong_value
from ftjm.specs.job import InvalidJobError, JobFields, JobRequest, PolicyFields, parse_job
from ftjm.specs.metadata import ApiVersion, JobMetadata
from ftjm.specs.problems import FieldProblem
from ftjm.specs.written_job import written_job

OF_METADATA: Mapping[str, str] = {"job_id": "metadata.name is its id", "labels": "metadata.labels are its labels"}
"""Fields of a job that the spec of a resource does not have, and the reason."""
JobSpecFields: type[Fields] = create_model(  # type: ignore[call-overload]
    "JobSpecFields",
    __base__=Fields,
    __module__=__name__,
    __doc__="A job as in a file of `ftjm submit -f`, without what its metadata says.",
    **{name: (field.annotation, field) for name, field in JobFields.model_fields.items() if name not in OF_METADATA},
)
JobSpecFields.model_config["json_schema_extra"] = PolicyFields.model_config["json_schema_extra"]


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise wrong_value("names with values", value)
    return value


JobOfResource = Annotated[dict[str, Any], PlainValidator(_mapping, json_schema_input_type=JobSpecFields)]
"""Checked by `parse_job`, with the rules of a job."""


class JobResource(Fields):
    """A job to run once."""

    api_version: ApiVersion = Field(alias="apiVersion", description="The version of this format.")
    kind: Literal["Job"] = Field(description="The kind of the resource.")
    metadata: JobMetadata = Field(description="What the job is called, and its labels.")
    spec: JobOfResource = Field(description="The job, with the fields of a file of `ftjm submit -f`.")


class SubmittedContent(NamedTuple):
    """What a job that exists was submitted with."""

    version: int
    """The version of the content hash."""
    content: bytes
    """The hash."""

    def is_same(self, job: JobRequest) -> bool:
        """Whether submitting this job would be a repetition."""
        return self.content == content_hash(job.spec, self.version, job.explicit)


def job_problems(fields: Any) -> list[FieldProblem]:
    """The faults of the job of a resource, with paths from the spec on.

    Args:
        fields: The spec as the user wrote it.
    """
    if not isinstance(fields, Mapping):
        return []
    problems = [
        FieldProblem((name,), f"expected none, since {why}; leave it out")
        for name, why in OF_METADATA.items()
        if fields.get(name) is not None
    ]
    try:
        parse_job({name: value for name, value in fields.items() if name not in OF_METADATA})
    except InvalidJobError as error:
        problems += error.problems
    return problems


def job_request(parsed: JobResource) -> JobRequest:
    """The job that a validated resource submits."""
    return parse_job(parsed.spec | {"job_id": parsed.metadata.name, "labels": parsed.metadata.labels or None})


def written(job: JobRequest) -> dict[str, Any]:
    """The fields of the spec that users write for this job."""
    fields = written_job(job.spec, job.explicit)
    return {"queue": job.queue} | {name: value for name, value in fields.items() if name not in OF_METADATA}
