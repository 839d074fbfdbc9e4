"""Shared by the verbs that send commands: the client, and waiting for the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ftjm.cli.options import duration_seconds
from ftjm.cli.output import Output, echo, emit
from ftjm.runtime.plain_values import present

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ftjm.client.command_client import Client
    from ftjm.client.ticket import Ticket
    from ftjm.core.records.commands import Command
    from ftjm.runtime.config import Settings

DECISION_SECONDS = 5.0
"""How long a verb waits for the scheduler's decision, once the command is in the log."""


def connect(settings: Settings, patience: str) -> Client:
    """A client that listens for answers.

    Args:
        settings: The settings of the cluster.
        patience: The value of `--patience`: how long to wait for Kafka while it does not answer.

    Raises:
        UsageError: `patience` is no duration.
        Unreachable: Kafka does not answer.
    """
    from ftjm.client.command_client import Client

    return Client(settings, patience_seconds=duration_seconds("--patience", patience))


def await_decisions(client: Client, tickets: list[Ticket]) -> None:
    """Wait until the log has the commands, then some seconds for their decisions. Print how many are missing."""
    client.confirm()
    if not client.decided(tickets, DECISION_SECONDS):
        missing = sum(ticket.reply is None for ticket in tickets)
        echo(f"{missing} of {len(tickets)} not decided yet: in the log, and waiting for a scheduler", err=True)


def carry_out(
    settings: Settings,
    patience: str,
    commands: Iterable[Command],
    output: Output,
    columns: Sequence[str],
    *,
    as_list: bool = False,
) -> None:
    """Send commands, and print the answers; refusals to standard error. Exits with 1 if there are any.

    Args:
        settings: The settings of the cluster.
        patience: See `connect`.
        commands: The commands, in their order.
        output: How to print. A table leaves refused commands out.
        columns: The columns of a table of several answers.
        as_list: Whether one answer is printed as several are.
    """
    with connect(settings, patience) as client:
        tickets = [client.send(command) for command in commands]
        await_decisions(client, tickets)
    for ticket in tickets:
        print_refusal(ticket)
    rows = [answer_document(ticket) for ticket in tickets if output is not Output.table or not ticket.refused]
    if (as_list or len(tickets) > 1) and rows:
        emit(rows, output, columns=columns)
    elif rows:
        emit(rows[0], output)
    if any(ticket.refused for ticket in tickets):
        raise typer.Exit(1)


def subject_of(ticket: Ticket) -> str:
    """What a command is about: a job, a bulk request, a backfill or a schedule, as `queue/NAME`; or a name alone."""
    _, subject = _subject(ticket.command)
    return subject


def _subject(command: Command) -> tuple[str, str]:
    """The kind and the name of what a command is about."""
    from ftjm.core.records.commands import (
        ApplyResource,
        BackfillSchedule,
        BulkJobs,
        DeleteResource,
        ScheduleCommand,
        StopBackfill,
        StopBulk,
    )
    from ftjm.core.state.resources import ResourceKind

    if isinstance(command, ApplyResource | DeleteResource):
        return "worker" if command.kind is ResourceKind.CORDON else command.kind.lower(), command.name
    if isinstance(command, BulkJobs | StopBulk):
        bulk = command.bulk if isinstance(command, StopBulk) else command.command_id
        return "request", f"{command.queue}/{bulk}"
    if isinstance(command, BackfillSchedule | StopBackfill):
        backfill = command.backfill if isinstance(command, StopBackfill) else command.command_id
        return "request", f"{command.queue}/{command.name}/{backfill}"
    if isinstance(command, ScheduleCommand):
        return "schedule", f"{command.queue}/{command.name}"
    return ("job", f"{command.queue}/{command.job_id}") if command.job_id else ("queue", command.queue)


def print_refusal(ticket: Ticket) -> None:
    """Print to standard error why a command was refused, if it was."""
    if ticket.refused and ticket.reply:
        echo(f"error: {subject_of(ticket)} was refused: {ticket.reply.text} ({ticket.reply.code})", err=True)


def answer_document(ticket: Ticket) -> dict[str, Any]:
    """The answer to a command that was sent, and the job's outcome where the command awaits it."""
    from ftjm.core.records.commands import TriggerSchedule
    from ftjm.core.schedule_jobs import request_id

    reply, outcome = ticket.reply, ticket.outcome
    kind, subject = _subject(ticket.command)
    document: dict[str, Any] = {kind: subject}
    if isinstance(ticket.command, TriggerSchedule):
        document["job"] = f"{ticket.command.queue}/{request_id(ticket.command.name, ticket.command.command_id)}"
    if reply is None:
        document["answer"] = "in the log"
    elif ticket.refused:
        document["answer"] = f"refused: {reply.code}"
    else:
        document["answer"] = "accepted" if reply.accepted else "was carried out before"
    if reply:
        document |= {"state": reply.state, "run": reply.run or None, "why": None if reply.accepted else reply.text}
    if outcome:
        from ftjm.readmodel.documents.fields import plain_document
        from ftjm.readmodel.documents.job import outcome_document

        document |= plain_document(outcome_document(outcome))
    return present(document)
