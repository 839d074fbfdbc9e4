"""The verbs of schedules. `list`, `describe` and `next` are here: they ask the API where one is named, else they fold
the log. Those that send a command are in `schedule_commands.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ftjm.cli import api_client, backfills, declarations, schedule_commands, schedule_reading
from ftjm.cli.options import ApiSource, Connection, OutputFormat, schedule_name
from ftjm.cli.output import Output, emit
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import UsageError
from ftjm.runtime.plain_values import present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ftjm.core.calendar import Recurrence
    from ftjm.core.state.schedules import ScheduleSpec
    from ftjm.runtime.config import Settings

NEXT_MAX = 1_000
COLUMNS = ("schedule", "when", "time_zone", "next_at", "last_at", "last_job", "overlap", "paused")
NEXT_COLUMNS = ("schedule", "local", "utc", "time_zone")
Name = Annotated[str, typer.Argument(metavar="QUEUE/NAME", help="The schedule.")]


_Wanted = tuple[str, "ScheduleSpec", "Recurrence"]
"""A schedule's name, what it is declared to, and what reckons its instants."""


class _SchedulePage(msgspec.Struct):
    """The fields of a page of the API that these verbs read."""

    schedules: list[dict[str, Any]]
    freshness: api_client.PageFreshness
    next: str = ""


def register(group: typer.Typer) -> None:
    """Add `schedule` with its verbs."""
    schedules = typer.Typer(
        help="Show schedules, their next instants and their last jobs. Pause, resume, trigger and backfill them. They "
        "are declared by files: see `ftjm apply`.",
        no_args_is_help=True,
    )
    add_verb(schedules, list_schedules, "list")
    add_verb(schedules, describe)
    add_verb(schedules, show_next, "next")
    schedule_commands.register(schedules)
    backfills.register(schedules)
    group.add_typer(schedules, name="schedule")


# ---- showing


def list_schedules(
    connection: Connection,
    source: ApiSource,
    queue: Annotated[str | None, typer.Option(help="Only schedules of this queue.")] = None,
    output: OutputFormat = Output.table,
) -> None:
    """List schedules: when they fire, their next and last instants, and whether they are paused.

    Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm schedule list --queue etl
      ftjm schedule list -o json | jq '.[] | select(.paused).schedule'
    """
    if queue is not None:
        schedule_name(f"{queue}/any")
    settings = connection.settings(api=source.api)
    by_api = settings.api and not source.from_log
    rows = list((_listed_by_api if by_api else _listed_by_log)(settings, queue or ""))
    emit([_row(row) for row in rows] if output is Output.table else rows, output, columns=COLUMNS)


def describe(connection: Connection, source: ApiSource, schedule: Name, output: OutputFormat = Output.table) -> None:
    """Show one schedule: what it is declared to, its next and its last instant, and its pause.

    With -o yaml, its declaration as a file for `ftjm apply -f`. Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm schedule describe etl/nightly
      ftjm schedule describe etl/nightly -o yaml >nightly.yaml
    """
    row = schedule_reading.found(connection.settings(api=source.api), source, schedule)
    if output is Output.yaml:
        emit(schedule_reading.resource(row), output)
    else:
        emit(_described(row) if output is Output.table else row, output)


