"""The verb `token`: the token of the HTTP API, for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from ftjm.cli.options import Connection
from ftjm.cli.output import echo
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import FtjmError


def register(group: typer.Typer) -> None:
    """Add `token`."""
    add_verb(group, token)


def token(
    connection: Connection,
    api: Annotated[str | None, typer.Option("--api", metavar="URL", help="The address of that API.")] = None,
) -> None:
    """Print the token that the HTTP API of `ftjm up` asks for. The verbs of ftjm send it by themselves.

    \b
    Examples:
      echo "Authorization: Bearer $(ftjm token)" >header && curl -H @header http://127.0.0.1:8484/api/v1/queues
    """
    settings = connection.settings(api=api)
    if not settings.api_token:
        found = f"none for {settings.api}" if settings.api else f"no running `ftjm up` in {settings.data_dir}"
        todo = "start `ftjm up`, give its --data-dir, or set FTJM_API_TOKEN"
        raise FtjmError("the token of an API", found, todo)
    echo(settings.api_token)
