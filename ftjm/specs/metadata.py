"""The head of every resource: the version of the format, and what the resource is called."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ftjm.core.limits import LABELS_MAX, SCHEDULE_NAME_CHARACTERS_MAX, TITLE_CHARACTERS_MAX
from ftjm.core.names import NAME_TEXT
from ftjm.specs.executors import Fields
from ftjm.specs.fields import Name, Text, at_most, written_as, wrong_value

API_VERSION = "ftjm.io/v1"
RESERVED_LABELS = ("tenant",)
"""Labels that a later build gives a meaning."""


def _api_version(value: Any) -> str:
    if value != API_VERSION:
        raise wrong_value(API_VERSION, value)
    return API_VERSION


def _label_name(value: Any) -> str:
    if value in RESERVED_LABELS:
        raise ValueError(f"expected a label of your own, but {value} is reserved; choose another name")
    return str(value)


def _label_value(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TITLE_CHARACTERS_MAX:
        raise ValueError(f"expected at most {TITLE_CHARACTERS_MAX} characters, but found {len(value)}")
    return value


def _schedule_name(value: Any) -> Any:
    if isinstance(value, str) and len(value) > SCHEDULE_NAME_CHARACTERS_MAX:
        most = f"at most {SCHEDULE_NAME_CHARACTERS_MAX} characters, so that the ids of its jobs are names"
        raise ValueError(f"expected {most} ({value[:20]}….20261129T013000Z), but found {len(value)}")
    if isinstance(value, str) and "/" in value:
        raise ValueError(f"expected {NAME_TEXT}, but found {value[:80]!r}; the queue is written as spec.queue")
    return value


ApiVersion = Annotated[str, BeforeValidator(_api_version), written_as("string", const=API_VERSION)]
LabelName = Annotated[Name, BeforeValidator(_label_name)]
LabelValue = Annotated[Text, BeforeValidator(_label_value), written_as("string", maxLength=TITLE_CHARACTERS_MAX)]
ScheduleName = Annotated[
    Name,
    BeforeValidator(_schedule_name),
    written_as("string", pattern=f"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{SCHEDULE_NAME_CHARACTERS_MAX - 1}}}$"),
]


Labels = Annotated[dict[LabelName, LabelValue], at_most(LABELS_MAX, "labels", "leave some out")]
_OF_LABELS: dict[str, Any] = {
    "additionalProperties": False,
    "propertyNames": {"not": {"enum": [*RESERVED_LABELS]}},
}


class Metadata(Fields):
    """What a resource is called."""

    name: Name = Field(description="The resource's name. It is its identity: another name is another resource.")
    labels: Labels | None = Field(
        None,
        description="Names with values of your choice, by which `ftjm apply --prune -l NAME=VALUE` finds what your "
        f"files no longer have. At most {LABELS_MAX}. `tenant` is reserved.",
        examples=[{"team": "web"}],
        json_schema_extra=_OF_LABELS,
    )


class ScheduleMetadata(Metadata):
    """What a schedule is called."""

    name: ScheduleName = Field(
        description="The schedule's name in its queue. Both are its identity, `QUEUE/NAME`: another queue or name is "
        "another schedule. The ids of its jobs begin with it."
    )


class JobMetadata(Metadata):
    """What a job is called."""

    name: Name = Field(description="The job's id in its queue. Both are its identity: another name is another job.")
    labels: Labels | None = Field(
        None,
        description=f"Its labels, by which jobs are found. At most {LABELS_MAX}. `tenant` is reserved.",
        examples=[{"team": "data"}],
        json_schema_extra=_OF_LABELS,
    )
