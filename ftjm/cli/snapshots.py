"""The verbs `snapshot list`, `create`, `verify`, `export` and `import`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.options import Connection, OutputFormat, Partitions, chosen_partitions, duration_seconds
from ftjm.cli.output import Output, emit, progress, status
from ftjm.cli.verbs import add_verb
from ftjm.runtime.actor import actor
from ftjm.runtime.plain_values import present

if TYPE_CHECKING:
    from ftjm.ops.export_head import Head
    from ftjm.runtime.config import Settings

COLUMNS = ("partition", "batch", "offset", "taken", "bytes", "files", "chunks", "new_chunks", "place")
PARTS = ("partition", "batch", "bytes", "events", "commands")


def register(group: typer.Typer) -> None:
    """Add `snapshot` with its verbs."""
    snapshots = typer.Typer(help="List, create, verify, export and import snapshots.", no_args_is_help=True)
    add_verb(snapshots, list_snapshots, "list")
    add_verb(snapshots, create)
    add_verb(snapshots, verify)
    add_verb(snapshots, export)
    add_verb(snapshots, import_, "import")
    group.add_typer(snapshots, name="snapshot")


def list_snapshots(
    connection: Connection,
    partition: Partitions = None,
    output: OutputFormat = Output.table,
) -> None:
    """List the snapshots that are kept: the two newest of each partition, and those for an older build.

    \b
    Examples:
      ftjm snapshot list
      ftjm snapshot list -p 3 -o json
    """
    from ftjm.ops.snapshots import row
    from ftjm.snapshots.repository import open_repository

    settings = connection.settings()
    with open_repository(settings) as found:
        rows = [row(manifest) for p in _partitions(settings, partition) for manifest in found.manifests(p)]
    emit(rows, output, columns=COLUMNS)


def create(
    connection: Connection,
    partition: Partitions = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Upload every file again, also those that an earlier snapshot holds: mends damaged ones."
        ),
    ] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait, such as 5m.")] = "2m",
    output: OutputFormat = Output.table,
) -> None:
    """Ask the owners of the partitions for snapshots of everything that is decided by now, and wait for them.

    \b
    Examples:
      ftjm snapshot create
      ftjm snapshot create -p 3 --full
    """
    from ftjm.ops import snapshots

    settings = connection.settings()
    with status("waiting for snapshots") as update:
        found = snapshots.create(
            settings,
            _partitions(settings, partition),
            full=full,
            actor=actor(),
            within_seconds=duration_seconds("--timeout", timeout),
            progress=update,
        )
    emit([snapshots.row(manifest) for manifest in found], output, columns=COLUMNS)


def verify(
    connection: Connection,
    partition: Partitions = None,
    output: OutputFormat = Output.table,
) -> None:
    """Fetch every snapshot, check its hashes, and compare it with the log, folded up to the snapshot's offset.

    Exits with 1 where one is damaged or differs. A trimmed log is folded from the older snapshot. That snapshot itself
    cannot be compared with a fold; its result is `sound` where it fits the log's record at its offset.

    \b
    Examples:
      ftjm snapshot verify
      ftjm snapshot verify -p 3 -o json
    """
    from ftjm.adapters.kafka.patience import open_scan
    from ftjm.ops.snapshots import row
    from ftjm.ops.snapshots import verify as prove
    from ftjm.snapshots.repository import open_repository

    settings = connection.settings()
    rows: list[dict[str, Any]] = []
    with open_repository(settings) as found, open_scan(settings, "events") as scan:
        for p in _partitions(settings, partition):
            with progress(f"partition {p}") as update:
                verdicts = prove(settings, found, scan, found.manifests(p), update or (lambda _done, _all: None))
            for verdict in verdicts:
                result = "damaged" if verdict.problem else "equal" if verdict.folded else "sound"
                rows.append(present(row(verdict.manifest) | {"result": result, "problem": verdict.problem}))
    emit(rows, output, columns=("partition", "batch", "offset", "taken", "bytes", "result", "problem"))
    if any("problem" in one for one in rows):
        raise typer.Exit(1)


def export(
    connection: Connection,
    url: Annotated[str, typer.Argument(metavar="DIR|URL", help="An empty folder, or a URL that fsspec can write to.")],
    output: OutputFormat = Output.table,
) -> None:
    """Write the state of the whole cluster to one place: snapshots, later events, and commands not decided yet.

    To move a cluster, stop its workers and schedulers first: otherwise both clusters run the same jobs. Of a cluster
    that keeps working, the export is a backup.

    \b
    Examples:
      ftjm snapshot create && ftjm snapshot export /srv/backup/ftjm
      ftjm snapshot export s3://bucket/ftjm-2026-11
    """
    from ftjm.ops import transfer

    settings = connection.settings()
    with status("exporting") as update:
        head = transfer.export(settings, url, update)
    emit(_parts(head), output, columns=PARTS)


def import_(
    connection: Connection,
    url: Annotated[str, typer.Argument(metavar="DIR|URL", help="What `ftjm snapshot export` wrote.")],
    output: OutputFormat = Output.table,
) -> None:
    """Make a new cluster from an export. It needs empty topics, with as many partitions and lanes as the old one.

    Start its schedulers afterwards. Jobs continue in the state that they had. Attempts that were running count as lost
    with their workers. The history of each job begins with the import.

    \b
    Examples:
      ftjm topics create --cluster restored && ftjm snapshot import /srv/backup/ftjm --cluster restored
    """
    from ftjm.ops import transfer

    settings = connection.settings()
    with status("importing") as update:
        head = transfer.import_(settings, url, update)
    emit(_parts(head), output, columns=PARTS)


def _parts(head: Head) -> list[dict[str, Any]]:
    return [
        present(
            {
                "partition": partition,
                "batch": part.manifest.batch_no if part.manifest else None,
                "bytes": part.manifest.size if part.manifest else 0,
                "events": part.events[1] - part.events[0],
                "commands": part.commands[1] - part.commands[0],
            }
        )
        for partition, part in enumerate(head.parts)
    ]


def _partitions(settings: Settings, wanted: list[int] | None) -> list[int]:
    from ftjm.adapters.kafka.patience import open_scan

    with open_scan(settings, "snapshots") as scan:
        return chosen_partitions(scan, wanted)
