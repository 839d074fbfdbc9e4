"""The verb `replay`: state rebuilt from the log, shown or compared with a live store."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import asking, common
from ftjm.cli.common import Output
from ftjm.errors import FtjmError, UsageError

if TYPE_CHECKING:
    from ftjm.adapters.kafka_scan import Scan
    from ftjm.config import Settings
    from ftjm.past import Past
    from ftjm.replay import Difference, Progress, Until

JobNames = Annotated[list[str] | None, typer.Argument(metavar="JOB", help="Only these jobs.", show_default=False)]
Partitions = Annotated[
    list[int] | None, typer.Option("-p", "--partition", help="Only these partitions; may be repeated.")
]
UntilText = Annotated[
    str | None, typer.Option("--until", metavar="OFFSET|TIME", help="As of then; by default the end of the log.")
]
Verify = Annotated[bool, typer.Option("--verify", help="Compare with the stores under --data-dir.")]
ListJobs = Annotated[bool, typer.Option("--jobs", help="Each job of the partitions, instead of sums.")]
ArchiveUrl = Annotated[
    str | None, typer.Option("--archive", metavar="URL", help="Read what was trimmed from this archive.")
]
StoreName = Annotated[str | None, typer.Option("--store", help="Only stores of this scheduler, such as scheduler-1.")]


def replay(
    jobs: JobNames = None,
    partition: Partitions = None,
    until: UntilText = None,
    verify: Verify = False,
    list_jobs: ListJobs = False,
    store: StoreName = None,
    archive: ArchiveUrl = None,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Rebuild state from the log: of jobs, of partitions, or of all.

    A log that was trimmed is folded from the newest snapshot that is old enough, or with --archive from its beginning.

    With --verify, compare it with the stores of the schedulers on this machine, each at its own position; the exit
    status is 1 where one differs, and the first row that does is shown.

    \b
    Examples:
      ftjm replay
      ftjm replay thumbnails/a-200 --until 2030-01-31T18:00:00Z
      ftjm replay -p 3 --until 120000 --jobs -o json
      ftjm replay --verify
      ftjm replay --archive s3://bucket/ftjm --until 2030-01-31T18:00:00Z
    """
    from ftjm.jobhistory import open_scan
    from ftjm.past import Past

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    limit = _until(until)
    if jobs:
        if verify or partition:
            raise UsageError("a job, or --verify and --partition", "both", "leave one of them out")
        _jobs(settings, jobs, limit, archive, output)
        return
    past = Past(settings, archive)
    with open_scan(settings, "events") as scan:
        wanted = partitions_of(scan, partition)
        if not verify:
            _show(scan, past, wanted, limit, list_jobs, output)
            return
        if until:
            raise UsageError("--verify or --until", "both", "a store is compared at its own position")
        _verify(scan, past, settings, wanted, store, output)


def _until(text: str | None) -> Until:
    from ftjm.durations import TIME_EXAMPLES, parse_time
    from ftjm.replay import Until

    if text is None:
        return Until()
    if text.isdigit():
        return Until(offset=int(text))
    try:
        return Until(time_ms=parse_time(text))
    except ValueError:
        raise UsageError(f"an offset, or {TIME_EXAMPLES}", repr(text), "mend --until") from None


def partitions_of(scan: Scan, wanted: list[int] | None) -> list[int]:
    """Those that were asked for, or all. Raises UsageError."""
    for partition in wanted or ():
        if not 0 <= partition < scan.partitions:
            raise UsageError(
                f"a partition from 0 to {scan.partitions - 1}", str(partition), "see `ftjm inspect partitions`"
            )
    return sorted(set(wanted)) if wanted else list(range(scan.partitions))


def _jobs(settings: Settings, jobs: list[str], until: Until, archive: str | None, output: Output) -> None:
    """Single jobs need no partition: their own events make them."""
    from ftjm.cli.looking import shown
    from ftjm.jobhistory import from_snapshot, read_jobs, view

    names = asking.names(jobs)
    found = read_jobs(settings, names, archive, asking.gap)
    missing = []
    views = []
    for name in names:
        events = [
            each.event
            for each in found[name]
            if (until.offset is None or each.offset <= until.offset)
            and (until.time_ms is None or each.event.at <= until.time_ms)
        ]
        if (job := view(events) or (None if archive else from_snapshot(settings, name, until))) is None:
            missing.append(name)
        else:
            views.append({field: value for field, value in shown(job).items() if value not in ("", None, {}, [])})
    if views:
        common.emit(views[0] if len(names) == 1 else views, output)
    for queue, job_id in missing:
        typer.echo(f"error: expected a job {queue}/{job_id} in the log by then, but found none", err=True)
    if missing:
        raise typer.Exit(1)


