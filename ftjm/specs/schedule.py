"""A schedule as users declare it, and the `ScheduleSpec` of the log.

    queue: etl                       where it lives; may not be changed
    cron: 30 2 * * *                 or interval: 15m, counted from start, else from the Unix epoch
    time_zone: Europe/Berlin         for cron
    dst: once                        what happens to local times that a change of the clock skips or repeats
    starting_deadline: 5m            an instant to which its owner comes later is missed
    catch_up: none                   which missed instants fire
    overlap: forbid                  whether it fires while its last job has not ended
    job: {command: [backup]}         as in a file of `ftjm submit -f`, without queue, id and start

`written` gives the fields that stand for a `ScheduleSpec`: what `ftjm schedule describe -o yaml` prints is what
`ftjm apply -f` takes. Whether an expression and a time zone are right is asked of the calendar that fires them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.core.calendar import next_instant
from ftjm.core.limits import (
    CRON_CHARACTERS_MAX,
    EVERY_MS_MAX,
    INSTANT_MAX_MS,
    JITTER_MS_MAX,
    STARTING_DEADLINE_MS_MAX,
    TIME_ZONE_CHARACTERS_MAX,
)
from ftjm.core.schedule_jobs import VARIABLES
from ftjm.core.state.model import JobSpec
from ftjm.core.state.schedules import CatchUp, Dst, Overlap, ScheduleSpec
from ftjm.core.utc import iso_time
from ftjm.runtime.durations import format_duration, format_time
from ftjm.specs.executors import Fields
from ftjm.specs.fields import Name, duration, one_of, time_of, written_as, wrong_value
from ftjm.specs.job import InvalidJobError, TemplateFields, parse_template
from ftjm.specs.problems import FieldProblem
from ftjm.specs.written_job import written_job

TO_COME = ("workflow",)
"""Fields that a later build has."""
SECOND_MS = 1_000
_DEFAULT = ScheduleSpec(JobSpec())


def _calendar_fault(**recurrence: Any) -> str:
    """What the calendar says is wrong with a cron expression or a time zone, without the name of the field."""
    return LocalCalendar().fault(ScheduleSpec(JobSpec(), **recurrence), "").partition(": ")[2]


def _short_text(value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise wrong_value("text", value)
    if len(value) > most:
        raise ValueError(f"expected at most {most} characters, but found {len(value)}")
    return value


def _cron(value: Any) -> str:
    text = " ".join(_short_text(value, CRON_CHARACTERS_MAX).split())
    if not text:
        raise wrong_value("a cron expression, such as 30 2 * * *", value)
    if fault := _calendar_fault(cron=text):
        raise ValueError(fault)
    return text


def _time_zone(value: Any) -> str:
    if fault := _calendar_fault(time_zone=_short_text(value, TIME_ZONE_CHARACTERS_MAX)):
        raise ValueError(fault)
    return str(value)


def _whole_seconds(value: Any, low: int, high: int) -> int:
    if not low <= (ms := duration(value)) <= high:
        raise wrong_value(f"{format_duration(low)} to {format_duration(high)}", value)
    if ms % SECOND_MS:
        raise wrong_value("whole seconds", value)
    return ms


def _limit(value: Any) -> int:
    if (ms := time_of(value)) > INSTANT_MAX_MS:
        raise wrong_value(f"at most {iso_time(INSTANT_MAX_MS)}", value)
    if ms % SECOND_MS:
        raise wrong_value("whole seconds", value)
    if not ms:
        raise wrong_value("a time after 1970-01-01T00:00:00Z", value)
    return ms


def _starting_deadline(value: Any) -> int:
    if not SECOND_MS <= (ms := duration(value)) <= STARTING_DEADLINE_MS_MAX:
        raise wrong_value(f"1s to {format_duration(STARTING_DEADLINE_MS_MAX)}", value)
    return ms


def _jitter(value: Any) -> int:
    if (ms := duration(value)) > JITTER_MS_MAX:
        raise wrong_value(f"at most {format_duration(JITTER_MS_MAX)}", value)
    return ms


def _template(value: Any) -> Any:
    if value is None:
        raise ValueError("expected a value, but it is missing")
    return value


Cron = Annotated[
    str,
    BeforeValidator(_cron),
    written_as("string", minLength=1, maxLength=CRON_CHARACTERS_MAX, examples=["30 2 * * *", "@daily", "H * * * 1-5"]),
]
Interval = Annotated[
    int,
    BeforeValidator(lambda value: _whole_seconds(value, SECOND_MS, EVERY_MS_MAX)),
    written_as("string", examples=["10s", "15m", "1d"]),
]
TimeZone = Annotated[
    str,
    BeforeValidator(_time_zone),
    written_as("string", maxLength=TIME_ZONE_CHARACTERS_MAX, examples=["Europe/Berlin", "UTC"]),
]
Limit = Annotated[
    int,
    BeforeValidator(_limit),
    written_as("string", format="date-time", examples=["2030-01-31T18:00:00Z"]),
]
StartingDeadline = Annotated[int, BeforeValidator(_starting_deadline), written_as("string", examples=["5m", "1d"])]
Jitter = Annotated[int, BeforeValidator(_jitter), written_as("string", examples=["30s", "10m"])]
Template = Annotated[dict[str, Any], PlainValidator(_template, json_schema_input_type=TemplateFields)]
"""Checked by `parse_template`, with the rules of a job."""


class ScheduleFields(Fields):
    """What a schedule's declaration says. A field that is left out has its default."""

    queue: Name = Field(
        description="The queue of its jobs. It may not be changed: the schedule is decided where its queue is."
    )
    cron: Cron | None = Field(
        None,
        description="When it fires: minute, hour, day of the month, month, day of the week, in the local time of "
        "`time_zone`; or a macro such as `@daily`. `H` is a minute or an hour that is drawn from the schedule's name. "
        "Either this or `interval`.",
    )
    interval: Interval | None = Field(
        None,
        description="The time between two instants, counted from `start`; without a start, from the Unix epoch.",
    )
    time_zone: TimeZone | None = Field(
        None,
        description="A name of the IANA database; `cron` is in its local time.",
        json_schema_extra={"default": _DEFAULT.time_zone},
    )
    dst: one_of(Dst) | None = Field(  # type: ignore[valid-type]
        None,
        description="Local times that a change of the clock skips or repeats: `once` fires at the gap's end and in the "
        "first pass, `skip` not in a gap and in the first pass, `both` at the gap's end and in both passes.",
        json_schema_extra={"default": _DEFAULT.dst.value},
    )
    calendar: Name | None = Field(
        None,
        description="The name of a calendar: it fires only on days of it, by the calendar's own clock. Left out: on "
        "all days.",
    )
    start: Limit | None = Field(None, description="It does not fire before this time.")
    end: Limit | None = Field(None, description="It does not fire after this time.")
    starting_deadline: StartingDeadline | None = Field(
        None,
        description="An instant that nobody came to for so long, since no scheduler ran, is missed.",
        json_schema_extra={"default": format_duration(_DEFAULT.starting_deadline_ms)},
    )
    catch_up: one_of(CatchUp) | None = Field(  # type: ignore[valid-type]
        None,
        description="Which missed instants fire all the same: `none`, the `latest`, or `all`.",
        json_schema_extra={"default": _DEFAULT.catch_up.value},
    )
    overlap: one_of(Overlap) | None = Field(  # type: ignore[valid-type]
        None,
        description="What happens at an instant while the last firing's job has not ended: `allow` fires, `forbid` "
        "skips it, `queue` lets one instant wait for the end, `replace` cancels the job and waits for its end.",
        json_schema_extra={"default": _DEFAULT.overlap.value},
    )
    jitter: Jitter | None = Field(
        None,
        description="A job starts up to so much later than its instant, always as much for the same instant.",
        json_schema_extra={"default": format_duration(_DEFAULT.jitter_ms)},
    )
    job: Template = Field(
        description="The job, with the fields of a file of `ftjm submit -f` but `queue`, `job_id`, `delay` and "
        "`start_at`. It finds the instant in its environment: " + ", ".join(f"`{name}`" for name in VARIABLES) + ".",
    )

    @model_validator(mode="after")
    def _one_recurrence(self) -> ScheduleFields:
        if (self.cron is None) is (self.interval is None):
            raise ValueError(
                f"expected either cron or interval, but found {'neither' if self.cron is None else 'both'}"
            )
        return self

    @model_validator(mode="after")
    def _end_after_start(self) -> ScheduleFields:
        if self.start is not None and self.end is not None and self.end < self.start:
            text = f"expected end to be after start, {iso_time(self.start)}, but found {iso_time(self.end)}"
            raise ValueError(text)
        return self


