"""Bulk requests as users write them: over HTTP, and by options of the command line."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ftjm.core.limits import LABELS_MAX, PRIORITY_MAX, TEXT_CHARACTERS_MAX
from ftjm.core.state.model import JobState
from ftjm.core.state.processes import BulkAction, JobFilter
from ftjm.specs.fields import Name, Text, Time, at_most, between, shown, written_as
from ftjm.specs.problems import FieldProblem, problems_of


class InvalidBulkError(ValueError):
    """A request that cannot be sent. `problems` has each wrong field."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _state(value: Any) -> str:
    if isinstance(value, str) and value in JobState.__members__:
        return value
    raise ValueError(f"expected one of {', '.join(JobState.__members__)}, but found {shown(value)}")


def _action(value: Any) -> BulkAction:
    if isinstance(value, str) and value in {member.value for member in BulkAction}:
        return BulkAction(value)
    raise ValueError(f"expected one of {', '.join(BulkAction)}, but found {shown(value)}")


State = Annotated[str, BeforeValidator(_state), written_as("string", enum=list(JobState.__members__))]
Action = Annotated[BulkAction, BeforeValidator(_action), written_as("string", enum=list(BulkAction))]
Priority = Annotated[int, between(int, 0, PRIORITY_MAX), written_as("integer", minimum=0, maximum=PRIORITY_MAX)]


class BulkFilter(BaseModel):
    """The jobs that a bulk request is about: those of the queue that meet every field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    states: Annotated[list[State], at_most(LABELS_MAX, "states", "leave some out")] = Field(
        default=[], description="Their states; left out: all states in which the action makes sense."
    )
    labels: Annotated[dict[Name, Text], at_most(LABELS_MAX, "labels", "leave some out")] = Field(
        default={}, description="Labels that they have, perhaps among others."
    )
    submitted_after: Time | None = Field(default=None, description="They were submitted at this time or later.")
    submitted_before: Time | None = Field(default=None, description="They were submitted before this time.")

    def job_filter(self) -> JobFilter:
        """The filter, as the command has it."""
        return JobFilter(
            states=list(dict.fromkeys(self.states)),
            labels=dict(self.labels),
            submitted_after=self.submitted_after or 0,
            submitted_before=self.submitted_before or 0,
        )


class BulkFields(BaseModel):
    """A request about many jobs of a queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action = Field(description="What is done with each job.")
    filter: BulkFilter = Field(
        default_factory=lambda: BulkFilter.model_validate({}),
        description="Which jobs; left out: all of the queue.",
    )
    reason: Annotated[Text, Field(max_length=TEXT_CHARACTERS_MAX)] = Field(
        default="", description="Kept in the history of each job."
    )
    priority: Priority | None = Field(
        default=None,
        validate_default=True,
        description="The jobs' new priority, 0 to 100; for `prioritize`, and only for it.",
    )

    @field_validator("priority", mode="after")
    @classmethod
    def _belongs_to_the_action(cls, value: int | None, info: ValidationInfo) -> int | None:
        action = info.data.get("action")
        if action is BulkAction.PRIORITIZE and value is None:
            raise ValueError(f"expected the new priority, 0 to {PRIORITY_MAX}, but found none")
        if action not in (BulkAction.PRIORITIZE, None) and value is not None:
            raise ValueError(f"expected no priority for {action}, but found one; leave it out")
        return value


def parse_bulk(fields: dict[str, Any]) -> BulkFields:
    """Check a request. Raises InvalidBulkError."""
    try:
        return BulkFields.model_validate(fields)
    except ValidationError as error:
        raise InvalidBulkError(problems_of(error, BulkFields)) from None
