"""A calendar as users declare it, and the `CalendarSpec` of the log.

    time_zone: Europe/Berlin            whose days
    days: [mon, tue, wed, thu, fri]     days of the week that count; left out: all
    included: [2026-12-27]              dates that count all the same
    excluded: [2026-12-25, 2026-12-26]  dates that do not count

`written` gives the fields that stand for a `CalendarSpec`: what `ftjm calendar describe -o yaml` prints is what
`ftjm apply -f` takes.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from ftjm.adapters.calendar.days import date_fault
from ftjm.core.limits import CALENDAR_DATES_MAX
from ftjm.core.state.calendars import CalendarSpec
from ftjm.specs.executors import Fields
from ftjm.specs.fields import at_most, written_as, wrong_value
from ftjm.specs.schedule import TimeZone

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TO_COME = ()
"""Fields that a later build has."""
_DEFAULT = CalendarSpec()


def _day(value: Any) -> str:
    if not isinstance(value, str) or value not in DAYS:
        raise wrong_value(", ".join(DAYS), value)
    return value


def _date(value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_value("a date such as 2026-12-25", value)
    if fault := date_fault(value):
        raise ValueError(fault)
    return value


def _some(value: Any) -> Any:
    if value == []:
        raise ValueError("expected at least one day of the week, but found none: no day would count")
    return value


Day = Annotated[str, BeforeValidator(_day), written_as("string", enum=[*DAYS])]
Date = Annotated[str, BeforeValidator(_date), written_as("string", format="date")]
Dates = Annotated[
    list[Date],
    at_most(CALENDAR_DATES_MAX, "dates", "leave out those that have passed"),
    Field(examples=[["2026-12-25", "2026-12-26"]]),
]


class CalendarFields(Fields):
    """What a calendar's declaration says. A field that is left out has its default."""

    time_zone: TimeZone | None = Field(
        None,
        description="A name of the IANA database. Days begin and end by its clock.",
        json_schema_extra={"default": _DEFAULT.time_zone},
    )
    days: Annotated[list[Day], BeforeValidator(_some), at_most(len(DAYS), "days")] | None = Field(
        None,
        description="The days of the week that count. Left out: all.",
        examples=[["mon", "tue", "wed", "thu", "fri"]],
    )
    included: Dates | None = Field(None, description="Dates that count, whatever day of the week they are.")
    excluded: Dates | None = Field(None, description="Dates that do not count.")

    @model_validator(mode="after")
    def _no_date_in_both(self) -> CalendarFields:
        if both := sorted(set(self.included or ()) & set(self.excluded or ())):
            raise ValueError(f"expected a date to be included or excluded, but found {both[0]} in both")
        return self


def calendar_spec(fields: CalendarFields) -> CalendarSpec:
    """The `CalendarSpec` that validated fields stand for. Its lists are sorted, without what comes twice; a list of all
    days of the week is an empty one."""
    weekdays = sorted({DAYS.index(day) for day in fields.days or ()})
    return CalendarSpec(
        fields.time_zone or _DEFAULT.time_zone,
        weekdays if len(weekdays) < len(DAYS) else [],
        sorted(set(fields.included or ())),
        sorted(set(fields.excluded or ())),
    )


def written(spec: CalendarSpec) -> dict[str, Any]:
    """The fields that users write for this `CalendarSpec`, with all that hold."""
    found: dict[str, Any] = {"time_zone": spec.time_zone, "days": [DAYS[day] for day in spec.weekdays or range(7)]}
    dates = {"included": spec.included, "excluded": spec.excluded}
    return found | {name: list(value) for name, value in dates.items() if value}
