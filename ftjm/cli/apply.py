"""The verbs of resources as files: `plan`, `apply`, `lint` and `delete`.

What is declared is read as `ftjm list` reads jobs: from the API where one is named, else from the log. Changes go into
the log as commands, and their partitions' owners decide on them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ftjm.cli import adoption, answers, api_client
from ftjm.cli.declared import KIND_PATHS, declared_by_api, declared_by_log, jobs_by_api, jobs_by_log
from ftjm.cli.options import PATIENCE, ApiSource, Connection, OutputFormat, Patience
from ftjm.cli.output import Output, echo, emit
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import FtjmError, UsageError

if TYPE_CHECKING:
    from ftjm.client.ticket import Ticket
    from ftjm.ops.apply import Change
    from ftjm.runtime.config import Settings

DIFFERENCE_STATUS = 2
"""Exit status of `ftjm plan` where there is a difference, as that of `terraform plan -detailed-exitcode`."""

Files = Annotated[
    list[str],
    typer.Option(
        "-f",
        "--file",
        metavar="PATH",
        help="A file or folder of resources; - is standard input; may be repeated.",
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Delete what has the labels of -l and is not in the files. Needs -l.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("-l", "--label", metavar="NAME=VALUE[,...]", help="Labels of what --prune deletes; may be repeated."),
]


class _PlanCommand(TyperCommand):
    """`plan` says by 2 that there is a difference, so what is wrong with its options and files is 1 and not 2."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """As of every verb: reads the options."""
        with _errors_of_status_one():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """As of every verb: carries it out."""
        with _errors_of_status_one():
            return super().invoke(ctx)


@contextlib.contextmanager
def _errors_of_status_one() -> Iterator[None]:
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if getattr(error, "exit_code", None) == DIFFERENCE_STATUS:
            error.exit_code = 1  # type: ignore[attr-defined]
        raise


def register(group: typer.Typer) -> None:
    """Add `plan`, `apply`, `lint` and `delete`."""
    add_verb(group, plan, cls=_PlanCommand)
    add_verb(group, apply)
    add_verb(group, lint)
    add_verb(group, delete)


def plan(
    connection: Connection,
    source: ApiSource,
    files: Files,
    prune: Prune = False,
    label: Labels = None,
    output: OutputFormat = Output.table,
) -> None:
    """Show what `ftjm apply` would change. The exit status is 0 if nothing, 2 if something, and 1 for an error.

    Where it reads what is declared: see `ftjm list --help`.

    \b
    Examples:
      ftjm plan -f queues/
      ftjm plan -f queues/ --prune -l team=web
    """
    from ftjm.ops import apply as rules

    changes = _planned(connection.settings(api=source.api), source, files, _selector(prune, label))
    pending = [change for change in changes if change.action is not rules.ChangeKind.NONE]
    if output is Output.table:
        for change in pending:
            echo(rules.text(change))
        echo(rules.summary(changes))
    else:
        emit([rules.document(change) for change in changes], output)
    if pending:
        raise typer.Exit(DIFFERENCE_STATUS)


def apply(
    connection: Connection,
    source: ApiSource,
    files: Files,
    prune: Prune = False,
    label: Labels = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until every partition knows calendars and windows.")
    ] = True,
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Declare the resources in files, and submit their jobs: create and change what differs. It may be repeated.

    All files are checked first. A resource that somebody has changed since it was read here is refused with CONFLICT,
    and the others are applied; the exit status is then 1. What the files do not name stays, but for --prune. Every
    partition must know calendars and windows: it waits until all do, for --patience at most.

    \b
    Examples:
      ftjm apply -f queues/
      ftjm apply -f queues/ --prune -l team=web
      ftjm queue describe thumbnails -o yaml | ftjm apply -f -
    """
    settings = connection.settings(api=source.api)
    changes = _planned(settings, source, files, _selector(prune, label))
    _refuse_used_calendars(settings, changes)
    tickets = _carried_out(settings, patience, changes, wait=wait)
    if settings.api and not source.from_log:
        _wait_for_api(settings, tickets.values())
    _print(changes, tickets, output)


def lint(files: Files, output: OutputFormat = Output.table) -> None:
    """Check files of resources, without a cluster. Names file and line of each fault.

    \b
    Examples:
      ftjm lint -f queues/
    """
    from ftjm.specs.resource_files import read_resources

    found = read_resources(files)
    if output is Output.table:
        echo(f"{len(found.resources)} resource(s) in {len(found.files)} file(s), all valid")
    else:
        emit({"resources": len(found.resources), "files": len(found.files)}, output)


def delete(
    connection: Connection, files: Files, patience: Patience = PATIENCE, output: OutputFormat = Output.table
) -> None:
    """Delete the declarations of the resources in files, whatever they say now.

    A queue has the defaults again; its jobs stay, and so does its pause. A schedule fires no more, and its jobs stay.
    Files with jobs are refused: a job is cancelled.
    A calendar that schedules or windows use is not deleted.

    \b
    Examples:
      ftjm delete -f queues/thumbnails.yaml
    """
    from ftjm.core.records.commands import ANY_REVISION
    from ftjm.ops.apply import Change, ChangeKind
    from ftjm.specs.resource_files import read_resources
    from ftjm.specs.resources import JOB

    named = [(one, one.resource) for one in read_resources(files).resources]
    if jobs := [one for one, found in named if found.kind == JOB]:
        todo = f"cancel it with `ftjm cancel {jobs[0].resource.name}`, and leave it out; nothing was deleted"
        raise UsageError("declarations", f"the job {jobs[0].resource.name} ({jobs[0].place})", todo)
    changes = [Change(ChangeKind.DELETE, found.kind, found.name, ANY_REVISION, [], one) for one, found in named]
    settings = connection.settings()
    _refuse_used_calendars(settings, changes)
    _print(changes, _carried_out(settings, patience, changes), output)


