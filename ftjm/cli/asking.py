"""What the verbs share that send commands: the client, names of jobs, and waiting for the decision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.errors import UsageError

if TYPE_CHECKING:
    from ftjm.client import Client
    from ftjm.config import Settings
    from ftjm.tickets import Ticket

DECISION_SECONDS = 5.0

Jobs = Annotated[list[str], typer.Argument(metavar="JOB", help="QUEUE/ID; a bare ID is in the queue default.")]
Patience = Annotated[str, typer.Option(help="How long to wait for a silent Kafka, such as 30s.")]
PATIENCE = "2m"


def client_of(settings: Settings, patience: str) -> Client:
    """A client that listens for answers. Raises UsageError, Unreachable."""
    from ftjm.client import Client

    return Client(settings, patience_seconds=seconds("--patience", patience))


def seconds(flag: str, text: str) -> float:
    """A flag's duration. Raises UsageError."""
    from ftjm.durations import DURATION_EXAMPLES, parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError:
        raise UsageError(f"{DURATION_EXAMPLES} for {flag}", text, "write a number with its unit") from None


def names(jobs: Iterable[str]) -> list[tuple[str, str]]:
    """(queue, job id) of each, once. Raises UsageError for what is no job's name."""
    from ftjm.core.identity import parse_job

    found: dict[tuple[str, str], None] = {}
    for job in jobs:
        try:
            found[parse_job(job)] = None
        except ValueError as error:
            expected, _, found_instead = str(error).removeprefix("expected ").partition(", but ")
            raise UsageError(expected, found_instead, "copy the name from what `ftjm submit` printed") from None
    return list(found)


def ask(client: Client, tickets: list[Ticket]) -> None:
    """Wait until the log has what was sent, and a while for the decision; says so if there is none yet."""
    client.confirm()
    if not client.decided(tickets, DECISION_SECONDS):
        missing = sum(ticket.reply is None for ticket in tickets)
        typer.echo(f"{missing} of {len(tickets)} not decided yet: in the log, and waiting for a scheduler", err=True)


def gap(partition: int, begin: int) -> None:
    """Say that what is shown is not the whole story."""
    typer.echo(
        f"events of partition {partition} before offset {begin} were trimmed: older ones are in the archive, if there "
        "is one (--archive of `ftjm replay` and `ftjm history`)",
        err=True,
    )


def row(ticket: Ticket) -> dict[str, Any]:
    """What is known of a command, for printing."""
    command, reply, outcome = ticket.command, ticket.reply, ticket.outcome
    shown: dict[str, Any] = {"job": f"{command.queue}/{command.job_id}"}
    if reply is None:
        shown["answer"] = "in the log"
    elif ticket.refused:
        shown["answer"] = f"refused: {reply.code}"
    else:
        shown["answer"] = "accepted" if reply.accepted else "was carried out before"
    shown["state"] = outcome.state if outcome else reply.state if reply else ""
    shown["run"] = reply.run if reply and reply.run else None
    if reply and not reply.accepted:
        shown["why"] = reply.text
    if outcome:
        shown |= {"exit_code": outcome.exit_code, "reason": outcome.reason, "error": outcome.error}
        shown["result"] = shown_json(outcome.result)
    return shown


def shown_json(data: bytes) -> Any:
    """JSON bytes as a value; None for none, and text for what is not JSON."""
    import msgspec

    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data.decode(errors="replace")
