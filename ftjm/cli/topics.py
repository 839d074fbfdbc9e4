"""The verbs `topics create` and `topics check`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from ftjm.cli.options import Connection, OutputFormat
from ftjm.cli.output import Output, echo, emit
from ftjm.cli.verbs import add_verb
from ftjm.runtime.plain_values import present


def register(group: typer.Typer) -> None:
    """Add `topics create` and `topics check`."""
    topics = typer.Typer(help="Create the cluster's topics, or check their settings.", no_args_is_help=True)
    add_verb(topics, create)
    add_verb(topics, check)
    group.add_typer(topics, name="topics")


def create(
    connection: Connection,
    partitions: Annotated[
        int | None, typer.Option(help="Partitions of commands and events; they cannot be changed later.")
    ] = None,
    lanes: Annotated[int | None, typer.Option(help="Partitions of dispatch, replies and heartbeats.")] = None,
    replication_factor: Annotated[
        int | None, typer.Option(help="Replicas (default: the number of brokers, at most 3).")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Correct the settings of topics that exist.")] = False,
    output: OutputFormat = Output.table,
) -> None:
    """Create the topics that are missing. Topics that exist stay as they are. Safe to run again."""
    from ftjm.adapters.kafka import topics

    settings = connection.settings(partitions=partitions, lanes=lanes, replication_factor=replication_factor)
    done = topics.create(settings, repair=repair)
    rows = [
        {"topic": name, "result": result}
        for result, names in (("created", done.created), ("repaired", done.repaired), ("unchanged", done.unchanged))
        for name in names
    ]
    emit(rows, output, columns=["topic", "result"])


def check(
    connection: Connection,
    output: OutputFormat = Output.table,
) -> None:
    """Compare topics and brokers with what ftjm needs. Exits with 1 where work can be lost or delayed."""
    from ftjm.adapters.kafka import topics

    settings = connection.settings()
    found = topics.check(settings)
    if found or output is not Output.table:
        rows = [present(dataclasses.asdict(difference)) for difference in found]
        emit(rows, output, columns=["severity", "topic", "setting", "expected", "found", "todo"])
    else:
        echo(f"{len(topics.TOPICS)} topics of {settings.cluster} are as they should be")
    if any(difference.severity == "error" for difference in found):
        raise typer.Exit(1)
