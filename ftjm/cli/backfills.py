"""The verbs of backfills: request one, list them, stop one. They are verbs of `ftjm schedule`.

What is there already (for the list and for --dry-run) is read as `ftjm list` reads jobs: from the API where one is
named, else from the log.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from ftjm.cli import answers, api_client, schedule_reading
from ftjm.cli import list as job_lists
from ftjm.cli.options import PATIENCE, ApiSource, Connection, OutputFormat, Patience, moment, schedule_name
from ftjm.cli.output import Output, emit
from ftjm.cli.request_sending import RequestKind, send_and_wait
from ftjm.cli.verbs import OptionGroup, add_verb
from ftjm.cli.watch import Watch, emit_watched
from ftjm.runtime.errors import FtjmError, UsageError

if TYPE_CHECKING:
    from ftjm.core.calendar import Recurrence
    from ftjm.core.state.schedules import ScheduleSpec
    from ftjm.runtime.config import Settings
    from ftjm.specs.backfill import BackfillFields

COLUMNS = ("request", "status", "instants", "submitted", "rerun", "kept", "active", "succeeded", "failed")


class _BackfillPage(msgspec.Struct):
    """The fields of a page of backfills of the API."""

    backfills: list[dict[str, Any]]
    freshness: api_client.PageFreshness
    next: str = ""


@dataclass(frozen=True)
class BackfillOptions(OptionGroup):
    """Options of a request."""

    from_: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="Instants from this time on: 30d (ago), or an RFC 3339 time."),
    ]
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="Instants up to this time, which must have passed.")]
    reprocess: Annotated[
        str, typer.Option(help="Which jobs that are there already run again: none, failed or completed.")
    ] = "none"
    max_active: Annotated[
        int | None, typer.Option(min=1, max=100, help="At most so many of its runs have not ended (default: 10).")
    ] = None
    command_id: Annotated[
        str | None,
        typer.Option(help="The request's id: if it is repeated, nothing is done twice (default: a new one)."),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, and count the instants, and those that have a job.")
    ] = False
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all its runs have ended, or only for the decision.")
    ] = True


def register(group: typer.Typer) -> None:
    """Add `backfill`, `backfills` and `stop-backfill`."""
    add_verb(group, backfill)
    add_verb(group, list_backfills, "backfills")
    add_verb(group, stop, "stop-backfill")


def backfill(
    connection: Connection,
    source: ApiSource,
    options: BackfillOptions,
    schedule: Annotated[str, typer.Argument(metavar="QUEUE/NAME", help="The schedule.")],
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Make the jobs of instants of a schedule that have passed, also while it is paused.

    The jobs have the ids that the instants have anyway, so none comes twice: an instant that has a job is left alone,
    unless --reprocess says otherwise. The schedulers go on by themselves, whatever fails meanwhile. A schedule has one
    backfill at a time. Exits with 1 if it is refused or stopped, or if a run fails.

    \b
    Examples:
      ftjm schedule backfill etl/nightly --from 2026-10-01T00:00:00Z --to 2026-10-31T23:59:59Z --dry-run
      ftjm schedule backfill etl/nightly --from 30d --to 1d --reprocess failed --max-active 2
    """
    import uuid_utils

    from ftjm.core.names import NAME_TEXT, is_name
    from ftjm.core.records.commands import BackfillSchedule

    queue, name = schedule_name(schedule)
    fields = _checked(options)
    command_id = str(uuid_utils.uuid7()) if options.command_id is None else options.command_id
    if not is_name(command_id):
        raise UsageError(f"a --command-id: {NAME_TEXT}", repr(command_id), "choose another one")
    settings = connection.settings(api=source.api)
    command = BackfillSchedule(
        queue=queue,
        name=name,
        command_id=command_id,
        from_at=fields.from_at,
        to_at=fields.to,
        reprocess=fields.reprocess,
        max_active=fields.max_active,
    )
    if options.dry_run:
        emit(_counted(settings, source, schedule, fields), output)
    elif options.wait:
        send_and_wait(_kind(), settings, [command], patience, output)
    else:
        answers.carry_out(settings, patience, [command], output, ["request", "answer", "why"])


def list_backfills(
    connection: Connection,
    source: ApiSource,
    schedule: Annotated[
        str | None, typer.Argument(metavar="[QUEUE/NAME]", help="Only backfills of this schedule.")
    ] = None,
    watch: Watch = False,
    output: OutputFormat = Output.table,
) -> None:
    """List the backfills that are under way, and those that have ended in the last day. Oldest first.

    Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm schedule backfills --watch
      ftjm schedule backfills etl/nightly -o json
    """
    if schedule is not None:
        schedule_name(schedule)
    settings = connection.settings(api=source.api)
    read = _of_log if source.from_log or not settings.api else _of_api

    def rows() -> list[dict[str, Any]]:
        return sorted(read(settings, schedule or ""), key=lambda row: (row["begun_at"], row["request"]))

    emit_watched(rows, output, columns=[*COLUMNS, "from", "to", "begun_at", "actor"], watch=watch)


