"""Verbs on snapshots: list, create, verify, export, import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.actor import actor
from ftjm.cli import asking, common, replaying
from ftjm.cli.common import Output

if TYPE_CHECKING:
    from ftjm.config import Settings
    from ftjm.transfer import Head

COLUMNS = ("partition", "batch", "offset", "taken", "bytes", "files", "chunks", "new_chunks", "place")


def register(app: typer.Typer) -> None:
    """Add `snapshot` with its verbs."""
    group = typer.Typer(help="Snapshots of the partitions: look, take, prove, move.", no_args_is_help=True)
    group.command(name="list")(list_snapshots)
    group.command()(create)
    group.command()(verify)
    group.command()(export)
    group.command(name="import")(import_)
    app.add_typer(group, name="snapshot")


def list_snapshots(
    partition: replaying.Partitions = None,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """List the snapshots that are kept: the two newest of each partition.

    \b
    Examples:
      ftjm snapshot list
      ftjm snapshot list -p 3 -o json
    """
    from ftjm.past import repository
    from ftjm.snapshotting import row

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    with repository(settings) as found:
        rows = [row(manifest) for p in _partitions(settings, partition) for manifest in found.manifests(p)]
    common.emit(rows, output, columns=COLUMNS)


def create(
    partition: replaying.Partitions = None,
    full: Annotated[bool, typer.Option("--full", help="Use no chunk of earlier ones: mends what is damaged.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="Wait for so long.")] = "2m",
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Ask the owners to take snapshots of all that is decided by now, and wait until they are there.

    \b
    Examples:
      ftjm snapshot create
      ftjm snapshot create -p 3 --full
    """
    from ftjm import snapshotting

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    with common.status("waiting for snapshots") as tell:
        found = snapshotting.create(
            settings,
            _partitions(settings, partition),
            full=full,
            actor=actor(),
            within_seconds=asking.seconds("--timeout", timeout),
            progress=tell,
        )
    common.emit([snapshotting.row(manifest) for manifest in found], output, columns=COLUMNS)


def verify(
    partition: replaying.Partitions = None,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Fetch every snapshot, check its hashes, and compare it with the fold of the log up to its place.

    The exit status is 1 where one is damaged or differs. Where a log was trimmed, it is folded from the older
    snapshot, which itself (`sound`) is compared with the log's record at its place only.

    \b
    Examples:
      ftjm snapshot verify
      ftjm snapshot verify -p 3 -o json
    """
    from ftjm.jobhistory import open_scan
    from ftjm.past import repository
    from ftjm.snapshotting import row
    from ftjm.snapshotting import verify as prove

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    rows: list[dict[str, Any]] = []
    with repository(settings) as found, open_scan(settings, "events") as scan:
        for p in _partitions(settings, partition):
            with replaying.progress(f"partition {p}") as tell:
                verdicts = prove(settings, found, scan, found.manifests(p), tell or (lambda _done, _all: None))
            for verdict in verdicts:
                result = "damaged" if verdict.problem else "equal" if verdict.folded else "sound"
                rows.append(row(verdict.manifest) | {"result": result, "problem": verdict.problem})
    common.emit(rows, output, columns=("partition", "batch", "offset", "taken", "bytes", "result", "problem"))
    if any(one["problem"] for one in rows):
        raise typer.Exit(1)


def export(
    url: Annotated[str, typer.Argument(metavar="DIR|URL", help="An empty place: a folder, or what fsspec reaches.")],
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Write the state of the whole cluster to one place: snapshots, the events behind them, unread commands.

    To move a cluster, stop its workers and schedulers before: both clusters would run what is in both. Of one that goes
    on working, this is a backup.

    \b
    Examples:
      ftjm snapshot create && ftjm snapshot export /srv/backup/ftjm
      ftjm snapshot export s3://bucket/ftjm-2026-11
    """
    from ftjm import transfer

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    with common.status("exporting") as tell:
        head = transfer.export(settings, url, tell)
    common.emit(_parts(head), output)


def import_(
    url: Annotated[str, typer.Argument(metavar="DIR|URL", help="What `ftjm snapshot export` wrote.")],
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Make a new cluster from an export: of as many partitions and lanes, with empty topics. Then start its schedulers.

    Jobs go on as they were; attempts that ran are lost with their workers, as each job says what to do then. Histories
    begin here.

    \b
    Examples:
      ftjm topics create --cluster restored && ftjm snapshot import /srv/backup/ftjm --cluster restored
    """
    from ftjm import transfer

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    with common.status("importing") as tell:
        head = transfer.import_(settings, url, tell)
    common.emit(_parts(head), output)


def _parts(head: Head) -> list[dict[str, Any]]:
    return [
        {
            "partition": partition,
            "batch": part.manifest.batch_no if part.manifest else None,
            "bytes": part.manifest.size if part.manifest else 0,
            "events": part.events[1] - part.events[0],
            "commands": part.commands[1] - part.commands[0],
        }
        for partition, part in enumerate(head.parts)
    ]


def _partitions(settings: Settings, wanted: list[int] | None) -> list[int]:
    from ftjm.jobhistory import open_scan

    with open_scan(settings, "snapshots") as scan:
        return replaying.partitions_of(scan, wanted)