def template_problems(fields: Any) -> list[FieldProblem]:
    """The faults of the job of a schedule's spec, with paths from the spec on.

    Args:
        fields: The spec as the user wrote it.
    """
    if not isinstance(fields, Mapping) or fields.get("job") is None:
        return []
    try:
        job = parse_template(fields["job"]).spec
    except InvalidJobError as error:
        found = error.problems
    else:
        found = list(_not_in_templates(job))
    return [FieldProblem(("job", *problem.path), problem.text) for problem in found]


def _not_in_templates(job: JobSpec) -> Iterator[FieldProblem]:
    if job.deadline_at:
        text = f"expected a duration from each instant on, such as 2h, but found {format_time(job.deadline_at)}"
        yield FieldProblem(("deadline",), text)
    for name in VARIABLES:
        if name in job.environment:
            yield FieldProblem(("env", name), f"expected a variable of your own, but {name} is set by each firing")


def schedule_spec(fields: ScheduleFields) -> ScheduleSpec:
    """The `ScheduleSpec` that validated fields stand for."""
    given = {
        "cron": fields.cron,
        "every_ms": fields.interval,
        "start_at": fields.start,
        "end_at": fields.end,
        "time_zone": fields.time_zone,
        "dst": fields.dst,
        "calendar": fields.calendar,
        "starting_deadline_ms": fields.starting_deadline,
        "catch_up": fields.catch_up,
        "overlap": fields.overlap,
        "jitter_ms": fields.jitter,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    template = parse_template(fields.job)
    return ScheduleSpec(template.spec, explicit=[*template.explicit], **chosen)


def never_fires(key: str, spec: ScheduleSpec) -> str:
    """An error text if no instant lies between start and end; else empty. `key` is `queue/name`."""
    if next_instant(LocalCalendar(), spec, key, 0):
        return ""
    return "expected an instant between start and end, but it would never fire"


def written(spec: ScheduleSpec) -> dict[str, Any]:
    """The fields that users write for this `ScheduleSpec`, with all that hold, also where they are defaults.

    So a declaration that is written and read again is the same, also under a build with other defaults. Of its job,
    what was left open stays open.
    """
    found: dict[str, Any] = {"cron": spec.cron} if spec.cron else {"interval": format_duration(spec.every_ms)}
    if spec.cron or (spec.time_zone, spec.dst) != (_DEFAULT.time_zone, _DEFAULT.dst):
        found |= {"time_zone": spec.time_zone, "dst": spec.dst.value}
    if spec.calendar:
        found["calendar"] = spec.calendar
    found |= {name: iso_time(at) for name, at in (("start", spec.start_at), ("end", spec.end_at)) if at}
    return found | {
        "starting_deadline": format_duration(spec.starting_deadline_ms),
        "catch_up": spec.catch_up.value,
        "overlap": spec.overlap.value,
        "jitter": format_duration(spec.jitter_ms),
        "job": written_job(spec.job, spec.explicit),
    }