def stop(
    connection: Connection,
    backfills: Annotated[
        list[str], typer.Argument(metavar="QUEUE/NAME/ID...", help="Backfills, as `ftjm schedule backfills` names.")
    ],
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Stop backfills that are under way: they begin no further run. Runs that they have begun go on.

    \b
    Examples:
      ftjm schedule stop-backfill etl/nightly/0199c0de-7a55-7000-8000-000000000000
    """
    from ftjm.core.names import is_name
    from ftjm.core.records.commands import StopBackfill

    commands = []
    for text in dict.fromkeys(backfills):
        parts = text.split("/")
        if len(parts) != 3 or not all(map(is_name, parts)):
            raise UsageError("the name of a backfill, QUEUE/NAME/ID", repr(text), "see `ftjm schedule backfills`")
        queue, name, command_id = parts
        commands.append(StopBackfill(queue=queue, name=name, backfill=command_id))
    answers.carry_out(connection.settings(), patience, commands, output, ["request", "answer"])


def _kind() -> RequestKind:
    from ftjm.history.backfills import BackfillFollower
    from ftjm.readmodel import backfills
    from ftjm.readmodel.documents.backfill import BackfillDocument, BackfillStatus

    def progress(found: Sequence[BackfillDocument]) -> tuple[str, int, int, str]:
        """One backfill: how many of its instants are behind it."""
        done = sum(one.kept + one.succeeded + one.failed for one in found)
        active, failed = sum(one.active for one in found), sum(one.failed for one in found)
        return "instants", done, sum(one.instants for one in found), f"{active} under way, {failed} failed"

    return RequestKind(
        BackfillFollower,
        backfills.find,
        COLUMNS,
        "ftjm schedule backfills",
        "ftjm schedule stop-backfill",
        progress,
        summary=lambda found: f"{len(found)} backfills",
        is_success=lambda one: one.status is BackfillStatus.DONE and not one.failed,
    )


def _checked(options: BackfillOptions) -> BackfillFields:
    """The request that the options ask for. Raises UsageError."""
    from ftjm.specs.backfill import InvalidBackfillError, parse_backfill

    fields: dict[str, Any] = {
        "from": moment("--from", options.from_),
        "to": moment("--to", options.to),
        "reprocess": options.reprocess,
    }
    try:
        return parse_backfill(fields if options.max_active is None else fields | {"max_active": options.max_active})
    except InvalidBackfillError as error:
        raise UsageError("a request that can be sent", str(error), "see `ftjm schedule backfill --help`") from None


# ---- reading


def _of_api(settings: Settings, schedule: str) -> Iterator[dict[str, Any]]:
    params = [("schedule", schedule)] if schedule else []
    for page in api_client.pages(settings, "/backfills", params, _BackfillPage):
        yield from page.backfills


def _of_log(settings: Settings, schedule: str) -> Iterator[dict[str, Any]]:
    from ftjm.readmodel import backfills, one_shot
    from ftjm.readmodel.documents.backfill import backfill_document
    from ftjm.readmodel.documents.fields import plain_document

    with one_shot.folded_log(settings, schedule.partition("/")[0]) as (reader, _):
        behind = ""
        while found := backfills.find_all(reader, schedule, behind, api_client.PAGE):
            yield from (plain_document(backfill_document(*one)) for one in found)
            behind = found[-1][0]


def _counted(settings: Settings, source: ApiSource, schedule: str, fields: BackfillFields) -> dict[str, Any]:
    """How many instants the request would be about, how many of them have a job, and what would become of these."""
    from ftjm.readmodel.backfills import states_of

    key, spec = schedule_reading.declared(settings, source, schedule)
    recurrence = schedule_reading.recurrence(settings, source, spec)
    wanted = set(_ids(key, spec, recurrence, fields))
    filters = [("queue", key.partition("/")[0])]
    rows = [row for row in job_lists.jobs(settings, source, filters, sys.maxsize) if row["job_id"] in wanted]
    again = states_of(fields.reprocess)
    rerun = sum(row["state"] in again and row.get("schedule") == key for row in rows)
    return {
        "schedule": key,
        "instants": len(wanted),
        "to_submit": len(wanted) - len(rows),
        "to_rerun": rerun,
        "to_keep": len(rows) - rerun,
    }


def _ids(key: str, spec: ScheduleSpec, recurrence: Recurrence, fields: BackfillFields) -> Iterator[str]:
    """The ids of the jobs of the instants. Raises FtjmError if they are too many."""
    from ftjm.core.calendar import next_instants
    from ftjm.core.limits import BACKFILL_INSTANTS_MAX
    from ftjm.core.schedule_jobs import firing_id

    found = next_instants(recurrence, spec, key, fields.from_at - 1, BACKFILL_INSTANTS_MAX + 1)
    if len(found) > BACKFILL_INSTANTS_MAX and found[-1] <= fields.to:
        raise FtjmError(f"at most {BACKFILL_INSTANTS_MAX} instants", "more", "ask for a shorter time")
    return (firing_id(key.partition("/")[2], instant) for instant in found if instant <= fields.to)
