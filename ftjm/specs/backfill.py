"""Backfills as users write them: over HTTP, and by options of the command line."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ftjm.core.limits import BACKFILL_ACTIVE_MAX
from ftjm.core.state.backfills import Reprocess
from ftjm.core.utc import iso_time
from ftjm.specs.fields import Time, between, shown, written_as
from ftjm.specs.problems import FieldProblem, problems_of

MAX_ACTIVE = 10
"""Runs of a backfill that have not ended, where nothing else is asked for."""


class InvalidBackfillError(ValueError):
    """A request that cannot be sent. `problems` has each wrong field."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def _reprocess(value: Any) -> Reprocess:
    if isinstance(value, str) and value in {member.value for member in Reprocess}:
        return Reprocess(value)
    raise ValueError(f"expected one of {', '.join(Reprocess)}, but found {shown(value)}")


Which = Annotated[Reprocess, BeforeValidator(_reprocess), written_as("string", enum=list(Reprocess))]
MaxActive = Annotated[
    int, between(int, 1, BACKFILL_ACTIVE_MAX), written_as("integer", minimum=1, maximum=BACKFILL_ACTIVE_MAX)
]


class BackfillFields(BaseModel):
    """A request to make the jobs of instants of a schedule that have passed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_at: Time = Field(alias="from", description="It is about the instants from this time on.")
    to: Time = Field(description="It is about the instants up to this time, which must have passed.")
    reprocess: Which = Field(
        default=Reprocess.NONE,
        description="Which jobs that are there already run again: `none`, those that `failed` (or were cancelled), or "
        "all that have `completed`.",
    )
    max_active: MaxActive = Field(
        default=MAX_ACTIVE, description="At most so many of the runs that it begins have not ended."
    )

    @model_validator(mode="after")
    def _to_after_from(self) -> BackfillFields:
        if self.to < self.from_at:
            text = f"expected to not to be before from, {iso_time(self.from_at)}, but found {iso_time(self.to)}"
            raise ValueError(text)
        return self


def parse_backfill(fields: dict[str, Any]) -> BackfillFields:
    """Check a request. Raises InvalidBackfillError."""
    try:
        return BackfillFields.model_validate(fields)
    except ValidationError as error:
        raise InvalidBackfillError(problems_of(error, BackfillFields)) from None
