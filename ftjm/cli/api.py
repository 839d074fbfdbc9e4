"""The verb api: the HTTP interface, as a role of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ftjm.cli import common
from ftjm.cli.up import API_PORT
from ftjm.errors import UsageError

TOKEN_MIN = 16


def register(app: typer.Typer) -> None:
    """Add `api`."""
    app.command()(api)


def api(
    host: Annotated[str, typer.Option(help="Where to listen; beyond loopback a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the HTTP server.")] = API_PORT,
    name: Annotated[str, typer.Option(help="Names its directory; one process at a time.")] = "api-1",
    token_file: Annotated[
        str | None, typer.Option(help="Holds the token that clients must give; or set FTJM_API_TOKEN.")
    ] = None,
    drain: Annotated[str, typer.Option(help="How long to go on after SIGTERM, saying that it is not ready.")] = "0s",
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    metrics_host: common.MetricsHost = None,
    metrics_port: common.MetricsPort = None,
    log_format: common.LogFormat = None,
    log_level: common.LogLevel = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C: /api/v1, described by /openapi.json.

    It reads the log into a database of its own, which may be deleted at any time. Any number of them serve a cluster.

    \b
    Examples:
      ftjm api
      FTJM_API_TOKEN=$(cat token) ftjm api --host 0.0.0.0 --drain 5s
    """
    from ftjm.api.server import Binding, run
    from ftjm.cli.asking import seconds
    from ftjm.core.names import is_name

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
    run(settings, name, Binding(host, port, _token(token_file), seconds("--drain", drain)))


def _token(file: str | None) -> str:
    """The token, from the file or the environment; empty for none. It is never logged."""
    token = os.environ.get("FTJM_API_TOKEN", "").strip()
    if file is not None:
        try:
            token = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"a readable file {file} for --token-file", str(error), "check its name") from None
        if not token:
            raise UsageError("a token in --token-file", "an empty file", "write one, such as `openssl rand -hex 32`")
    if token and len(token) < TOKEN_MIN:
        found = f"{len(token)} characters"
        raise UsageError(f"a token of {TOKEN_MIN} or more characters", found, "make one: `openssl rand -hex 32`")
    return token
