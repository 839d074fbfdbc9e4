"""The verb bench: what this machine makes of the engine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ftjm.cli import common
from ftjm.cli.common import Output

JOBS = {
    "throughput": 20_000,
    "latency": 500,
    "submit": 20_000,
    "events": 20_000,
    "replay": 75_000,
    "cold-takeover": 1_000_000,
}
"""By suite, so that each takes about half a minute on two cores, the last one some minutes; those that are not here
take no number of jobs."""
PARTITIONS = {"failover": 8}


class Suite(StrEnum):
    """What can be measured."""

    throughput = "throughput"
    latency = "latency"
    submit = "submit"
    events = "events"
    replay = "replay"
    failover = "failover"
    cold_takeover = "cold-takeover"
    soak = "soak"


class WorkOption(StrEnum):
    """What the jobs of `latency` do."""

    noop = "noop"
    command = "command"
    task = "task"


def register(app: typer.Typer) -> None:
    """Add `bench`."""
    app.command()(bench)


def bench(
    suite: Annotated[Suite, typer.Argument(help="What to measure.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="How many jobs (default: by suite).")] = None,
    work: Annotated[WorkOption, typer.Option(help="What the jobs of `latency` do.")] = WorkOption.task,
    command_jobs: Annotated[int, typer.Option(min=0, help="Of `throughput`: real commands, and as many tasks.")] = 500,
    kills: Annotated[int, typer.Option(min=1, help="Of `failover`: schedulers that are killed.")] = 50,
    minutes: Annotated[float, typer.Option(min=0.1, help="Of `soak`: how long it takes.")] = 60.0,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of commands and events (default: 2; `failover` 8).")
    ] = None,
    schedulers: Annotated[int, typer.Option(min=1, help="Scheduler processes.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    slots: Annotated[int, typer.Option(min=1, max=10_000, help="Of a worker whose jobs do nothing.")] = 500,
    command_slots: Annotated[int, typer.Option(min=1, max=10_000, help="Of a worker of commands or tasks.")] = 4,
    clients: Annotated[int, typer.Option(min=1, help="Processes that submit.")] = 2,
    stock: Annotated[
        bool, typer.Option("--stock", help="Sessions and leases as on brokers with stock settings.")
    ] = False,
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Embedded brokers: 1, or 3 for replication.")] = 1,
    port: Annotated[int, typer.Option(help="First port of the embedded Kafka (default: free ones).")] = 0,
    bootstrap: Annotated[str | None, typer.Option(help="Use this Kafka instead of an embedded one.")] = None,
    kafka: common.KafkaSetting = None,
    svg: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw the figures into this file.")] = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Measure a cluster that is started for it, and stopped again; its topics are its own, and deleted afterwards.

    Prints one document: suite, machine, settings and figures. docs/benchmarks.md says what each figure is.
    """
    from ftjm.bench.options import Options, Work
    from ftjm.bench.screen import Screen
    from ftjm.bench.suites import run

    options = Options(
        jobs=jobs or JOBS.get(suite, 0),
        kills=kills,
        minutes=minutes,
        partitions=partitions or PARTITIONS.get(suite, 2),
        schedulers=schedulers,
        workers=workers,
        slots=slots,
        command_jobs=command_jobs,
        command_slots=command_slots,
        clients=clients,
        work=Work(work),
        stock=stock,
        brokers=brokers,
        bootstrap=bootstrap or "",
        port=port,
    )
    given = common.settings(kafka=kafka, log_level="warning")
    with Screen() as screen:
        report = run(suite, options, screen, given)
    _show(report, svg, output)


def _show(report: Any, svg: Path | None, output: Output) -> None:
    import msgspec

    from ftjm.bench.chart import draw

    if svg is not None:
        svg.write_text(draw(report))
    document = msgspec.to_builtins(report)
    if output is Output.table:
        common.emit({"suite": report.suite, **document["figures"]}, output)
    else:
        common.emit(document, output)
