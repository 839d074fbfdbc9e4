"""Looking inside: replay, inspect."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import asking, common, replaying, watching
from ftjm.cli.common import Output
from ftjm.errors import FtjmError, UsageError

if TYPE_CHECKING:
    from ftjm.adapters.kafka_scan import Record, Scan
    from ftjm.config import Settings

TAIL = 20
Partitions = Annotated[list[int] | None, typer.Option("-p", "--partition", help="Only these; may be repeated.")]
Tail = Annotated[int, typer.Option("-n", "--tail", min=1, help="So many newest records of each partition.")]
From = Annotated[int | None, typer.Option("--from", min=0, metavar="OFFSET", help="From here instead.")]
Follow = Annotated[bool, typer.Option("-f", "--follow", help="Go on until Ctrl-C.")]
JobName = Annotated[str | None, typer.Option("--job", metavar="QUEUE/ID", help="Only records of this job.")]
Lines = Annotated[Output, typer.Option("-o", "--output", help="json is one object a line.")]


def register(app: typer.Typer) -> None:
    """Add this group's verbs to the command line."""
    app.command()(replaying.replay)
    group = typer.Typer(help="Look inside: partitions, logs and stores.", no_args_is_help=True)
    for verb in (partitions, events, commands, state):
        group.command()(verb)
    app.add_typer(group, name="inspect")


def partitions(
    watch: watching.Watch = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Show who owns each partition and who stands by, how far it has come, and what waits.

    `lag` counts commands in the log that are not decided yet; `idle` is how long ago the newest batch was.

    The owner is told by the log; whether it is alive, by its heartbeats of the last seconds.
    """
    from ftjm import partitionview

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    columns = ["partition", "owner", "alive", "epoch", "lag", "commands", "events", "idle", "others"]
    watching.emit(lambda: partitionview.overview(settings), output, columns=columns, watch=watch)


def events(
    partition: Partitions = None,
    tail: Tail = TAIL,
    start: From = None,
    follow: Follow = False,
    job: JobName = None,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: Lines = Output.json,
) -> None:
    """Print events as they are in the log: the newest, or from an offset on.

    \b
    Examples:
      ftjm inspect events --follow
      ftjm inspect events -p 3 --from 0 | jq 'select(.type == "AttemptFailed")'
    """
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    _print(settings, "events", partition, tail, start, follow, job, output)


def commands(
    partition: Partitions = None,
    tail: Tail = TAIL,
    start: From = None,
    follow: Follow = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: Lines = Output.json,
) -> None:
    """Print commands as they are in the log; what cannot be decoded is shown with the reason.

    \b
    Examples:
      ftjm inspect commands --follow
      ftjm inspect commands -p 3 --from 1200
    """
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    _print(settings, "commands", partition, tail, start, follow, None, output)


def _print(
    settings: Settings,
    kind: str,
    wanted: list[int] | None,
    tail: int,
    start: int | None,
    follow: bool,
    job: str | None,
    output: Output,
) -> None:
    from ftjm.jobhistory import open_scan

    key = "/".join(asking.names([job])[0]).encode() if job else None
    with open_scan(settings, kind) as scan:
        chosen = replaying.partitions_of(scan, wanted)
        for record in _records(scan, chosen, tail, start, follow, key):
            shown = describe(record)
            text = " ".join(str(shown.get(name, "")) for name in ("time", "partition", "offset", "type", "key"))
            common.emit_line(shown, output, text)


def _records(
    scan: Scan, chosen: list[int], tail: int, start: int | None, follow: bool, key: bytes | None
) -> Iterator[Record]:
    """From `start`, or the newest `tail` of each partition by time; then, with `follow`, what comes."""

    def wanted(records: Iterable[Record]) -> Iterator[Record]:
        return (record for record in records if key is None or record.key == key)

    if start is not None:
        yield from wanted(scan.read(dict.fromkeys(chosen, start), follow=follow))
        return
    ends = {partition: scan.bounds(partition)[1] for partition in chosen}
    # A transaction has at least one record besides its marker: half of all offsets are records.
    begin = {partition: 0 if key else max(0, end - 2 * tail) for partition, end in ends.items()}
    kept: dict[int, deque[Record]] = {partition: deque(maxlen=tail) for partition in chosen}
    for record in scan.read(begin):
        ends[record.partition] = record.offset + 1
        if key is None or record.key == key:
            kept[record.partition].append(record)
    yield from sorted((r for held in kept.values() for r in held), key=lambda r: (r.time_ms, r.partition, r.offset))
    if follow:
        yield from wanted(scan.read(ends, follow=True))


def describe(record: Record) -> dict[str, Any]:
    """A record as one object: its place, its type, its fields."""
    from ftjm.adapters import codec
    from ftjm.cli.rendering import plain
    from ftjm.core.errors import UndecodableError
    from ftjm.durations import format_time

    shown: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "time": format_time(record.time_ms),
        "key": plain(record.key),
    }
    if record.headers:
        shown["headers"] = {name: plain(value) for name, value in record.headers}
    try:
        decoded = codec.decode(record.value)
    except UndecodableError as error:
        return shown | {"type": None, "undecodable": error.code, "why": error.text, "value": plain(record.value[:1000])}
    return shown | {"type": type(decoded).__name__, "record": plain(decoded)}


def state(
    partition: Partitions = None,
    store: replaying.StoreName = None,
    kind: Annotated[str | None, typer.Option(help="Only rows of this kind, such as job, ready or timer.")] = None,
    data_dir: common.DataDir = None,
    output: Lines = Output.json,
) -> None:
    """Print what the stores under --data-dir hold, row by row; also while their schedulers run.

    What a scheduler has not flushed yet (some seconds) is not seen.

    \b
    Examples:
      ftjm inspect state --store scheduler-1 --kind position
      ftjm inspect state -p 3 --kind job | jq .value.state
    """
    from ftjm.cli.rendering import plain
    from ftjm.storeview import PREFIXES, look, rows, stores

    if kind is not None and kind not in PREFIXES:
        raise UsageError(f"a kind of rows: {', '.join(PREFIXES)}", kind, "leave --kind out to see all")
    settings = common.settings(data_dir=data_dir)
    found = {
        key: path for key, path in stores(settings.data_dir, store).items() if not partition or key[1] in partition
    }
    if not found:
        todo = "run it on a scheduler's machine, with its --data-dir"
        raise FtjmError("stores to look into", f"none in {settings.data_dir}", todo)
    for (scheduler, number), path in found.items():
        opened = look(path)
        try:
            for row in rows(opened, kind):
                shown = {"store": scheduler, "partition": number, "kind": row.kind, "key": row.key}
                shown["value"] = plain(row.value)
                common.emit_line(shown, output, f"{scheduler} {number} {row.kind} {row.key}")
        finally:
            opened.close()
