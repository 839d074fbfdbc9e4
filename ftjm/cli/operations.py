"""Verbs for who operates a cluster: queue, worker, drain, doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.actor import actor
from ftjm.cli import asking, common, roles, watching
from ftjm.cli.common import Output
from ftjm.errors import FtjmError

if TYPE_CHECKING:
    from ftjm.config import Settings

WAIT = "1h"
QUEUE_COLUMNS = (
    *("queue", "waiting", "ready", "running", "held", "succeeded", "failed", "cancelled"),
    *("oldest", "free", "slots"),
)
WORKER_COLUMNS = ("worker", "state", "busy", "slots", "queues", "heard_seconds", "host", "pid")

Wait = Annotated[bool, typer.Option("--wait", help="Until it has left.")]
Patience = Annotated[str, typer.Option("--timeout", help="With --wait: for so long, such as 10m.")]


def register(app: typer.Typer) -> None:
    """Add `queue`, `worker`, `drain` and `doctor`."""
    queues = typer.Typer(help="Look at queues: what they hold, and who serves them.", no_args_is_help=True)
    queues.command(name="list")(list_queues)
    queues.command(name="describe")(describe_queue)
    app.add_typer(queues, name="queue")
    workers = typer.Typer(invoke_without_command=True, callback=roles.worker)
    workers.command(name="list")(list_workers)
    workers.command(name="describe")(describe_worker)
    workers.command(name="drain")(drain)
    app.add_typer(workers, name="worker")
    app.command()(drain)
    app.command()(doctor)


def list_queues(
    watch: watching.Watch = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """List queues: jobs by state, how long the oldest ready one waits, and the slots that workers have for them.

    By the owners' heartbeats of the last seconds. `waiting` are jobs for which it is not time yet.

    \b
    Examples:
      ftjm queue list --watch
      ftjm queue list -o json | jq '.[] | select(.ready > 0 and .slots == 0).queue'
    """
    from ftjm.heard import queue_rows

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    said: set[str] = set()
    watching.emit(lambda: queue_rows(_owned(settings, said)), output, columns=QUEUE_COLUMNS, watch=watch)


def describe_queue(
    queue: Annotated[str, typer.Argument(help="The queue's name.")],
    watch: watching.Watch = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Show one queue: its partition and its owner, jobs by state, and the workers that serve it.

    \b
    Examples:
      ftjm queue describe thumbnails
    """
    from ftjm.heard import queue_rows

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)

    said: set[str] = set()

    def look() -> dict[str, Any]:
        for row in queue_rows(_owned(settings, said)):
            if row["queue"] == queue:
                return row
        raise FtjmError(f"a queue {queue}", "no job in it, and no worker that serves it", "see `ftjm queue list`")

    watching.emit(look, output, watch=watch)


def list_workers(
    watch: watching.Watch = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """List workers that were heard in the last minute: what they serve, and how busy they are.

    OPEN takes jobs, DRAINING finishes what it has, and SILENT has not been heard for its lease.

    \b
    Examples:
      ftjm worker list --watch
    """
    from ftjm.heard import listen_back, worker_rows

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    watching.emit(lambda: worker_rows(listen_back(settings)[0].present()), output, columns=WORKER_COLUMNS, watch=watch)


def describe_worker(
    name: Annotated[str, typer.Argument(help="The worker's name.")],
    watch: watching.Watch = False,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Show one worker: its session, its slots, its queues.

    \b
    Examples:
      ftjm worker describe worker-0
    """
    from ftjm.heard import listen_back, worker_rows

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)

    def look() -> Any:
        found = [row for row in worker_rows(listen_back(settings)[0].present()) if row["worker"] == name]
        if not found:
            raise FtjmError(f"a worker {name}", "none of that name that was heard lately", "see `ftjm worker list`")
        return found[0] if len(found) == 1 else found

    watching.emit(look, output, watch=watch)


def drain(
    name: Annotated[str, typer.Argument(metavar="WORKER", help="The worker's name.")],
    wait: Wait = False,
    timeout: Patience = WAIT,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Ask a worker, wherever it is, to take nothing new, finish what it runs, and leave: as SIGTERM does.

    Exits 1 if the worker does not answer, or with --wait if it has not left in time.

    \b
    Examples:
      ftjm worker drain worker-0 --wait
    """
    from ftjm.core.messages import SessionState
    from ftjm.drain import drain as ask
    from ftjm.heard import worker_rows

    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    seconds = asking.seconds("--timeout", timeout) if wait else 0.0
    found = ask(settings, name, actor(), wait_seconds=seconds)
    common.emit(worker_rows(found), output, columns=WORKER_COLUMNS)
    if wait and any(worker.state != SessionState.CLOSED for worker in found):
        typer.echo(f"error: expected {name} to leave within {timeout}, but it has not", err=True)
        raise typer.Exit(1)


def doctor(
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Check what ftjm needs here: settings, disk, Kafka, its topics and settings, the clock, who is there.

    Exits 1 if anything fails. One small record is written, on a lane of replies that nobody waits on.

    \b
    Examples:
      ftjm doctor
      ftjm doctor -o json | jq '.[] | select(.status != "ok")'
    """
    from ftjm import doctor as examination

    def load() -> Settings:
        return common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)

    findings = [finding.row() for finding in examination.examine(load)]
    common.emit(findings, output, columns=["check", "status", "found", "todo"])
    if any(finding["status"] == examination.FAIL for finding in findings):
        raise typer.Exit(1)


def _owned(settings: Settings, said: set[str]) -> Any:
    """What was heard; says once where partitions have no owner, of whose queues nobody tells."""
    from ftjm.heard import listen_back

    heard, _ = listen_back(settings)
    told = {report.partition for beat in heard.schedulers.values() for report in beat.partitions}
    missing = sorted(told - set(heard.owners()))
    text = ""
    if not heard.schedulers:
        text = "no scheduler was heard in the last seconds: what queues hold is not known"
    elif missing:
        text = f"partitions {', '.join(map(str, missing))} have no owner now: of their queues there is no word"
    if text and text not in said:
        said.add(text)
        typer.echo(text, err=True)
    return heard
