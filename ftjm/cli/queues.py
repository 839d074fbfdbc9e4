"""The verbs of queues: `list`, which reads heartbeats; `describe`, which asks the API where one is named, else folds
the log; `pause` and `resume`, which send a command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from ftjm.cli import answers, api_client, declarations
from ftjm.cli.options import PATIENCE, ApiSource, Connection, OutputFormat, Patience
from ftjm.cli.output import Output, echo
from ftjm.cli.verbs import add_verb
from ftjm.cli.watch import Watch, emit_watched
from ftjm.runtime.errors import FtjmError, UsageError
from ftjm.runtime.plain_values import present

if TYPE_CHECKING:
    from collections.abc import Callable

    from ftjm.core.records.commands import QueueCommand
    from ftjm.readmodel.presence import Presence
    from ftjm.runtime.config import Settings

COLUMNS = (
    *("queue", "waiting", "ready", "running", "held", "succeeded", "failed", "cancelled"),
    *("oldest", "free", "slots", "paused"),
)
Queues = Annotated[list[str], typer.Argument(metavar="QUEUE...", help="Queues, by name.")]


def register(group: typer.Typer) -> None:
    """Add `queue` with its verbs."""
    queues = typer.Typer(
        help="Show queues: their jobs by state, and the workers that serve them. Pause and resume them.",
        no_args_is_help=True,
    )
    add_verb(queues, list_queues, "list")
    add_verb(queues, describe_queue, "describe")
    add_verb(queues, pause)
    add_verb(queues, resume)
    group.add_typer(queues, name="queue")


def list_queues(connection: Connection, watch: Watch = False, output: OutputFormat = Output.table) -> None:
    """List queues: jobs by state, how long the oldest ready one waits, and the slots that workers have for them.

    From the heartbeats of the last seconds. `waiting` counts the jobs that may not start yet: scheduled, or waiting
    for a retry.

    \b
    Examples:
      ftjm queue list --watch
      ftjm queue list -o json | jq '.[] | select(.ready > 0 and .slots == 0).queue'
    """
    reader = PresenceReader(connection.settings())
    emit_watched(lambda: _rows(reader.read(), output), output, columns=COLUMNS, watch=watch)


def describe_queue(
    connection: Connection,
    source: ApiSource,
    queue: Annotated[str, typer.Argument(help="The queue's name.")],
    watch: Watch = False,
    output: OutputFormat = Output.table,
) -> None:
    """Show one queue: what it is declared to, its pause, its jobs by state, and the workers that serve it.

    With -o yaml, its declaration as a file for `ftjm apply -f`. Where it reads: see `ftjm list --help`. With --watch
    and without an API, it shows what heartbeats tell, as `ftjm queue list`.

    \b
    Examples:
      ftjm queue describe thumbnails
      ftjm queue describe thumbnails -o yaml >thumbnails.yaml
    """
    settings = connection.settings(api=source.api)
    if not source.from_log and settings.api:
        read = _by_api(settings, queue)
    else:
        read = _by_heartbeats(settings, queue) if watch and output is not Output.yaml else _by_log(settings, queue)

    def find() -> dict[str, Any]:
        if (row := read()) is None:
            found = "no job in it, no worker that serves it, no pause, and no declaration"
            raise FtjmError(f"a queue {queue}", found, "see `ftjm queue list`")
        if output is Output.yaml:
            return _resource(row)
        return _described(row) if output is Output.table else row

    emit_watched(find, output, watch=watch)


def _by_api(settings: Settings, queue: str) -> Callable[[], dict[str, Any] | None]:
    def read() -> dict[str, Any] | None:
        return api_client.get_fresh(settings, f"/queues/{quote(queue, safe='')}")

    return read


def _by_log(settings: Settings, queue: str) -> Callable[[], dict[str, Any] | None]:
    from ftjm.readmodel import one_shot
    from ftjm.readmodel.cluster import queue_renderer
    from ftjm.readmodel.documents.fields import plain_document

    presence = PresenceReader(settings)

    def read() -> dict[str, Any] | None:
        with one_shot.folded_log(settings, queue) as (reader, partitions):
            rows, oldest = reader.queue_rows(queue), reader.oldest_ready(queue)
        document = queue_renderer(presence.read(), partitions)(queue, rows, oldest)
        return plain_document(document) if any(rows) or document.workers else None

    return read


def _by_heartbeats(settings: Settings, queue: str) -> Callable[[], dict[str, Any] | None]:
    presence = PresenceReader(settings)

    def read() -> dict[str, Any] | None:
        return next((row for row in _rows(presence.read(), Output.json) if row["queue"] == queue), None)

    return read


def _resource(row: dict[str, Any]) -> dict[str, Any]:
    """A queue's declaration as a file of resources. Raises FtjmError if it is not declared."""
    from ftjm.specs.resources import QUEUE

    declared = row.get("declaration")
    if declared is None:
        found = "none: it has the defaults"
        raise FtjmError(f"a declaration of queue {row['queue']}", found, "declare it with `ftjm apply -f`")
    return declarations.resource(QUEUE, row["queue"], declared)


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """A queue for people: first what it is declared to, field by field."""
    row = _with_oldest(row)
    declared = row.pop("declaration", None)
    place = {name: row.pop(name) for name in ("queue", "partition", "owner") if name in row}
    if declared is None:
        return place | {"declared": "no"} | row
    spec = declared["spec"]
    rate, keys = spec.get("rate"), spec.get("concurrency_keys")
    shown = {
        **declarations.shown(declared),
        "concurrency": spec.get("concurrency", "no limit"),
        "rate": f"{rate['limit']} in {rate['per']}, burst {rate['burst']}" if rate else "no limit",
        "concurrency_keys": f"{keys['limit']} job(s) of a key, then {keys['on_conflict']}" if keys else None,
        "waiting_limits": ", ".join(
            f"{one.get('reason', 'any reason')} after {one['after']}: {one['action']}"
            for one in spec.get("waiting_limits", ())
        )
        or None,
        "dead_letter": spec.get("dead_letter", {}).get("retention"),
        "ageing": spec["ageing"],
        "defaults": ", ".join(_flat(spec.get("defaults", {}))) or None,
    }
    return place | present(shown) | row


