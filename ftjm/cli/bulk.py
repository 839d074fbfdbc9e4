"""The verbs of `ftjm bulk`: the same for many jobs, as one request to each queue.

What is there already (for `list`, --dry-run and --all-queues) is read as `ftjm list` reads jobs: from the API where one
is named, else from the log.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from ftjm.cli import answers, api_client
from ftjm.cli import list as job_lists
from ftjm.cli.bulk_options import BulkOptions, BulkRequest, FilterOptions, checked
from ftjm.cli.options import PATIENCE, ApiSource, Connection, OutputFormat, Patience
from ftjm.cli.output import Output, echo, emit
from ftjm.cli.request_sending import RequestKind, send_and_wait
from ftjm.cli.verbs import add_verb
from ftjm.cli.watch import Watch, emit_watched
from ftjm.runtime.errors import UsageError

if TYPE_CHECKING:
    from ftjm.runtime.config import Settings

ALL = sys.maxsize
COLUMNS = ("request", "action", "status", "jobs", "looked", "changed", "refused")

HELP = """Cancel, hold, release, rerun, purge or prioritize many jobs by one request.

It is about the jobs that are there when it is accepted, and that meet all filters. The schedulers go through the queues
by themselves, whatever fails meanwhile: `ftjm bulk list` shows how far they have come, `ftjm bulk stop` stops them.
"""
ACTIONS = {
    "cancel": (
        "Cancel all jobs that the filters name: waiting ones at once, running ones as `ftjm cancel` does.",
        "ftjm bulk cancel --queue thumbnails --label batch=7 --reason 'wrong width'",
    ),
    "hold": (
        "Keep all waiting jobs that the filters name from starting, until they are released or cancelled.",
        "ftjm bulk hold --queue thumbnails --label batch=7",
    ),
    "release": (
        "Release all held jobs that the filters name.",
        "ftjm bulk release --queue thumbnails --label batch=7",
    ),
    "rerun": (
        "Run all failed and cancelled jobs that the filters name once more. Succeeded ones: --state SUCCEEDED.",
        "ftjm bulk rerun --queue thumbnails --dead --submitted-after 2h",
    ),
    "purge": (
        "Remove all ended jobs that the filters name before their retention is over. Their events stay in the log.",
        "ftjm bulk purge --queue thumbnails --dead --submitted-before 7d",
    ),
}
"""What the actions without an option of their own do, and an example of each."""


class _CountedQueue(msgspec.Struct):
    queue: str
    states: dict[str, int]


class _CountedQueuePage(msgspec.Struct):
    """The fields of a page of queues of the API that these verbs read."""

    queues: list[_CountedQueue]
    freshness: api_client.PageFreshness
    next: str = ""


class _BulkPage(msgspec.Struct):
    """The fields of a page of requests of the API."""

    requests: list[dict[str, Any]]
    freshness: api_client.PageFreshness
    next: str = ""


def register(group: typer.Typer) -> None:
    """Add `bulk` with its verbs."""
    verbs = typer.Typer(help=HELP, no_args_is_help=True)
    for action, (summary, example) in ACTIONS.items():
        add_verb(verbs, _verb(action, summary, example), action)
    add_verb(verbs, prioritize)
    add_verb(verbs, list_requests, "list")
    add_verb(verbs, stop)
    group.add_typer(verbs, name="bulk")


def _verb(action: str, summary: str, example: str) -> Callable[..., None]:
    """The verb of an action that has no option of its own."""

    def verb(
        connection: Connection,
        source: ApiSource,
        filters: FilterOptions,
        options: BulkOptions,
        patience: Patience = PATIENCE,
        output: OutputFormat = Output.table,
    ) -> None:
        request = checked(action, filters, options)
        _carry_out(connection.settings(api=source.api), source, request, options, patience, output)

    verb.__doc__ = f"{summary}\n\n\b\nExamples:\n  {example}\n"
    return verb


def prioritize(
    connection: Connection,
    source: ApiSource,
    filters: FilterOptions,
    options: BulkOptions,
    priority: Annotated[int, typer.Option(min=0, max=100, help="The new priority; higher is served first.")],
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Give all jobs that the filters name, and that have not ended, another priority.

    \b
    Examples:
      ftjm bulk prioritize --queue thumbnails --label customer=7 --priority 90
    """
    request = checked("prioritize", filters, options, priority)
    _carry_out(connection.settings(api=source.api), source, request, options, patience, output)


def list_requests(
    connection: Connection,
    source: ApiSource,
    queue: Annotated[str | None, typer.Option(help="Only requests about this queue.")] = None,
    watch: Watch = False,
    output: OutputFormat = Output.table,
) -> None:
    """List the requests that are under way, and those of the last day with their results. Oldest first.

    Where it reads: see `ftjm list --help`.

    \b
    Examples:
      ftjm bulk list --watch
      ftjm bulk list --queue thumbnails -o json
    """
    settings = connection.settings(api=source.api)
    read = _requests_of_log if source.from_log or not settings.api else _requests_of_api

    def rows() -> list[dict[str, Any]]:
        return sorted(read(settings, queue or ""), key=lambda row: (row["begun_at"], row["request"]))

    emit_watched(rows, output, columns=[*COLUMNS, "begun_at", "actor"], watch=watch)


