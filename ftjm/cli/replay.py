"""The verb `replay`: state rebuilt from the log, shown or compared with a live store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.options import (
    ArchiveUrl,
    Connection,
    OutputFormat,
    Partitions,
    StoreName,
    chosen_partitions,
    job_names,
)
from ftjm.cli.output import Output, echo, emit, progress, warn_trimmed
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.runtime.plain_values import present

if TYPE_CHECKING:
    from ftjm.adapters.kafka.scan import Scan
    from ftjm.history.replay import Difference, Until
    from ftjm.history.trimmed import WholeLog
    from ftjm.runtime.config import Settings

JobNames = Annotated[list[str] | None, typer.Argument(metavar="JOB", help="Only these jobs.", show_default=False)]
UntilText = Annotated[
    str | None,
    typer.Option(
        "--until", metavar="OFFSET|TIME", help="Stop behind this offset or time (default: at the end of the log)."
    ),
]
OFFSET = re.compile(r"[0-9]{1,18}\Z")
"""Offsets have 63 bits."""
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare with the stores under --data-dir; exit with 1 where one differs.")
]
JOBS = ("partition", "job", "state", "run", "attempt", "priority", "reason")
PARTITIONS = (
    "partition",
    "applied_offset",
    "batch",
    "decided_at",
    "next_command",
    "owner",
    "epoch",
    "state_hash",
    "queues",
)
ListJobs = Annotated[bool, typer.Option("--jobs", help="Show each job of the partitions, instead of their sums.")]


def register(group: typer.Typer) -> None:
    """Add `replay`."""
    add_verb(group, replay)


def replay(
    connection: Connection,
    jobs: JobNames = None,
    partition: Partitions = None,
    until: UntilText = None,
    verify: Verify = False,
    list_jobs: ListJobs = False,
    store: StoreName = None,
    archive: ArchiveUrl = None,
    output: OutputFormat = Output.table,
) -> None:
    """Rebuild the state of jobs, of partitions, or of the whole cluster, from the log.

    A trimmed log is folded from the newest snapshot that is old enough, or, with --archive, from its beginning.

    With --verify, the state is compared with the stores of the schedulers on this machine, each at its own position.
    The first row that differs is shown.

    \b
    Examples:
      ftjm replay
      ftjm replay thumbnails/a-200 --until 2030-01-31T18:00:00Z
      ftjm replay -p 3 --until 120000 --jobs -o json
      ftjm replay --verify
      ftjm replay --archive s3://bucket/ftjm --until 2030-01-31T18:00:00Z
    """
    from ftjm.adapters.kafka.patience import open_scan
    from ftjm.history.trimmed import WholeLog

    settings = connection.settings()
    limit = _until(until)
    if jobs:
        if verify or partition:
            raise UsageError("a job, or --verify and --partition", "both", "leave one of them out")
        _jobs(settings, jobs, limit, archive, output)
        return
    whole_log = WholeLog(settings, archive)
    with open_scan(settings, "events") as scan:
        wanted = chosen_partitions(scan, partition)
        if not verify:
            _show(scan, whole_log, wanted, limit, list_jobs, output)
            return
        if until:
            raise UsageError("--verify or --until", "both", "a store is compared at its own position")
        _verify(scan, whole_log, settings, wanted, store, output)


def _until(text: str | None) -> Until:
    from ftjm.history.replay import Until
    from ftjm.runtime.durations import TIME_EXAMPLES, parse_time

    if text is None:
        return Until()
    if OFFSET.match(text):
        return Until(offset=int(text))
    try:
        return Until(time_ms=parse_time(text))
    except ValueError:
        raise UsageError(f"an offset, or {TIME_EXAMPLES}", repr(text), "mend --until") from None


def _jobs(settings: Settings, jobs: list[str], until: Until, archive: str | None, output: Output) -> None:
    """Single jobs need no partition: their own events make them."""
    from ftjm.history.jobs import find_jobs
    from ftjm.readmodel.documents.fields import plain_document

    names = job_names(jobs)
    found = find_jobs(settings, names, until, archive, warn_trimmed)
    missing = [name for name, job in found.items() if job is None]
    views = [plain_document(job.document()) for job in found.values() if job is not None]
    if views:
        emit(views[0] if len(names) == 1 else views, output)
    for queue, job_id in missing:
        echo(f"error: expected a job {queue}/{job_id} in the log by then, but found none", err=True)
    if missing:
        raise typer.Exit(1)


def _show(
    scan: Scan, whole_log: WholeLog, partitions: list[int], until: Until, list_jobs: bool, output: Output
) -> None:
    from ftjm.history.replay import counts, job_summaries, replayed
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.runtime.durations import format_time

    shown: list[dict[str, Any]] = []
    for partition in partitions:
        with (
            progress(f"partition {partition}") as show_progress,
            replayed(scan, partition, until, progress=show_progress, whole_log=whole_log) as folded,
        ):
            position = folded.position
            if list_jobs:
                records = whole_log.records(scan, "events", [partition])
                jobs = job_summaries(folded, records)
                shown += [{"partition": partition} | plain_document(job) for job in jobs]
                continue
            row = {
                "partition": partition,
                "owner": position.owner,
                "epoch": position.owner_epoch,
                "batch": position.batch_no,
                "decided_at": format_time(position.now),
                "next_command": position.next_command,
                "applied_offset": position.applied_offset,
                "state_hash": position.state_hash.hex(),
                "queues": counts(folded.store),
            }
            shown.append(present(row))
    emit(shown, output, columns=JOBS if list_jobs else PARTITIONS)


def _verify(
    scan: Scan, whole_log: WholeLog, settings: Settings, partitions: list[int], name: str | None, output: Output
) -> None:
    from ftjm.history.store_rows import stores

    found = {key: path for key, path in stores(settings.data_dir, name).items() if key[1] in partitions}
    if not found:
        todo = "run it on a scheduler's machine, with its --data-dir"
        raise FtjmError("stores to compare with", f"none in {settings.data_dir}", todo)
    compared = [
        _compared(scan, whole_log, scheduler, partition, path) for (scheduler, partition), path in found.items()
    ]
    if output is not Output.table:
        emit(compared, output)
    else:
        emit(compared, output, columns=["store", "partition", "offset", "batch", "result"])
        for each in compared:
            if "row" in each:
                echo(
                    f"{each['store']} partition {each['partition']}, first row that differs: {each['row']}\n"
                    f"  the log says    {each['log']}\n  the store holds {each['found']}"
                )
            elif "error" in each:
                echo(f"{each['store']} partition {each['partition']} cannot be read: {each['error']}")
    if any(each["result"] in {"differs", "damaged"} for each in compared):
        raise typer.Exit(1)


def _compared(scan: Scan, whole_log: WholeLog, scheduler: str, partition: int, path: Path) -> dict[str, Any]:
    from ftjm.adapters.rocksdb import DamagedStore
    from ftjm.history.replay import verify

    shown: dict[str, Any] = {"store": scheduler, "partition": partition}
    try:
        with progress(f"{scheduler} partition {partition}") as show_progress:
            position, difference = verify(scan, partition, path, show_progress, whole_log)
            if difference is not None:
                # The scheduler may have deleted files by a compaction while they were read here. So a difference
                # counts only if a second comparison finds one, too.
                position, difference = verify(scan, partition, path, show_progress, whole_log)
    except DamagedStore as error:
        # The store's scheduler rebuilds it once it reads these rows. To rebuild it at once, an operator stops the
        # scheduler and deletes the directory.
        return shown | {"result": "damaged", "error": str(error)}
    result = "empty" if position.applied_offset < 0 else "differs" if difference else "equal"
    shown |= {"offset": position.applied_offset, "batch": position.batch_no, "result": result}
    return shown | (_row(difference) if difference else {})


def _row(difference: Difference) -> dict[str, Any]:
    from ftjm.runtime.plain_values import plain

    either = difference.replayed or difference.found
    assert either is not None
    return {
        "row": f"{either.kind} {either.key}",
        "log": plain(difference.replayed.value) if difference.replayed else "no such row",
        "found": plain(difference.found.value) if difference.found else "no such row",
    }