def _flat(fields: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Each field as `NAME VALUE`, with a dotted name where it is part of another."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name} {value}"


def pause(
    connection: Connection,
    queues: Queues,
    reason: Annotated[str, typer.Option(help="Why; shown by `ftjm explain`.")] = "",
    patience: Patience = PATIENCE,
    output: OutputFormat = Output.table,
) -> None:
    """Pause queues: none of their jobs starts until they are resumed.

    Attempts that run go on, and so do those that were sent to a worker just before. Jobs may be submitted meanwhile. A
    queue need not have a job to be paused. An upgraded cluster takes this once the upgrade is final.

    \b
    Examples:
      ftjm queue pause thumbnails --reason "the disk is full"
    """
    from ftjm.core.records.commands import PauseQueue

    _send(connection, queues, lambda queue: PauseQueue(queue=queue, reason=reason), patience, output)


def resume(
    connection: Connection, queues: Queues, patience: Patience = PATIENCE, output: OutputFormat = Output.table
) -> None:
    """Resume queues that were paused: their jobs start again.

    \b
    Examples:
      ftjm queue resume thumbnails
    """
    from ftjm.core.records.commands import ResumeQueue

    _send(connection, queues, lambda queue: ResumeQueue(queue=queue), patience, output)


def _send(
    connection: Connection, queues: list[str], make: Callable[[str], QueueCommand], patience: str, output: Output
) -> None:
    """Send a command to each queue: see `answers.carry_out`."""
    from ftjm.core.names import NAME_TEXT, is_name

    for queue in queues:
        if not is_name(queue):
            raise UsageError(f"the name of a queue: {NAME_TEXT}", repr(queue), "see `ftjm queue list`")
    commands = [make(queue) for queue in dict.fromkeys(queues)]
    answers.carry_out(connection.settings(), patience, commands, output, ["queue", "answer"])


def _rows(presence: Presence, output: Output) -> list[dict[str, Any]]:
    """All queues: as documents, or as rows of a table."""
    from ftjm.readmodel.cluster import queue_documents
    from ftjm.readmodel.documents.fields import plain_document

    rows = [plain_document(document) for document in queue_documents(presence)]
    return [_with_oldest(row) for row in rows] if output is Output.table else rows


def _with_oldest(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table: it shows how long the oldest READY job waits, instead of when that job was submitted."""
    from ftjm.runtime.durations import age_of, parse_time

    since = row.pop("oldest_ready_at", None)
    return row | ({"oldest": age_of(parse_time(since))} if since else {})


class PresenceReader:
    """Reads the heartbeats of the last seconds, and warns once of partitions whose queues no scheduler reports."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._warnings: set[str] = set()

    def read(self) -> Presence:
        """The members that sent heartbeats."""
        from ftjm.readmodel.presence import read_presence

        presence, _ = read_presence(self._settings)
        schedulers = presence.live_schedulers()
        reported = {report.partition for one in schedulers for report in one.heartbeat.partitions}
        unowned = sorted(reported - set(presence.owners()))
        if not schedulers:
            self._warn("no scheduler was heard in the last seconds: what queues hold is not known")
        elif unowned:
            self._warn(f"partitions {', '.join(map(str, unowned))} have no owner now: their queues are not shown")
        return presence

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            echo(text, err=True)
