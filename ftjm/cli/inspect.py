"""The verbs `inspect partitions`, `events`, `commands` and `state`: what the logs and the stores hold."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.options import (
    Connection,
    OutputFormat,
    Partitions,
    StoreName,
    chosen_partitions,
    job_names,
    load_settings,
)
from ftjm.cli.output import Output, emit_line
from ftjm.cli.verbs import add_verb
from ftjm.cli.watch import Watch, emit_watched
from ftjm.runtime.errors import FtjmError, UsageError

if TYPE_CHECKING:
    from ftjm.adapters.kafka.scan import Scan
    from ftjm.adapters.records import Record
    from ftjm.runtime.config import Settings

TAIL = 20
LINE = ("at", "written_at", "partition", "offset", "event", "type", "job", "queue", "key")
"""What a line of text shows of a record, as far as the record has it."""
TAIL_MAX = 1_000_000
Tail = Annotated[
    int, typer.Option("-n", "--tail", min=1, max=TAIL_MAX, help="How many records of each partition, the newest.")
]
From = Annotated[int | None, typer.Option("--from", min=0, metavar="OFFSET", help="Start at this offset instead.")]
Follow = Annotated[bool, typer.Option("-f", "--follow", help="Print new records too, until Ctrl-C.")]
JobName = Annotated[str | None, typer.Option("--job", metavar="QUEUE/ID", help="Only records of this job.")]
Lines = Annotated[Output, typer.Option("-o", "--output", help="json is one object a line.")]


def register(group: typer.Typer) -> None:
    """Add `inspect` with its verbs."""
    inspect = typer.Typer(help="Look inside: partitions, logs and stores.", no_args_is_help=True)
    for verb in (partitions, events, commands, state):
        add_verb(inspect, verb)
    group.add_typer(inspect, name="inspect")


def partitions(
    connection: Connection,
    watch: Watch = False,
    output: OutputFormat = Output.table,
) -> None:
    """Show the owner and the standbys of each partition, its offsets, and the commands that wait.

    `lag` counts commands in the log that are not decided yet; `idle` is the time since the newest batch.

    The owner comes from the log; whether it is alive, from the heartbeats of the last seconds.
    """
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.readmodel.partitions import partition_documents

    settings = connection.settings()
    columns = ["partition", "owner", "alive", "epoch", "lag", "commands", "events", "idle", "others"]

    def rows() -> list[dict[str, Any]]:
        found = [plain_document(document) for document in partition_documents(settings)]
        return [_table_row(row) for row in found] if output is Output.table else found

    emit_watched(rows, output, columns=columns, watch=watch)


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    """A partition's document, with what a table shows in place of lists and times."""
    from ftjm.runtime.durations import age_of, parse_time

    others = sorted(
        f"{role['scheduler']} {role['role']}" for role in row["roles"] if role["scheduler"] != row.get("owner")
    )
    return row | {
        "commands": row["commands_end"],
        "events": row["events_end"],
        "idle": age_of(parse_time(row["decided_at"])) if "decided_at" in row else None,
        "others": ", ".join(others),
    }


def events(
    connection: Connection,
    partition: Partitions = None,
    tail: Tail = TAIL,
    start: From = None,
    follow: Follow = False,
    job: JobName = None,
    output: Lines = Output.json,
) -> None:
    """Print the log of events: the newest, or those from an offset on, with the ends of batches.

    Events look as in `ftjm history`. Other records are printed with all their fields.

    \b
    Examples:
      ftjm inspect events --follow
      ftjm inspect events -p 3 --from 0 | jq 'select(.event == "AttemptFailed")'
    """
    _print(connection.settings(), "events", partition, tail, start, follow, job, output)


def commands(
    connection: Connection,
    partition: Partitions = None,
    tail: Tail = TAIL,
    start: From = None,
    follow: Follow = False,
    output: Lines = Output.json,
) -> None:
    """Print commands as they are in the log. One that cannot be decoded is shown with the reason.

    \b
    Examples:
      ftjm inspect commands --follow
      ftjm inspect commands -p 3 --from 1200
    """
    _print(connection.settings(), "commands", partition, tail, start, follow, None, output)


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
    from ftjm.adapters.kafka.patience import open_scan

    key = "/".join(job_names([job])[0]).encode() if job else None
    with open_scan(settings, kind) as scan:
        chosen = chosen_partitions(scan, wanted)
        for record in _records(scan, chosen, tail, start, follow, key):
            shown = describe(record)
            emit_line(shown, output, " ".join(str(shown[name]) for name in LINE if name in shown))


def _records(
    scan: Scan, chosen: list[int], tail: int, start: int | None, follow: bool, key: bytes | None
) -> Iterator[Record]:
    """Records from the offset `start`, or the newest `tail` of each partition by time; with `follow`, new ones too."""

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
    """A record as one object: an event as its document, any other record as its place, its type and its fields."""
    from ftjm.adapters.avro import codec
    from ftjm.core.errors import UndecodableError
    from ftjm.core.records.events import Event
    from ftjm.readmodel.documents.event import event_document
    from ftjm.readmodel.documents.fields import plain_document
    from ftjm.runtime.durations import format_time
    from ftjm.runtime.plain_values import plain, present

    try:
        decoded = codec.decode(record.value)
        found = {"type": type(decoded).__name__, "record": plain(decoded)}
    except UndecodableError as error:
        decoded = None
        found = {"undecodable": error.code, "why": error.text, "value": plain(record.value[:1000])}
    if isinstance(decoded, Event):
        return plain_document(event_document(decoded, record.partition, record.offset))
    place = {
        "partition": record.partition,
        "offset": record.offset,
        "written_at": format_time(record.time_ms),
        "key": plain(record.key),
        "headers": {name: plain(value) for name, value in record.headers} or None,
    }
    return present(place) | found


def state(
    partition: Partitions = None,
    store: StoreName = None,
    kind: Annotated[str | None, typer.Option(help="Only rows of this kind, such as job, ready or timer.")] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Directory of the stores.")] = None,
    output: Lines = Output.json,
) -> None:
    """Print the rows of the stores under --data-dir. Their schedulers may keep running.

    Rows of the last seconds, which a scheduler has not flushed yet, are missing.

    \b
    Examples:
      ftjm inspect state --store scheduler-1 --kind position
      ftjm inspect state -p 3 --kind job | jq .value.state
    """
    from ftjm.history.store_rows import BY_NAME, open_read_only, rows, stores
    from ftjm.runtime.plain_values import plain, present

    if kind is not None and kind not in BY_NAME:
        raise UsageError(f"a kind of rows: {', '.join(BY_NAME)}", kind, "leave --kind out to see all")
    settings = load_settings(data_dir=data_dir)
    found = {
        key: path for key, path in stores(settings.data_dir, store).items() if not partition or key[1] in partition
    }
    if not found:
        todo = "run it on a scheduler's machine, with its --data-dir"
        raise FtjmError("stores to look into", f"none in {settings.data_dir}", todo)
    for (scheduler, number), path in found.items():
        opened = open_read_only(path)
        try:
            for row in rows(opened, kind):
                shown = {"store": scheduler, "partition": number, "kind": row.kind, "key": row.key}
                shown["value"] = plain(row.value)
                emit_line(present(shown), output, f"{scheduler} {number} {row.kind} {row.key}")
        finally:
            opened.close()
