"""One role a process: scheduler, worker."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from ftjm.cli import common


def register(app: typer.Typer) -> None:
    """Add this group's verbs to the command line. (`worker` is a group: see `operations`.)"""
    app.command()(scheduler)


def scheduler(
    name: Annotated[str, typer.Option(help="Names its store directory; one process at a time.")] = "scheduler-1",
    standby: Annotated[
        bool, typer.Option("--standby", help="Follow everything, and join only when no active scheduler is left.")
    ] = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    metrics_host: common.MetricsHost = None,
    metrics_port: common.MetricsPort = None,
    log_format: common.LogFormat = None,
    log_level: common.LogLevel = None,
) -> None:
    """Run one scheduler until SIGTERM or Ctrl-C.

    Any number of them share the partitions of a cluster: start more to scale out, stop them in any way to scale in.
    """
    from ftjm.core.names import is_name
    from ftjm.errors import UsageError
    from ftjm.scheduler.process import Scheduler

    if not is_name(name):
        raise UsageError("a name of letters, digits, '.', '_' or '-'", repr(name), "choose another --name")
    settings = common.settings(
        bootstrap=bootstrap,
        cluster=cluster,
        data_dir=data_dir,
        kafka=kafka,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        log_format=log_format,
        log_level=log_level,
    )
    process = Scheduler(settings, name, passive=standby)
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: process.stop())
    process.run()


def worker(
    context: typer.Context,
    queue: Annotated[list[str] | None, typer.Option("--queue", "-q", help="A queue to serve; may be repeated.")] = None,
    slots: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs that it runs at once.")] = 4,
    app: common.Apps = None,
    name: Annotated[str, typer.Option(help="Of the worker, the same over restarts (default: the host's).")] = "",
    lease: Annotated[
        float | None,
        typer.Option("--lease", min=1.0, help="Seconds without contact after which its attempts are given up."),
    ] = None,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    metrics_host: common.MetricsHost = None,
    metrics_port: common.MetricsPort = None,
    log_format: common.LogFormat = None,
    log_level: common.LogLevel = None,
) -> None:
    """Run jobs of some queues until told to leave: SIGTERM or Ctrl-C finishes what runs, a second one stops it.

    \b
    Examples:
      ftjm worker --queue default --slots 8
      ftjm worker --app thumbnails.tasks --queue thumbnails
      ftjm worker list
    """
    if context.invoked_subcommand:
        return
    settings = common.settings(
        bootstrap=bootstrap,
        cluster=cluster,
        data_dir=data_dir,
        kafka=kafka,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        log_format=log_format,
        log_level=log_level,
        lease_seconds=lease,
    )
    from ftjm.worker import process

    raise typer.Exit(process.run(settings, queues=queue or ["default"], slots=slots, name=name, apps=app or []))
