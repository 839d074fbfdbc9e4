"""The verb `up`: a whole cluster on this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.options import Apps, Connection, Logging, checked_token
from ftjm.cli.verbs import add_verb
from ftjm.local.broker_settings import DEFAULT_PORT, PORT_MAX

if TYPE_CHECKING:
    from ftjm.runtime.config import Settings


API_PORT = 8484
"""Default port of the HTTP API, in `ftjm up` and `ftjm api`."""


def register(group: typer.Typer) -> None:
    """Add `up`."""
    add_verb(group, up)


@dataclass(frozen=True)
class UpConnection(Logging, Connection):
    """The options of a connection, where an embedded Kafka is the default."""

    bootstrap: Annotated[
        str | None,
        typer.Option("--bootstrap", help="Use this Kafka instead of an embedded one.", rich_help_panel="Connection"),
    ] = None


def up(
    connection: UpConnection,
    schedulers: Annotated[int, typer.Option(min=0, max=64, help="Scheduler processes.")] = 2,
    workers: Annotated[int, typer.Option(min=0, max=256, help="Worker processes.")] = 2,
    slots: Annotated[int, typer.Option(min=1, max=10_000, help="How many jobs each worker runs at once.")] = 4,
    queue: Annotated[list[str] | None, typer.Option(help="Queues that the workers serve (default: default).")] = None,
    app: Apps = None,
    brokers: Annotated[int, typer.Option(min=1, max=3, help="Embedded brokers: 1, or 3 for replication.")] = 1,
    port: Annotated[int, typer.Option(min=1, max=PORT_MAX, help="First port of the embedded Kafka.")] = DEFAULT_PORT,
    api: Annotated[bool, typer.Option("--api/--no-api", help="Serve the HTTP API.")] = True,
    api_port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, help="Port of the HTTP API (default: 8484; with --port, that port + 5)."),
    ] = None,
    api_token: Annotated[
        bool,
        typer.Option(
            "--api-token/--no-api-token",
            help="Let the API ask for a token, which the endpoint file holds; without it, every user of this machine "
            "may submit jobs, which run as you.",
        ),
    ] = True,
    kafka_sign_on: Annotated[
        bool,
        typer.Option(
            "--kafka-sign-on/--no-kafka-sign-on",
            help="Let the embedded Kafka ask for a password, which the endpoint file holds; without it, every user of "
            "this machine may write to its topics.",
        ),
    ] = True,
    partitions: Annotated[
        int | None, typer.Option(help="Partitions of commands and events; they cannot be changed later.")
    ] = None,
    lease_seconds: Annotated[
        float | None, typer.Option(help="A worker that is silent for this long counts as lost.")
    ] = None,
) -> None:
    """Run a whole cluster on this machine until Ctrl-C: an embedded Kafka, schedulers, workers and the HTTP API.

    The data stays in the data directory: the next `up` continues where this one stopped.

    \b
    Examples:
      ftjm up
      ftjm up --app thumbnails --queue thumbnails
    """
    require_linux()
    from ftjm.local import up as composition

    # No other API has a say here: `api` names the one whose token would be taken.
    own = {"partitions": partitions, "lease_seconds": lease_seconds, "api": ""}
    settings = connection.settings(**own)
    checked_token(settings.api_token)
    embedded = settings.own_brokers or not settings.bootstrap
    if embedded:
        settings = connection.settings(**own | _own_brokers(settings, brokers, port))
    plan = composition.Plan(
        brokers=brokers if embedded else 0,
        port=port,
        schedulers=schedulers,
        workers=workers,
        slots=slots,
        queues=tuple(queue or ["default"]),
        apps=tuple(app or ()),
        api_port=(api_port or (API_PORT if port == DEFAULT_PORT else port + 5)) if api else 0,
        api_token=api_token,
        kafka_sign_on=kafka_sign_on,
    )
    composition.run(plan, settings, lambda: _announce(plan, settings))


def require_linux() -> None:
    """Raise FtjmError on other systems than Linux."""
    from ftjm.runtime.errors import FtjmError

    if sys.platform != "linux":
        todo = "run `up` on a Linux machine; submit, get and the like work here with --bootstrap"
        raise FtjmError("Linux, whose kernel ends children with their parent", sys.platform, todo)


def _own_brokers(settings: Settings, brokers: int, port: int) -> dict[str, Any]:
    """The settings that our own brokers give: addresses, and shorter sessions and leases unless the user set them."""
    from ftjm.local.kafka import addresses
    from ftjm.runtime import config

    unset = {name: value for name, value in config.OWN_BROKERS_TIMING.items() if name not in settings.model_fields_set}
    return unset | {"bootstrap": addresses(brokers, port), "own_brokers": True}


def _announce(plan: Any, settings: Settings) -> None:
    from rich.console import Console

    from ftjm.runtime.endpoint import default_data_dir

    kafka = f"embedded, {plan.brokers} broker(s)" if plan.brokers else "yours"
    where = "" if settings.data_dir == default_data_dir() else f" --data-dir {settings.data_dir}"
    Console(highlight=False, soft_wrap=True).print(
        f"[bold]ftjm is up[/]: {plan.schedulers} scheduler(s), {plan.workers} worker(s) of {plan.slots} slot(s)\n"
        f"  Kafka   {settings.bootstrap} ({kafka})\n"
        + (f"  API     {plan.api}/api/v1/jobs, described by {plan.api}/openapi.json\n" if plan.api else "")
        + (f"  token   of the API: ftjm token{where}\n" if plan.api and plan.api_token else "")
        + f"  data    {settings.data_dir}\n"
        f"  try     ftjm submit{where} --queue {plan.queues[0]} --wait -- echo hello\n"
        f"  stop    Ctrl-C; the data stays"
    )
