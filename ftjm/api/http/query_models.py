"""The API's inputs: pydantic models that validate the queries and bodies of requests.

The parameters in the OpenAPI document are generated from them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ftjm.core.state.model import JobState
from ftjm.readmodel.queries import PAGE_MAX, Filter
from ftjm.runtime.durations import DURATION_EXAMPLES, TIME_EXAMPLES, parse_duration, parse_time
from ftjm.specs.bulk import Priority
from ftjm.specs.fields import Flag, Name, shown

WAIT_MS_MAX = 60_000
REASON_LENGTH_MAX = 1_000
TEXT_LENGTH_MAX = 512
PAGE_DEFAULT = 100
INT_MAX = (1 << 53) - 1
"""The largest integer that every JSON parser keeps exactly."""


def _state(value: Any) -> JobState:
    if isinstance(value, str) and value in JobState.__members__:
        return JobState[value]
    raise ValueError(f"expected one of {', '.join(JobState.__members__)}, but found {shown(value)}")


def _label(value: Any) -> tuple[str, str]:
    name, equals, text = str(value).partition("=")
    if not (name and equals):
        raise ValueError(f"expected a label as name=value, but found {shown(value)}")
    return name, text


def _wait(value: Any) -> int:
    if isinstance(value, str) and (ms := parse_duration(value)) <= WAIT_MS_MAX:
        return ms
    raise ValueError(f"expected {DURATION_EXAMPLES}, at most 60s, but found {shown(value)}")


def _time(value: Any) -> int:
    try:
        return parse_time(value)
    except (OverflowError, ValueError):
        raise ValueError(f"expected {TIME_EXAMPLES}, but found {shown(value)}") from None


States = list[
    Annotated[JobState, BeforeValidator(_state), WithJsonSchema({"type": "string", "enum": list(JobState.__members__)})]
]
Label = Annotated[
    tuple[str, str],
    BeforeValidator(_label),
    WithJsonSchema({"type": "string", "pattern": "^[^=]+=", "maxLength": TEXT_LENGTH_MAX}),
]
Time = Annotated[int, BeforeValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Wait = Annotated[int, BeforeValidator(_wait), WithJsonSchema({"type": "string", "examples": ["10s"], "maxLength": 20})]
After = Annotated[str, Field(pattern=r"^[0-9]{1,4}-[0-9]{1,15}$")]
Limit = Annotated[int, Field(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")]

BulkName = Annotated[
    str, Field(max_length=257, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
]
ScheduleName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", max_length=257)
]

BackfillName = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127}(/|$)){3}$", max_length=386)]

LIMIT_TEXT = "Number of entries on the page, at most."
CURSOR_TEXT = "The `next` of the page before; left out for the first page."


class Query(BaseModel):
    """Base of all queries: parameters that an operation does not know are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadQuery(Query):
    """Parameters of every read of the projection."""

    after: After | None = Field(
        None,
        description="The token of a command: wait, for up to 5 s, until the answer shows what the command has changed.",
    )


class JobsQuery(ReadQuery):
    """A page of the jobs that match all given filters."""

    queue: Name | None = Field(None, description="Only jobs of this queue.")
    state: States = Field([], max_length=20, description="Only jobs in this state; repeat it for any of several.")
    label: list[Label] = Field(
        [], max_length=5, description="Only jobs with this label, as name=value; repeat it for all of several."
    )
    submitted_from: Time | None = Field(None, description="Only jobs that were submitted at this time or later.")
    submitted_before: Time | None = Field(None, description="Only jobs that were submitted before this time.")
    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: Cursor = Field("", description=CURSOR_TEXT)

    def job_filter(self) -> Filter:
        """The filter, as the projection's queries take it."""
        return Filter(
            queue=self.queue or "",
            states=tuple(self.state),
            labels=tuple(self.label),
            submitted_from=self.submitted_from or 0,
            submitted_before=self.submitted_before or 0,
        )


class QueuesQuery(ReadQuery):
    """A page of queues, by name."""

    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: Name | None = Field(None, description=CURSOR_TEXT)
    declared: Flag = Field(False, description="Only queues that are declared.")


class ResourcesQuery(ReadQuery):
    """A page of calendars or windows, by name."""

    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: Name | None = Field(None, description=CURSOR_TEXT)


class BulkQuery(ReadQuery):
    """A page of bulk requests, by queue and id."""

    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: BulkName | None = Field(None, description=CURSOR_TEXT)


class SchedulesQuery(ReadQuery):
    """A page of schedules, by queue and name."""

    queue: Name | None = Field(None, description="Only schedules of this queue.")
    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: ScheduleName | None = Field(None, description=CURSOR_TEXT)


class BackfillsQuery(ReadQuery):
    """A page of backfills, by schedule and id."""

    schedule: ScheduleName | None = Field(None, description="Only backfills of this schedule, queue/name.")
    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: BackfillName | None = Field(None, description=CURSOR_TEXT)


class DeclarationQuery(Query):
    """The revision that a change of a declaration expects."""

    expected_revision: Annotated[int, Field(ge=0, le=INT_MAX)] | None = Field(
        None,
        description="The revision of the declaration that you have seen; 0 if you have seen none. If it is another one "
        "by now, it is not changed: 409. Left out: whichever it is.",
    )


class WorkersQuery(Query):
    """A page of workers, by session."""

    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: Name | None = Field(None, description=CURSOR_TEXT)


class HistoryQuery(ReadQuery):
    """A page of a job's events, oldest first."""

    limit: Limit = Field(PAGE_DEFAULT, description=LIMIT_TEXT)
    cursor: Annotated[int, Field(ge=0, le=INT_MAX)] | None = Field(None, description=CURSOR_TEXT)


class LogsQuery(ReadQuery):
    """The attempt whose output is asked for."""

    attempt: Annotated[int, Field(ge=1, le=INT_MAX)] | None = Field(
        None, description="Number of the attempt; by default, the newest one that has ended."
    )


class SubmitQuery(Query):
    """Parameters of a submission."""

    wait: Wait = Field(0, description="How long to wait for the job's outcome, such as 10s; by default not at all.")


class EventsQuery(Query):
    """Which events a stream holds, and its beginning."""

    queue: list[Name] = Field([], max_length=100, description="Only events of this queue; repeat it for several.")
    start: Annotated[str, Field(pattern="^(now|beginning)$")] = Field(
        "now", description="Where to begin without a Last-Event-ID: `now`, or the `beginning` of the log."
    )


class PauseBody(BaseModel):
    """Body of a pause; it may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field("", max_length=REASON_LENGTH_MAX, description="Why; it is shown with the pause.")


class CommandBody(BaseModel):
    """Body of a command about a job; it may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field("", max_length=REASON_LENGTH_MAX, description="Kept in the job's history.")


class PriorityBody(BaseModel):
    """Body of a change of a job's priority."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    priority: Priority = Field(description="The new priority: 0 to 100, higher first.")