# ---- reading


def _selector(prune: bool, labels: list[str] | None) -> dict[str, str] | None:
    """The labels of what is pruned; None to prune nothing. Raises UsageError."""
    if prune != bool(labels):
        expected = "--prune with -l NAME=VALUE" if prune else "-l NAME=VALUE with --prune"
        todo = "say which labels the resources of your files have, so that those of others stay"
        raise UsageError(expected, "one without the other", todo)
    found = {}
    for text in (one for given in labels or () for one in given.split(",")):
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError("-l NAME=VALUE[,...]", f"-l {text}", "write the name, an equals sign and the value")
        found[name] = value
    return found or None


def _planned(settings: Settings, source: ApiSource, files: list[str], prune: Mapping[str, str] | None) -> list[Change]:
    """The changes that the files ask for."""
    from ftjm.ops import apply as rules
    from ftjm.specs.resource_files import read_resources
    from ftjm.specs.resources import JOB, QUEUE

    wanted = read_resources(files).resources
    if source.from_log or not settings.api:
        # A schedule may be declared in another queue than the file names, which `plan` tells.
        alone = len(wanted) == 1 and wanted[0].resource.kind == QUEUE and prune is None
        declared = declared_by_log(settings, wanted[0].resource.name if alone else "")
    else:
        kinds = KIND_PATHS.keys() if prune is not None else {one.resource.kind for one in wanted}
        declared = (one for kind in KIND_PATHS.keys() & kinds for one in declared_by_api(settings, kind))
    jobs = [one.resource.name for one in wanted if one.resource.kind == JOB]
    read = jobs_by_log if source.from_log or not settings.api else jobs_by_api
    return rules.plan(wanted, declared, prune, read(settings, jobs) if jobs else {})


def _refuse_used_calendars(settings: Settings, changes: list[Change]) -> None:
    """Raise UsageError if a calendar is to be deleted, and a schedule that stays uses it. (Windows are known to the
    partition that deletes calendars; schedules are not.)"""
    from ftjm.ops.apply import ChangeKind, users_of_calendars
    from ftjm.specs.resources import CALENDAR

    if not any((one.kind, one.action) == (CALENDAR, ChangeKind.DELETE) for one in changes):
        return
    declared = declared_by_api(settings, "Schedule") if settings.api else declared_by_log(settings, "")
    if users := users_of_calendars(changes, declared):
        calendar, schedules = next(iter(users.items()))
        expected = f"a calendar that no schedule uses, to delete Calendar {calendar}"
        raise UsageError(expected, f"that {', '.join(schedules)} does", "delete that first, or let it use another one")


# ---- changing


def _carried_out(
    settings: Settings, patience: str, changes: list[Change], *, wait: bool = True
) -> dict[tuple[str, str], Ticket]:
    """Send the commands of the changes, and wait for the decisions. Returns tickets by kind and name.

    Args:
        wait: Wait until every partition knows the calendars and windows that are changed, too.
    """
    from ftjm.ops.apply import CLUSTER_KINDS, command, in_order
    from ftjm.specs.resources import JOB

    found: dict[tuple[str, str], Ticket] = {}
    for group in in_order(changes):
        commands = {(change.kind, change.name): sent for change in group if (sent := command(change)) is not None}
        if not commands:
            continue
        with answers.connect(settings, patience) as client:
            # Jobs come last: they take the defaults of their queues.
            ordered = sorted(commands, key=lambda name: name[0] == JOB)
            tickets = {name: client.send(commands[name]) for name in ordered}
            answers.await_decisions(client, list(tickets.values()))
        found |= tickets
        accepted = {name for name, ticket in tickets.items() if ticket.reply is not None and not ticket.refused}
        if wait and (told := [name for name in accepted if name[0] in CLUSTER_KINDS]):
            adoption.await_all(settings, told, patience)
    return found


def _wait_for_api(settings: Settings, tickets: Iterable[Ticket]) -> None:
    """Wait until the API shows what has changed, so that `ftjm plan` behind it sees no difference. An API that does not
    is no failure: what was changed is in the log."""
    newest: dict[int, int] = {}
    for ticket in tickets:
        if ticket.reply is None or ticket.refused:
            continue
        newest[ticket.partition] = max(ticket.offset, newest.get(ticket.partition, -1))
    with contextlib.suppress(FtjmError):
        for partition, offset in newest.items():
            api_client.get(settings, "/queues", [("limit", "1"), ("after", f"{partition}-{offset}")])


def _print(changes: list[Change], tickets: Mapping[tuple[str, str], Ticket], output: Output) -> None:
    """Print what became of each change; refusals to standard error. Exits with 1 if there are any."""
    from ftjm.ops.apply import DONE, document

    rows = []
    for change in changes:
        ticket = tickets.get((change.kind, change.name))
        row = document(change)
        if ticket is not None:
            answers.print_refusal(ticket)
            row["answer"] = answers.answer_document(ticket)["answer"]
        rows.append(row)
        if output is Output.table and not (ticket and ticket.refused):
            done = DONE[change.action] if ticket is None or ticket.reply else f"to be {DONE[change.action]}: in the log"
            echo(f"{change.kind} {change.name} {done}")
    if output is not Output.table:
        emit(rows, output)
    if any(ticket.refused for ticket in tickets.values()):
        raise typer.Exit(1)
