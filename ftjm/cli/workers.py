"""The verbs `worker list`, `describe`, `cordon`, `uncordon` and `drain` (also `drain`), beside the role `worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import answers, roles
from ftjm.cli.options import PATIENCE, Connection, OutputFormat, Patience, duration_seconds
from ftjm.cli.output import Output, echo, emit
from ftjm.cli.verbs import add_verb, expand
from ftjm.cli.watch import Watch, emit_watched
from ftjm.runtime.actor import actor
from ftjm.runtime.errors import FtjmError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ftjm.core.records.commands import ApplyResource, DeleteResource
    from ftjm.runtime.config import Settings

WAIT = "1h"
COLUMNS = ("worker", "state", "cordoned", "busy", "slots", "queues", "silent_seconds", "host", "pid")

Name = Annotated[str, typer.Argument(help="The worker's name.")]
Names = Annotated[list[str], typer.Argument(metavar="WORKER...", help="Names of workers.")]


def register(group: typer.Typer) -> None:
    """Add `worker` with its verbs, and `drain`."""
    workers = typer.Typer(invoke_without_command=True, callback=expand(roles.worker))
    add_verb(workers, list_workers, "list")
    add_verb(workers, describe_worker, "describe")
    add_verb(workers, drain, "drain")
    add_verb(workers, cordon)
    add_verb(workers, uncordon)
    group.add_typer(workers, name="worker")
    add_verb(group, drain)


def list_workers(connection: Connection, watch: Watch = False, output: OutputFormat = Output.table) -> None:
    """List the workers of the last minute: which queues they serve, and how busy they are.

    OPEN takes jobs, DRAINING takes no new jobs, SILENT has sent no heartbeat for as long as its lease. One that is
    cordoned is given no new jobs, and stays.

    \b
    Examples:
      ftjm worker list --watch
    """
    settings = connection.settings()
    emit_watched(lambda: _rows(settings), output, columns=COLUMNS, watch=watch)


def describe_worker(
    connection: Connection, name: Name, watch: Watch = False, output: OutputFormat = Output.table
) -> None:
    """Show one worker: its session, its slots, its queues.

    \b
    Examples:
      ftjm worker describe worker-0
    """
    settings = connection.settings()

    def find() -> Any:
        found = [row for row in _rows(settings) if row["worker"] == name]
        if not found:
            raise FtjmError(f"a worker {name}", "no recent heartbeat of that name", "see `ftjm worker list`")
        return found[0] if len(found) == 1 else found

    emit_watched(find, output, watch=watch)


def _rows(settings: Settings) -> list[dict[str, Any]]:
    """The workers that are there."""
    from ftjm.readmodel.cluster import worker_documents
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.readmodel.presence import read_presence

    presence, _ = read_presence(settings)
    return [plain_document(document) for document in worker_documents(presence.workers(), presence.cordoned())]


def cordon(
    connection: Connection,
    names: Names,
    reason: Annotated[str, typer.Option(help="Why; kept with the cordon.")] = "",
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Give workers no new jobs until they are uncordoned. They stay, and what they run goes on.

    It holds by the worker's name, also after the worker was started again, and before it is there. An upgraded cluster
    takes this once the upgrade is final.

    \b
    Examples:
      ftjm worker cordon worker-0 --reason "a fan is broken"
    """
    from ftjm.core.records.commands import ApplyResource
    from ftjm.core.state.resources import CordonSpec, ResourceKind, ResourceSpec

    spec = ResourceSpec(cordon=[CordonSpec(reason)])
    _send(
        connection, names, lambda name: ApplyResource(kind=ResourceKind.CORDON, name=name, spec=spec), patience, output
    )


def uncordon(
    connection: Connection, names: Names, patience: Patience = PATIENCE, output: OutputFormat = Output.table
) -> None:
    """Let workers that were cordoned take jobs again.

    \b
    Examples:
      ftjm worker uncordon worker-0
    """
    from ftjm.core.records.commands import DeleteResource
    from ftjm.core.state.resources import ResourceKind

    _send(connection, names, lambda name: DeleteResource(kind=ResourceKind.CORDON, name=name), patience, output)


def _send(
    connection: Connection,
    names: list[str],
    make: Callable[[str], ApplyResource | DeleteResource],
    patience: str,
    output: Output,
) -> None:
    """Send a command about each worker: see `answers.carry_out`."""
    from ftjm.core.names import NAME_TEXT, is_name

    for name in names:
        if not is_name(name):
            raise UsageError(f"the name of a worker: {NAME_TEXT}", repr(name), "see `ftjm worker list`")
    commands = [make(name) for name in dict.fromkeys(names)]
    answers.carry_out(connection.settings(), patience, commands, output, ["worker", "answer"], as_list=True)


def drain(
    connection: Connection,
    name: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's name.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the worker has left.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="With --wait: for how long, such as 10m.")] = WAIT,
    output: OutputFormat = Output.table,
) -> None:
    """Ask a worker to take no new jobs, finish what it runs, and leave, as SIGTERM on its host does.

    Exits with 1 if the worker does not answer, or, with --wait, has not left in time.

    \b
    Examples:
      ftjm worker drain worker-0 --wait
    """
    from ftjm.core.records.messages import SessionState
    from ftjm.ops.drain import drain as request_drain
    from ftjm.readmodel.cluster import worker_documents
    from ftjm.readmodel.documents.fields import plain_document

    settings = connection.settings()
    wait_seconds = duration_seconds("--timeout", timeout) if wait else 0.0
    sessions = request_drain(settings, name, actor(), wait_seconds=wait_seconds)
    emit([plain_document(document) for document in worker_documents(sessions)], output, columns=COLUMNS)
    if wait and any(session.state != SessionState.CLOSED for session in sessions):
        echo(f"error: expected {name} to leave within {timeout}, but it has not", err=True)
        raise typer.Exit(1)
