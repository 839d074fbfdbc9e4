"""Verbs on jobs: submit, get, history, logs, cancel, hold, release, rerun."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import asking, common, joblogs, looking, submit
from ftjm.cli.common import Output

if TYPE_CHECKING:
    from ftjm.core.commands import Command

Reason = Annotated[str, typer.Option(help="Why; told in the job's history.")]


def register(app: typer.Typer) -> None:
    """Add this group's verbs to the command line."""
    submit.register(app)
    for verb in (looking.get, looking.history, joblogs.logs, cancel, hold, release, rerun):
        app.command()(verb)


def cancel(
    jobs: asking.Jobs,
    reason: Reason = "",
    patience: asking.Patience = asking.PATIENCE,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Cancel jobs: at once while they wait; a running one gets SIGTERM, and SIGKILL after its grace period.

    A running job stays RUNNING until it has stopped; an outcome that it reaches first wins.

    \b
    Examples:
      ftjm cancel thumbnails/a-200 --reason "wrong width"
    """
    from ftjm.core.commands import CancelJob

    options = {"bootstrap": bootstrap, "cluster": cluster, "data_dir": data_dir, "kafka": kafka}
    _command(
        jobs, lambda queue, job_id: CancelJob(queue=queue, job_id=job_id, reason=reason), patience, output, options
    )


def hold(
    jobs: asking.Jobs,
    reason: Reason = "",
    patience: asking.Patience = asking.PATIENCE,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Keep waiting jobs from starting, until they are released or cancelled.

    \b
    Examples:
      ftjm hold thumbnails/a-200 --reason "disk is full"
    """
    from ftjm.core.commands import HoldJob

    options = {"bootstrap": bootstrap, "cluster": cluster, "data_dir": data_dir, "kafka": kafka}
    _command(jobs, lambda queue, job_id: HoldJob(queue=queue, job_id=job_id, reason=reason), patience, output, options)


def release(
    jobs: asking.Jobs,
    patience: asking.Patience = asking.PATIENCE,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Let held jobs go on where they were.

    \b
    Examples:
      ftjm release thumbnails/a-200
    """
    from ftjm.core.commands import ReleaseJob

    options = {"bootstrap": bootstrap, "cluster": cluster, "data_dir": data_dir, "kafka": kafka}
    _command(jobs, lambda queue, job_id: ReleaseJob(queue=queue, job_id=job_id), patience, output, options)


def rerun(
    jobs: asking.Jobs,
    reason: Reason = "",
    command_id: Annotated[
        str | None, typer.Option(help="Names this wish: the same one again (within 24 h) asks for nothing more.")
    ] = None,
    patience: asking.Patience = asking.PATIENCE,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Run ended jobs once more: a new run, with all its attempts before it. What went before stays in the history.

    \b
    Examples:
      ftjm rerun thumbnails/a-200 --reason "the disk is larger now"
    """
    import uuid_utils

    from ftjm.core.commands import RerunJob

    wish = command_id or str(uuid_utils.uuid7())

    def make(queue: str, job_id: str) -> Command:
        # Remembered by partition, so one wish for several jobs needs a name for each.
        named = wish if len(jobs) == 1 else f"{wish[:64]}.{job_id[:63]}"
        return RerunJob(queue=queue, job_id=job_id, reason=reason, command_id=named)

    options = {"bootstrap": bootstrap, "cluster": cluster, "data_dir": data_dir, "kafka": kafka}
    _command(jobs, make, patience, output, options)


def _command(
    jobs: list[str], make: Callable[[str, str], Command], patience: str, output: Output, options: dict[str, Any]
) -> None:
    """Send a command to each job, and tell what was decided. Exits 1 if any was refused."""
    names = asking.names(jobs)
    with asking.client_of(common.settings(**options), patience) as client:
        tickets = [client.send(make(queue, job_id)) for queue, job_id in names]
        asking.ask(client, tickets)
    rows = [asking.row(ticket) for ticket in tickets]
    if len(rows) > 1:
        common.emit(rows, output, columns=["job", "answer", "state", "run", "why"])
    else:
        common.emit({name: value for name, value in rows[0].items() if value not in ("", None)}, output)
    if any(ticket.refused for ticket in tickets):
        raise typer.Exit(1)
