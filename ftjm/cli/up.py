"""The verb up: everything on this machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import common
from ftjm.embedded.settings import DEFAULT_PORT

if TYPE_CHECKING:
    from ftjm.config import Settings


API_PORT = 8484
"""Of `ftjm api`, too."""


def register(app: typer.Typer) -> None:
    """Add `up`."""
    app.command()(up)


def up(
    schedulers: Annotated[int, typer.Option(min=0, help="Scheduler processes.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Worker processes.")] = 2,
    slots: Annotated[int, typer.Option(min=1, help="Jobs that a worker runs at once.")] = 4,
    queue: Annotated[list[str] | None, typer.Option(help="Queues that the workers serve (default: default).")] = None,
    app: common.Apps = None,
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Embedded brokers: 1, or 3 for replication.")] = 1,
    port: Annotated[int, typer.Option(help="First port of the embedded Kafka.")] = DEFAULT_PORT,
    api: Annotated[bool, typer.Option("--api/--no-api", help="Serve the HTTP API.")] = True,
    api_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Of the HTTP API (default: 8484, or --port + 5 where given).")
    ] = None,
    bootstrap: Annotated[str | None, typer.Option(help="Use this Kafka instead of an embedded one.")] = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    partitions: Annotated[int | None, typer.Option(help="Of commands and events; fixed at birth.")] = None,
    lease_seconds: Annotated[float | None, typer.Option(help="A worker silent for this long is lost.")] = None,
    kafka: common.KafkaSetting = None,
    log_format: common.LogFormat = None,
    log_level: common.LogLevel = None,
) -> None:
    """Run a cluster here until Ctrl-C: a real Kafka (unless --bootstrap names one), schedulers, workers, HTTP.

    The data stays in the data directory: the next `up` goes on where this one stopped.

    \b
    Examples:
      ftjm up
      ftjm up --app thumbnails --queue thumbnails
    """
    require_linux()
    from ftjm import up as composition

    flags = {
        "bootstrap": bootstrap,
        "cluster": cluster,
        "data_dir": data_dir,
        "partitions": partitions,
        "lease_seconds": lease_seconds,
        "kafka": kafka,
        "log_format": log_format,
        "log_level": log_level,
    }
    settings = common.settings(**flags)  # type: ignore[arg-type]
    embedded = settings.own_brokers or not settings.bootstrap
    if embedded:
        settings = _with_own_brokers(flags, settings, brokers, port)
    plan = composition.Plan(
        brokers=brokers if embedded else 0,
        port=port,
        schedulers=schedulers,
        workers=workers,
        slots=slots,
        queues=tuple(queue or ["default"]),
        apps=tuple(app or ()),
        api_port=(api_port or (API_PORT if port == DEFAULT_PORT else port + 5)) if api else 0,
    )
    composition.run(plan, settings, lambda: _announce(plan, settings))


def require_linux() -> None:
    """Raise FtjmError elsewhere."""
    from ftjm.errors import FtjmError

    if sys.platform != "linux":
        todo = "run `up` on a Linux machine; submit, get and the like work here with --bootstrap"
        raise FtjmError("Linux, whose kernel ends children with their parent", sys.platform, todo)


def _with_own_brokers(flags: dict[str, Any], settings: Settings, brokers: int, port: int) -> Settings:
    """Our own brokers allow shorter sessions and leases; what the user has set stays."""
    from ftjm import config
    from ftjm.embedded.kafka import addresses

    unset = {name: value for name, value in config.OWN_BROKERS_TIMING.items() if name not in settings.model_fields_set}
    return common.settings(**{**flags, **unset, "bootstrap": addresses(brokers, port), "own_brokers": True})


def _announce(plan: Any, settings: Settings) -> None:
    from rich.console import Console

    from ftjm.config import default_data_dir

    kafka = f"embedded, {plan.brokers} broker(s)" if plan.brokers else "yours"
    where = "" if settings.data_dir == default_data_dir() else f" --data-dir {settings.data_dir}"
    Console(highlight=False, soft_wrap=True).print(
        f"[bold]ftjm is up[/]: {plan.schedulers} scheduler(s), {plan.workers} worker(s) of {plan.slots} slot(s)\n"
        f"  Kafka   {settings.bootstrap} ({kafka})\n"
        + (f"  API     {plan.api}/api/v1/jobs, described by {plan.api}/openapi.json\n" if plan.api else "")
        + f"  data    {settings.data_dir}\n"
        f"  try     ftjm submit{where} --queue {plan.queues[0]} --wait -- echo hello\n"
        f"  stop    Ctrl-C; the data stays"
    )
