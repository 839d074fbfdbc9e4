"""The verb `bench`: measures throughput, latency, replay and failover on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ftjm.cli import interrupts
from ftjm.cli.options import KafkaSetting, OutputFormat, kafka_settings, load_settings
from ftjm.cli.output import Output, emit
from ftjm.cli.verbs import add_verb
from ftjm.local.broker_settings import PORT_MAX

JOBS = {
    "throughput": 20_000,
    "policies": 20_000,
    "latency": 500,
    "response": 1_000,
    "submit": 20_000,
    "events": 20_000,
    "replay": 75_000,
    "cold-takeover": 1_000_000,
    "backlog": 20_000,
    "bulk": 200_000,
    "scale": 10_000,
}
"""How many jobs each suite takes by default, so that it lasts about half a minute on two cores (`cold-takeover`,
`backlog`, `bulk` and `scale` some minutes). Suites that are not here take no number of jobs."""
PARTITIONS = {"failover": 8}


class Suite(StrEnum):
    """The suites of the benchmark."""

    throughput = "throughput"
    policies = "policies"
    latency = "latency"
    response = "response"
    submit = "submit"
    events = "events"
    replay = "replay"
    failover = "failover"
    cold_takeover = "cold-takeover"
    backlog = "backlog"
    bulk = "bulk"
    scale = "scale"
    soak = "soak"


class WorkOption(StrEnum):
    """The kind of the jobs of `latency`."""

    noop = "noop"
    command = "command"
    task = "task"


CommandJobs = Annotated[
    int,
    typer.Option(
        min=0, max=1_000_000, help="For `throughput`: how many commands, and as many tasks. `response` takes the tasks."
    ),
]
CommandSlots = Annotated[int, typer.Option(min=1, max=10_000, help="Slots of a worker that runs commands or tasks.")]
Backlog = Annotated[
    int, typer.Option(min=1, max=100_000_000, help="For `backlog`: how many jobs wait beside those measured.")
]

Curves = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N,N,…", help="For `scale`: partitions, schedulers or workers; may be repeated."),
]


def register(group: typer.Typer) -> None:
    """Add `bench`."""
    add_verb(group, bench)


def bench(
    suite: Annotated[Suite, typer.Argument(help="What to measure.")],
    jobs: Annotated[int | None, typer.Option(min=1, max=100_000_000, help="How many jobs (default: by suite).")] = None,
    work: Annotated[WorkOption, typer.Option(help="What the jobs of `latency` do.")] = WorkOption.task,
    command_jobs: CommandJobs = 2_000,
    backlog: Backlog = 500_000,
    curve: Curves = None,
    kills: Annotated[int, typer.Option(min=1, max=10_000, help="For `failover`: how many schedulers are killed.")] = 50,
    minutes: Annotated[float, typer.Option(min=0.1, max=525_600.0, help="For `soak`: how long it lasts.")] = 60.0,
    partitions: Annotated[
        int | None, typer.Option(min=1, max=64, help="Partitions of commands and events (default: 2; `failover`: 8).")
    ] = None,
    schedulers: Annotated[int, typer.Option(min=1, max=64, help="Scheduler processes.")] = 2,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    slots: Annotated[int, typer.Option(min=1, max=10_000, help="Slots of a worker whose jobs do nothing.")] = 500,
    command_slots: CommandSlots = 4,
    clients: Annotated[int, typer.Option(min=1, max=64, help="Processes that submit.")] = 2,
    stock: Annotated[
        bool, typer.Option("--stock", help="Use sessions and leases as on brokers with stock settings.")
    ] = False,
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Embedded brokers: 1, or 3 for replication.")] = 1,
    port: Annotated[int, typer.Option(min=0, max=PORT_MAX, help="First port of its Kafka (default: free ones).")] = 0,
    sign_on: Annotated[
        bool, typer.Option("--sign-on", help="Let the embedded Kafka ask for a password, as that of `up` does.")
    ] = False,
    bootstrap: Annotated[str | None, typer.Option(help="Use this Kafka instead of an embedded one.")] = None,
    kafka: KafkaSetting = None,
    svg: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw the figures into this file.")] = None,
    output: OutputFormat = Output.table,
) -> None:
    """Start a cluster with topics of its own, measure it, and stop it. The topics are deleted afterwards.

    Prints one document: suite, machine, settings and figures. docs/benchmarks.md explains each figure.
    """
    from ftjm.lab.bench.options import CURVES, Options, WorkKind
    from ftjm.lab.bench.progress_bar import ProgressBar
    from ftjm.lab.bench.suites import run

    interrupts.end_orderly()
    options = Options(
        jobs=jobs or JOBS.get(suite, 0),
        backlog=backlog,
        curves=curve or CURVES,
        kills=kills,
        minutes=minutes,
        partitions=partitions or PARTITIONS.get(suite, 2),
        schedulers=schedulers,
        workers=workers,
        slots=slots,
        command_jobs=command_jobs,
        command_slots=command_slots,
        clients=clients,
        work=WorkKind(work),
        stock=stock,
        brokers=brokers,
        bootstrap=bootstrap or "",
        port=port,
        sign_on=sign_on,
    )
    # Without an address of the user, no running `up` has a say: its password is not for other brokers.
    given = load_settings(bootstrap=bootstrap or "", kafka=kafka_settings(kafka or ()) or None, log_level="warning")
    with ProgressBar() as screen:
        report = run(suite, options, screen, given)
    _show(report, svg, output)


def _show(report: Any, svg: Path | None, output: Output) -> None:
    import msgspec

    from ftjm.lab.bench.chart import draw

    if svg is not None:
        svg.write_text(draw(report), encoding="utf-8")
    document = msgspec.to_builtins(report)
    if output is Output.table:
        emit({"suite": report.suite, **document["figures"]}, output)
    else:
        emit(document, output)
