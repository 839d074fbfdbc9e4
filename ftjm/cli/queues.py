"""The verbs of queues: `list` and `describe`, which read heartbeats; `pause` and `resume`, which send a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import answers
from ftjm.cli.options import PATIENCE, Connection, OutputFormat, Patience
from ftjm.cli.output import Output, echo
from ftjm.cli.verbs import add_verb
from ftjm.cli.watch import Watch, emit_watched
from ftjm.runtime.errors import FtjmError, UsageError

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
    queue: Annotated[str, typer.Argument(help="The queue's name.")],
    watch: Watch = False,
    output: OutputFormat = Output.table,
) -> None:
    """Show one queue: its partition and its owner, jobs by state, and the workers that serve it.

    \b
    Examples:
      ftjm queue describe thumbnails
    """
    reader = PresenceReader(connection.settings())

    def find() -> dict[str, Any]:
        for row in _rows(reader.read(), output):
            if row["queue"] == queue:
                return row
        raise FtjmError(
            f"a queue {queue}", "no job in it, no worker that serves it, and no pause", "see `ftjm queue list`"
        )

    emit_watched(find, output, watch=watch)


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
