"""Reads one declared schedule: from the API where one is named, else from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ftjm.cli import api_client, declarations
from ftjm.cli.options import ApiSource, schedule_name
from ftjm.runtime.errors import FtjmError

if TYPE_CHECKING:
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


def resource(row: dict[str, Any]) -> dict[str, Any]:
    """A schedule's declaration as a file of resources."""
    from ftjm.specs.resources import SCHEDULE

    return declarations.resource(SCHEDULE, row["schedule"], row["declaration"])
