"""Verbs on topics: create, check."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from ftjm.cli import common
from ftjm.cli.common import Output


def register(app: typer.Typer) -> None:
    """Add `topics create` and `topics check`."""
    group = typer.Typer(help="Make the cluster's topics, or find where they differ.", no_args_is_help=True)
    group.command()(create)
    group.command()(check)
    app.add_typer(group, name="topics")


def create(
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    partitions: Annotated[int | None, typer.Option(help="Of commands and events; fixed at birth.")] = None,
    lanes: Annotated[int | None, typer.Option(help="Of dispatch, replies and heartbeats.")] = None,
    replication_factor: Annotated[int | None, typer.Option(help="Default: the brokers, at most 3.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend settings of topics that exist.")] = False,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Make the topics that are missing; those that exist are left as they are. Safe to run again."""
    from ftjm.adapters import topics

    settings = common.settings(
        bootstrap=bootstrap,
        cluster=cluster,
        data_dir=data_dir,
        kafka=kafka,
        partitions=partitions,
        lanes=lanes,
        replication_factor=replication_factor,
    )
    done = topics.create(settings, repair=repair)
    rows = [
        {"topic": name, "result": result}
        for result, names in (("created", done.made), ("repaired", done.repaired), ("unchanged", done.kept))
        for name in names
    ]
    common.emit(rows, output, columns=["topic", "result"])


def check(
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Compare topics and brokers with what is needed; exit status 1 where something can lose or delay work."""
    from ftjm.adapters import topics

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    found = topics.check(settings)
    if found or output is not Output.table:
        rows = [dataclasses.asdict(difference) for difference in found]
        common.emit(rows, output, columns=["severity", "topic", "setting", "expected", "found", "todo"])
    else:
        typer.echo(f"{len(topics.TOPICS)} topics of {settings.cluster} are as they should be")
    if any(difference.severity == "error" for difference in found):
        raise typer.Exit(1)
