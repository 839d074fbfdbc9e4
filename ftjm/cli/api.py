"""The verb `api`: serves the HTTP API as this process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ftjm.cli.options import RoleOptions, checked_token, duration_seconds, process_name
from ftjm.cli.up import API_PORT
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import UsageError


def register(group: typer.Typer) -> None:
    """Add `api`."""
    add_verb(group, api)


def api(
    role: RoleOptions,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a token is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = API_PORT,
    name: Annotated[str, typer.Option(help="Names its directory; one process at a time.")] = "api-1",
    token_file: Annotated[
        str | None, typer.Option(help="File with the token that clients must send; or set FTJM_API_TOKEN.")
    ] = None,
    drain: Annotated[
        str, typer.Option(help="How long it still answers after SIGTERM, while /readyz says that it is not ready.")
    ] = "0s",
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C: /api/v1, described by /openapi.json.

    It reads the log into a database of its own, which may be deleted at any time. A cluster may have any number of
    these servers.

    \b
    Examples:
      ftjm api
      FTJM_API_TOKEN=$(cat token) ftjm api --host 0.0.0.0 --drain 5s
    """
    from ftjm.api.server import Binding, run

    settings = role.settings(api="")  # no other API has a say here
    binding = Binding(host, port, _token(token_file, settings.api_token), duration_seconds("--drain", drain))
    run(settings, process_name(name), binding)


def _token(file: str | None, token: str) -> str:
    """The token, from the file or the settings; empty for none. It is never logged."""
    if file is not None:
        try:
            token = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"a readable file {file} for --token-file", str(error), "check its name") from None
        if not token:
            raise UsageError("a token in --token-file", "an empty file", "write one, such as `openssl rand -hex 32`")
    return checked_token(token)