def stop(
    connection: Connection,
    requests: Annotated[list[str], typer.Argument(metavar="QUEUE/ID...", help="Requests, as `ftjm bulk list` names.")],
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Stop requests that are under way. What they have changed stays so.

    \b
    Examples:
      ftjm bulk stop thumbnails/0199c0de-7a55-7000-8000-000000000000
    """
    from ftjm.core.names import is_name
    from ftjm.core.records.commands import StopBulk

    commands = []
    for name in dict.fromkeys(requests):
        queue, _, bulk = name.partition("/")
        if not (is_name(queue) and is_name(bulk)):
            raise UsageError("the name of a request, QUEUE/ID", repr(name), "see `ftjm bulk list`")
        commands.append(StopBulk(queue=queue, bulk=bulk))
    answers.carry_out(connection.settings(), patience, commands, output, ["request", "answer"])


# ---- reading


def _requests_of_api(settings: Settings, queue: str) -> Iterator[dict[str, Any]]:
    path = f"/queues/{quote(queue, safe='')}/bulk" if queue else "/bulk"
    for page in api_client.pages(settings, path, [], _BulkPage):
        yield from page.requests


def _requests_of_log(settings: Settings, queue: str) -> Iterator[dict[str, Any]]:
    from ftjm.readmodel import bulk_requests, one_shot
    from ftjm.readmodel.documents.bulk import bulk_document
    from ftjm.readmodel.documents.fields import plain_document

    with one_shot.folded_log(settings, queue) as (reader, _):
        behind = ""
        while found := bulk_requests.find_all(reader, queue, behind, api_client.PAGE):
            yield from (plain_document(bulk_document(*one)) for one in found)
            behind = found[-1][0]


def _queues(settings: Settings, source: ApiSource) -> Iterator[str]:
    """The queues that hold a job now."""
    if not source.from_log and settings.api:
        for page in api_client.pages(settings, "/queues", [], _CountedQueuePage):
            yield from (one.queue for one in page.queues if sum(one.states.values()))
        return
    from ftjm.readmodel import one_shot

    with one_shot.folded_log(settings) as (reader, _):
        behind = ""
        while found := reader.queues(behind, api_client.PAGE):
            yield from (name for name, rows in found if rows.counts is not None)
            behind = found[-1][0]


def _counted(settings: Settings, source: ApiSource, request: BulkRequest) -> list[dict[str, Any]]:
    """How many jobs of each queue the request would be about, by their states."""
    from ftjm.readmodel.bulk_requests import states_of
    from ftjm.runtime.durations import format_time

    wanted = request.fields.filter.job_filter()
    labels = [("label", f"{name}={value}") for name, value in wanted.labels.items()][: job_lists.LABELS_MAX]
    params = [("state", state) for state in states_of(request.fields.action, wanted)] + labels
    for name, time in (("submitted_from", wanted.submitted_after), ("submitted_before", wanted.submitted_before)):
        params += [(name, format_time(time))] if time else []
    found: dict[str, dict[str, int]] = {queue: {} for queue in request.queues}
    for about in [[("queue", queue)] for queue in request.queues] or [[]]:
        for row in job_lists.jobs(settings, source, about + params, ALL):
            if wanted.labels.items() <= row.get("labels", {}).items():
                states = found.setdefault(row["queue"], {})
                states[row["state"]] = states.get(row["state"], 0) + 1
    return [{"queue": queue, "jobs": sum(states.values()), "states": states} for queue, states in sorted(found.items())]


# ---- sending and waiting


def _kind() -> RequestKind:
    from ftjm.history.bulk_requests import BulkFollower
    from ftjm.readmodel import bulk_requests
    from ftjm.readmodel.documents.bulk import BulkDocument, BulkStatus

    def progress(found: Sequence[BulkDocument]) -> tuple[str, int, int, str]:
        text = f"{sum(one.changed for one in found)} changed, {sum(one.refused for one in found)} refused"
        return "looked at", sum(min(one.looked, one.jobs) for one in found), sum(one.jobs for one in found), text

    def summary(found: Sequence[BulkDocument]) -> str:
        changed, refused = (sum(getattr(one, count) for one in found) for count in ("changed", "refused"))
        return f"{len(found)} queues: {changed} jobs changed, {refused} refused"

    return RequestKind(
        BulkFollower,
        lambda reader, name: bulk_requests.find(reader, *name.split("/")),
        COLUMNS,
        "ftjm bulk list",
        "ftjm bulk stop",
        progress,
        summary,
        is_success=lambda one: one.status is not BulkStatus.STOPPED,
    )


def _carry_out(
    settings: Settings, source: ApiSource, request: BulkRequest, options: BulkOptions, patience: str, output: Output
) -> None:
    """Send the request to each queue, and wait. Exits with 1 if one is refused, or stopped before its end."""
    if options.dry_run:
        emit(_counted(settings, source, request), output, columns=["queue", "jobs", "states"])
        return
    queues = request.queues or tuple(_queues(settings, source))
    commands = request.commands(queues)
    if not commands:
        echo("no queue holds a job", err=True)
        emit([], output, columns=COLUMNS)
    elif options.wait:
        send_and_wait(_kind(), settings, commands, patience, output)
    else:
        answers.carry_out(settings, patience, commands, output, ["request", "answer", "why"], as_list=True)
