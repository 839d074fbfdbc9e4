"""Shared by the verbs that send commands: the client, and waiting for the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftjm.cli.options import duration_seconds
from ftjm.cli.output import echo
from ftjm.runtime.plain_values import present

if TYPE_CHECKING:
    from ftjm.client.command_client import Client
    from ftjm.client.ticket import Ticket
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


def subject_of(ticket: Ticket) -> str:
    """What a command is about: a job, `queue/job_id`; or a queue."""
    command = ticket.command
    return f"{command.queue}/{command.job_id}" if command.job_id else command.queue


def print_refusal(ticket: Ticket) -> None:
    """Print to standard error why a command was refused, if it was."""
    if ticket.refused and ticket.reply:
        echo(f"error: {subject_of(ticket)} was refused: {ticket.reply.text} ({ticket.reply.code})", err=True)


def answer_document(ticket: Ticket) -> dict[str, Any]:
    """The answer to a command that was sent, and the job's outcome where the command awaits it."""
    reply, outcome = ticket.reply, ticket.outcome
    document: dict[str, Any] = {"job" if ticket.command.job_id else "queue": subject_of(ticket)}
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
