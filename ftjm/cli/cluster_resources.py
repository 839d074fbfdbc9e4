"""The verbs of what every partition must know: `calendar` and `window`, each with `list` and `describe`. They ask the
API where one is named, else they fold the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from ftjm.cli import api_client, declarations
from ftjm.cli.options import ApiSource, Connection, OutputFormat
from ftjm.cli.output import Output, emit
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.runtime.plain_values import present

if TYPE_CHECKING:
    from ftjm.runtime.config import Settings

CALENDAR_COLUMNS = ("calendar", "time_zone", "days", "included", "excluded", "adopted")
WINDOW_COLUMNS = ("window", "effect", "cron", "duration", "queues", "open", "turns_at", "adopted")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]


class _KnownPage(msgspec.Struct):
    """The fields of a page of the API that these verbs read."""

    freshness: api_client.PageFreshness
    calendars: list[dict[str, Any]] = []
    windows: list[dict[str, Any]] = []
    next: str = ""


def register(group: typer.Typer) -> None:
    """Add `calendar` and `window` with their verbs."""
    calendars = typer.Typer(
        help="Show calendars, by which schedules fire and windows open. They are declared by files: see `ftjm apply`.",
        no_args_is_help=True,
    )
    add_verb(calendars, list_calendars, "list")
    add_verb(calendars, describe_calendar, "describe")
    group.add_typer(calendars, name="calendar")
    windows = typer.Typer(
        help="Show windows: when, and on which workers, queues may start jobs. They are declared by files: see `ftjm "
        "apply`.",
        no_args_is_help=True,
    )
    add_verb(windows, list_windows, "list")
    add_verb(windows, describe_window, "describe")
    group.add_typer(windows, name="window")


def list_calendars(connection: Connection, source: ApiSource, output: OutputFormat = Output.table) -> None:
    """List calendars: their days, and how many partitions know each.

    Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm calendar list
    """
    _list(connection, source, "calendar", output, CALENDAR_COLUMNS)


def describe_calendar(
    connection: Connection, source: ApiSource, name: Name, output: OutputFormat = Output.table
) -> None:
    """Show one calendar. With -o yaml, its declaration as a file for `ftjm apply -f`.

    Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm calendar describe workdays -o yaml >workdays.yaml
    """
    _describe(connection, source, "calendar", name, output)


def list_windows(connection: Connection, source: ApiSource, output: OutputFormat = Output.table) -> None:
    """List windows: whether they are open, until when, and how many partitions know each.

    Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm window list
    """
    _list(connection, source, "window", output, WINDOW_COLUMNS)


def describe_window(connection: Connection, source: ApiSource, name: Name, output: OutputFormat = Output.table) -> None:
    """Show one window. With -o yaml, its declaration as a file for `ftjm apply -f`.

    Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm window describe nights
    """
    _describe(connection, source, "window", name, output)


def _list(connection: Connection, source: ApiSource, what: str, output: Output, columns: tuple[str, ...]) -> None:
    settings = connection.settings(api=source.api)
    by_api = settings.api and not source.from_log
    rows = list((_listed_by_api if by_api else _listed_by_log)(settings, what))
    emit([_row(what, row) for row in rows] if output is Output.table else rows, output, columns=columns)


def _describe(connection: Connection, source: ApiSource, what: str, name: str, output: Output) -> None:
    from ftjm.core.names import NAME_TEXT, is_name

    if not is_name(name):
        raise UsageError(f"the name of a {what}: {NAME_TEXT}", repr(name), f"see `ftjm {what} list`")
    settings = connection.settings(api=source.api)
    if settings.api and not source.from_log:
        row = api_client.get(settings, f"/{what}s/{quote(name)}", [])
    else:
        row = next((one for one in _listed_by_log(settings, what) if one[what] == name), None)
    if row is None:
        raise FtjmError(f"a {what} {name}", "none of that name", f"see `ftjm {what} list`")
    row.pop("freshness", None)
    if output is Output.yaml:
        emit(declarations.resource(what.capitalize(), name, row["declaration"]), output)
    elif output is Output.table:
        emit(_row(what, row) | present(declarations.shown(row["declaration"])), output)
    else:
        emit(row, output)


def _row(what: str, row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a resource for people."""
    spec = {name: _shown(value) for name, value in row["declaration"]["spec"].items()}
    status = {name: row[name] for name in ("open", "turns_at") if name in row}
    return {what: row[what]} | spec | status | {"adopted": f"{row['adopted']}/{row['partitions']}"}


def _shown(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value


def _listed_by_api(settings: Settings, what: str) -> Iterator[dict[str, Any]]:
    for page in api_client.pages(settings, f"/{what}s", [], _KnownPage):
        yield from page.calendars + page.windows


def _listed_by_log(settings: Settings, what: str) -> Iterator[dict[str, Any]]:
    from ftjm.core.limits import RESOURCES_MAX
    from ftjm.core.state.resources import CLUSTER_KEY, ResourceKind
    from ftjm.readmodel import one_shot
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.readmodel.documents.resource import CalendarDocument, WindowDocument, calendar_fields, window_fields

    kind = ResourceKind(what.capitalize())
    with one_shot.folded_log(settings, CLUSTER_KEY) as (reader, _):
        behind, more = "", True
        while more:
            found, more = reader.resource_page(kind, behind, RESOURCES_MAX)
            for one in found:
                behind = one[0]
                if kind is ResourceKind.CALENDAR:
                    yield plain_document(CalendarDocument(**calendar_fields(*one)))
                else:
                    yield plain_document(WindowDocument(**window_fields(*one)))
