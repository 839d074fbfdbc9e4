"""The command line: one file a group of verbs, each with `register(app)`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ftjm import __version__
from ftjm.cli import api, bench, chaos, inspection, jobs, listing, operations, roles, snapshots, topics, up
from ftjm.errors import FtjmError

app = typer.Typer(
    name="ftjm",
    help="A fault-tolerant job manager: every job is in a replicated log before anyone answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (up, roles, operations, topics, jobs, inspection, bench, chaos, api, listing, snapshots):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ftjm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point of `ftjm` and of `python -m ftjm`."""
    try:
        app()
    except FtjmError as error:
        typer.echo(
            f"error: expected {error.expected}\n       found {error.found}\n       to do: {error.todo}", err=True
        )
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has gone: that is no error, but Python would complain again at exit.
        sys.stderr.close()
        sys.exit(141)
