"""Reads one declared schedule: from the API where one is named, else from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ftjm.cli import api_client, declarations
from ftjm.cli.declared import declared_by_api, declared_by_log
from ftjm.cli.options import ApiSource, schedule_name
from ftjm.runtime.errors import FtjmError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ftjm.core.calendar import Recurrence
    from ftjm.core.state.schedules import ScheduleSpec
    from ftjm.runtime.config import Settings


def found(settings: Settings, source: ApiSource, schedule: str) -> dict[str, Any]:
    """A schedule as a document. Raises FtjmError if there is none."""
    schedule_name(schedule)
    row = (_by_api if settings.api and not source.from_log else _by_log)(settings, schedule)
    if row is None:
        todo = "see `ftjm schedule list`, or declare it with `ftjm apply -f`"
        raise FtjmError(f"a schedule {schedule}", "none of this name", todo)
    return row


def _by_api(settings: Settings, schedule: str) -> dict[str, Any] | None:
    return api_client.get_fresh(settings, f"/schedules/{quote(schedule)}")


def _by_log(settings: Settings, schedule: str) -> dict[str, Any] | None:
    from ftjm.readmodel import one_shot
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.readmodel.documents.schedule import schedule_document

    with one_shot.folded_log(settings, schedule.partition("/")[0]) as (reader, _):
        row = reader.schedule(schedule)
    return plain_document(schedule_document(schedule, row)) if row else None


def declared(settings: Settings, source: ApiSource, schedule: str) -> tuple[str, ScheduleSpec]:
    """A declared schedule's name, `queue/name`, and what it is declared to. Raises FtjmError if there is none."""
    from ftjm.specs.resources import InvalidResourceError, parse_resource

    try:
        parsed = parse_resource(resource(found(settings, source, schedule)))
    except InvalidResourceError as error:
        what = f"a declaration of schedule {schedule} that this version of ftjm knows"
        raise FtjmError(what, str(error), "use the version of the schedulers") from None
    return schedule, parsed.spec  # type: ignore[return-value]


def recurrence(settings: Settings, source: ApiSource, spec: ScheduleSpec) -> Recurrence:
    """What reckons the instants of a declared schedule, with its calendar. Raises FtjmError if there is none."""
    if not spec.calendar:
        return on_days(spec, {})
    by_api = settings.api and not source.from_log
    found = declared_by_api(settings, "Calendar") if by_api else declared_by_log(settings, "")
    calendars = {one.name: one.spec for one in found if one.kind == "Calendar"}
    if spec.calendar not in calendars:
        raise FtjmError(f"a calendar {spec.calendar}", "none of this name", "declare it with `ftjm apply -f`")
    return on_days(spec, calendars)


def on_days(spec: ScheduleSpec, calendars: Mapping[str, Any]) -> Recurrence:
    """What reckons the instants of a schedule. `calendars` has what its calendar, if it has one, is declared to."""
    from ftjm.adapters.calendar.calendar import LocalCalendar
    from ftjm.core.calendar import OnDays

    if not spec.calendar:
        return LocalCalendar()
    return OnDays(LocalCalendar(), spec.calendar, calendars[spec.calendar])


def resource(row: dict[str, Any]) -> dict[str, Any]:
    """A schedule's declaration as a file of resources."""
    from ftjm.specs.resources import SCHEDULE

    return declarations.resource(SCHEDULE, row["schedule"], row["declaration"])