def show_next(
    connection: Connection,
    source: ApiSource,
    schedule: Annotated[str | None, typer.Argument(metavar="[QUEUE/NAME]", help="A declared schedule.")] = None,
    files: Annotated[
        list[str] | None,
        typer.Option("-f", "--file", metavar="PATH", help="The schedules of this file or folder; may be repeated."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=NEXT_MAX, help="How many instants of each.")] = 5,
    after: Annotated[str | None, typer.Option(metavar="TIME", help="Instants after this time (default: now).")] = None,
    output: OutputFormat = Output.table,
) -> None:
    """Show the next instants of a declared schedule, or of those in files, which need no cluster.

    Each is shown in local time and in UTC, by the rules and time zones that schedulers of this build use, and by its
    calendar as it is declared, or as it is in these files. A pause, and
    what else may keep an instant from firing, is not considered.

    \b
    Examples:
      ftjm schedule next etl/nightly --count 10
      ftjm schedule next -f schedules/ --after 2026-10-24T00:00:00Z
    """
    if (schedule is None) is not bool(files):
        raise UsageError("either QUEUE/NAME or -f FILE", "both" if files else "neither", "give one of them")
    wanted = _of_files(files) if files else [_declared(connection.settings(api=source.api), source, schedule or "")]
    begin = _time(after) if after is not None else time.time_ns() // 1_000_000
    emit([row for one in wanted for row in _instants(*one, begin, count)], output, columns=NEXT_COLUMNS)


def _listed_by_api(settings: Settings, queue: str) -> Iterator[dict[str, Any]]:
    params = [("queue", queue)] if queue else []
    for page in api_client.pages(settings, "/schedules", params, _SchedulePage):
        yield from page.schedules


def _listed_by_log(settings: Settings, queue: str) -> Iterator[dict[str, Any]]:
    from ftjm.readmodel import one_shot
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.readmodel.documents.schedule import schedule_document

    with one_shot.folded_log(settings, queue) as (reader, _):
        behind, more = "", True
        while more:
            found, more = reader.schedules(behind, api_client.PAGE, queue)
            for behind, row in found:
                yield plain_document(schedule_document(behind, row))


def _declared(settings: Settings, source: ApiSource, schedule: str) -> _Wanted:
    key, spec = schedule_reading.declared(settings, source, schedule)
    return key, spec, schedule_reading.recurrence(settings, source, spec)


def _of_files(files: list[str]) -> list[_Wanted]:
    from ftjm.specs.resource_files import read_resources
    from ftjm.specs.resources import CALENDAR, SCHEDULE

    resources = [one.resource for one in read_resources(files).resources]
    schedules: list[Any] = [(one.name, one.spec) for one in resources if one.kind == SCHEDULE]
    if not schedules:
        raise UsageError("at least one Schedule", f"none in {', '.join(files)}", "name other files")
    calendars = {one.name: one.spec for one in resources if one.kind == CALENDAR}
    for key, spec in schedules:
        if spec.calendar and spec.calendar not in calendars:
            todo = "name its file, too, or a declared schedule"
            raise UsageError(f"the calendar {spec.calendar} of {key} in these files", "none of this name", todo)
    return [(key, spec, schedule_reading.on_days(spec, calendars)) for key, spec in schedules]


def _instants(key: str, spec: ScheduleSpec, recurrence: Recurrence, after: int, count: int) -> Iterator[dict[str, Any]]:
    from ftjm.adapters.calendar.time_zone import local_text
    from ftjm.core.calendar import next_instants
    from ftjm.core.utc import iso_time

    for instant in next_instants(recurrence, spec, key, after, count):
        local = local_text(instant, spec.time_zone)
        yield {"schedule": key, "local": local, "utc": iso_time(instant), "time_zone": spec.time_zone}


def _time(text: str) -> int:
    from ftjm.cli.options import moment
    from ftjm.runtime.durations import parse_time

    return parse_time(moment("--after", text))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A schedule as a row of a table."""
    spec = row["declaration"]["spec"]
    when = spec["cron"] if "cron" in spec else f"every {spec['interval']}"
    shown = {"when": when, "time_zone": spec.get("time_zone"), "overlap": spec["overlap"]}
    return present({name: row.get(name) for name in COLUMNS} | shown)


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """A schedule for people: first what it is declared to, field by field."""
    declared = row["declaration"]
    spec = dict(declared["spec"])
    job = spec.pop("job")
    shown = {
        "schedule": row["schedule"],
        **declarations.shown(declared),
        **spec,
        "job": job,
    }
    left = {name: value for name, value in row.items() if name not in ("declaration", "schedule", "queue", "name")}
    return present(shown) | left
