"""The verbs `upgrade status` and `upgrade finalize`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.options import Connection, OutputFormat
from ftjm.cli.output import Output, echo, emit, status
from ftjm.cli.verbs import add_verb
from ftjm.runtime.actor import actor
from ftjm.runtime.errors import UsageError

if TYPE_CHECKING:
    from ftjm.ops.upgrade import UpgradeStatus

MEMBERS = ("role", "member", "release", "level", "state_version")
PARTITIONS = ("partition", "owner", "final_level", "final_state_version", "snapshots", "kept_for_older_build")


def register(group: typer.Typer) -> None:
    """Add `upgrade` with its verbs."""
    upgrade = typer.Typer(help="Show how far an upgrade is, and finalise it.", no_args_is_help=True)
    add_verb(upgrade, show, "status")
    add_verb(upgrade, finalize)
    group.add_typer(upgrade, name="upgrade")


def show(connection: Connection, output: OutputFormat = Output.table) -> None:
    """Show the builds of all members, the snapshots of each partition, and which are kept for going back.

    \b
    Examples:
      ftjm upgrade status
      ftjm upgrade status -o json
    """
    from ftjm.ops import upgrade

    _print(upgrade.status(connection.settings()), output)


def finalize(
    connection: Connection,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    output: OutputFormat = Output.table,
) -> None:
    """End the upgrade to this build: what it adds may be used, and nothing is kept for an older build any longer.

    There is no way back after this. It is refused while a member of an older build is alive, or a partition has no
    snapshot of this build.

    \b
    Examples:
      ftjm upgrade finalize
      ftjm upgrade finalize --yes -o json
    """
    from ftjm.ops import upgrade

    settings = connection.settings()
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("--yes, since there is no terminal to ask on", "none", "add --yes")
        typer.confirm("There is no way back to an older build after this. Finalise?", abort=True, err=True)
    with status("waiting for the owners") as update:
        done = upgrade.finalize(settings, actor(), update)
    _print(done, output)


def _print(found: UpgradeStatus, output: Output) -> None:
    document = found.document()
    if output is not Output.table:
        emit(document, output)
        return
    emit(document["members"], output, columns=MEMBERS)
    emit([_short(row) for row in document["partitions"]], output, columns=PARTITIONS)
    for obstacle in found.obstacles:
        echo(f"in the way of finalising: {obstacle}")
    if found.is_final:
        echo("The upgrade to this build is final.")
    elif not found.obstacles:
        echo("Going back is possible. `ftjm upgrade finalize` ends that.")


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A partition's row with its snapshots as words."""
    words = {
        name: ", ".join(f"version {one['state_version']} at {one['offset']}" for one in row[name])
        for name in ("snapshots", "kept_for_older_build")
    }
    return row | words
