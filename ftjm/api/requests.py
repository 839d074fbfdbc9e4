"""What the API takes, as the models that validate it; the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from ftjm.api.queries import PAGE_MAX
from ftjm.core.model import JobState
from ftjm.durations import DURATION_EXAMPLES, TIME_EXAMPLES, parse_duration, parse_time
from ftjm.fields import Name

WAIT_MS_MAX = 60_000
REASON_MAX = 1_000
TEXT_MAX = 512
PAGE = 100
INT_MAX = (1 << 53) - 1


def _state(value: Any) -> JobState:
    if isinstance(value, str) and value in JobState.__members__:
        return JobState[value]
    raise ValueError(f"expected one of {', '.join(JobState.__members__)}")


def _label(value: Any) -> tuple[str, str]:
    name, equals, text = str(value).partition("=")
    if not (name and equals):
        raise ValueError("expected a label as name=value")
    return name, text


def _wait(value: Any) -> int:
    if isinstance(value, str) and (ms := parse_duration(value)) <= WAIT_MS_MAX:
        return ms
    raise ValueError(f"expected {DURATION_EXAMPLES}, at most 60s")


def _time(value: Any) -> int:
    try:
        return parse_time(value)
    except (OverflowError, ValueError):
        raise ValueError(f"expected {TIME_EXAMPLES}") from None


States = list[
    Annotated[JobState, BeforeValidator(_state), WithJsonSchema({"type": "string", "enum": list(JobState.__members__)})]
]
Label = Annotated[
    tuple[str, str],
    BeforeValidator(_label),
    WithJsonSchema({"type": "string", "pattern": "^[^=]+=", "maxLength": TEXT_MAX}),
]
Time = Annotated[int, BeforeValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Wait = Annotated[int, BeforeValidator(_wait), WithJsonSchema({"type": "string", "examples": ["10s"], "maxLength": 20})]
After = Annotated[str, Field(pattern=r"^[0-9]{1,4}-[0-9]{1,15}$")]
Limit = Annotated[int, Field(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_-]*$")]


class Query(BaseModel):
    """Parameters of a request's query."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Read(Query):
    """What every read may ask for."""

    after: After | None = Field(
        None, description="The token of a command: the answer is at least as new as its decision (waits up to 5 s)."
    )


class JobsQuery(Read):
    """Which jobs; all that is given must hold."""

    queue: Name | None = None
    state: States = Field([], max_length=20, description="Any of these; may be repeated.")
    label: list[Label] = Field([], max_length=5, description="All of these, as name=value; may be repeated.")
    submitted_from: Time | None = None
    submitted_before: Time | None = None
    limit: Limit = PAGE
    cursor: Cursor = ""


class QueuesQuery(Read):
    """A page of queues, by name."""

    limit: Limit = PAGE
    cursor: Name | None = None


class HistoryQuery(Read):
    """A page of a job's events, oldest first."""

    limit: Limit = PAGE
    cursor: Annotated[int, Field(ge=0, le=INT_MAX)] | None = None


class LogsQuery(Read):
    """Of which attempt; by default, the newest that has ended."""

    attempt: Annotated[int, Field(ge=1, le=INT_MAX)] | None = None


class SubmitQuery(Query):
    """How long to wait for the outcome, such as 10s; by default not at all."""

    wait: Wait = 0


class EventsQuery(Query):
    """Of which queues, and from where, if no Last-Event-ID says it."""

    queue: list[Name] = Field([], max_length=100)
    start: Annotated[str, Field(pattern="^(now|beginning)$")] = "now"


class Why(BaseModel):
    """Told in the job's history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field("", max_length=REASON_MAX)