def _show(scan: Scan, past: Past, partitions: list[int], until: Until, list_jobs: bool, output: Output) -> None:
    from ftjm.cli.rendering import plain
    from ftjm.durations import format_time
    from ftjm.replay import counts, replayed
    from ftjm.storeview import rows

    shown: list[dict[str, Any]] = []
    for partition in partitions:
        with (
            progress(f"partition {partition}") as tell,
            replayed(scan, partition, until, progress=tell, past=past) as folded,
        ):
            position = folded.position
            if list_jobs:
                shown += [
                    {"partition": partition, "job": row.key} | plain(row.value) for row in rows(folded.store, "job")
                ]
                continue
            shown.append(
                {
                    "partition": partition,
                    "offset": position.applied_offset,
                    "batch": position.batch_no,
                    "time": format_time(position.now),
                    "next_command": position.next_command,
                    "owner": position.owner,
                    "epoch": position.owner_epoch,
                    "state_hash": position.state_hash.hex(),
                    "queues": counts(folded.store),
                }
            )
    columns = ["partition", "job", "state", "run", "attempt", "priority", "reason"] if list_jobs else None
    common.emit(shown, output, columns=columns)


def _verify(
    scan: Scan, past: Past, settings: Settings, partitions: list[int], name: str | None, output: Output
) -> None:
    from ftjm.storeview import stores

    found = {key: path for key, path in stores(settings.data_dir, name).items() if key[1] in partitions}
    if not found:
        todo = "run it on a scheduler's machine, with its --data-dir"
        raise FtjmError("stores to compare with", f"none in {settings.data_dir}", todo)
    compared = [_compared(scan, past, scheduler, partition, path) for (scheduler, partition), path in found.items()]
    if output is not Output.table:
        common.emit(compared, output)
    else:
        common.emit(compared, output, columns=["store", "partition", "offset", "batch", "result"])
        for each in compared:
            if "row" in each:
                typer.echo(
                    f"{each['store']} partition {each['partition']}, first row that differs: {each['row']}\n"
                    f"  the log says    {each['log']}\n  the store holds {each['found']}"
                )
            elif "error" in each:
                typer.echo(f"{each['store']} partition {each['partition']} cannot be read: {each['error']}")
    if any(each["result"] in {"differs", "damaged"} for each in compared):
        raise typer.Exit(1)


def _compared(scan: Scan, past: Past, scheduler: str, partition: int, path: Path) -> dict[str, Any]:
    from ftjm.adapters.rocks import DamagedStore
    from ftjm.replay import verify

    shown: dict[str, Any] = {"store": scheduler, "partition": partition}
    try:
        with progress(f"{scheduler} partition {partition}") as tell:
            position, difference = verify(scan, partition, path, tell, past)
            if difference is not None:
                # The scheduler may have compacted files away that we were reading: only what differs twice differs.
                position, difference = verify(scan, partition, path, tell, past)
    except DamagedStore as error:
        # Its scheduler makes it anew once it reads these rows; who cannot wait stops it and deletes the directory.
        return shown | {"result": "damaged", "error": str(error)}
    result = "empty" if position.applied_offset < 0 else "differs" if difference else "equal"
    shown |= {"offset": position.applied_offset, "batch": position.batch_no, "result": result}
    return shown | (_row(difference) if difference else {})


def _row(difference: Difference) -> dict[str, Any]:
    from ftjm.cli.rendering import plain

    either = difference.replayed or difference.found
    assert either is not None
    return {
        "row": f"{either.kind} {either.key}",
        "log": plain(difference.replayed.value) if difference.replayed else "no such row",
        "found": plain(difference.found.value) if difference.found else "no such row",
    }


@contextlib.contextmanager
def progress(what: str) -> Iterator[Progress | None]:
    """A bar on a terminal, to be told how far it is; None in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda offset, end: bar.update(task, completed=offset, total=end)
