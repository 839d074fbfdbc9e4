"""Verbs on jobs that exist: get, history, logs, cancel, hold, release, rerun."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import asking, common, joblogs, submit
from ftjm.cli.common import Output

if TYPE_CHECKING:
    from ftjm.core.commands import Command
    from ftjm.jobhistory import JobView, Recorded

Reason = Annotated[str, typer.Option(help="Why; told in the job's history.")]


def register(app: typer.Typer) -> None:
    """Add this group's verbs to the command line."""
    submit.register(app)
    for verb in (get, history, joblogs.logs, cancel, hold, release, rerun):
        app.command()(verb)


# ---- looking


def get(
    jobs: asking.Jobs,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Show jobs as they are now, by the log.

    \b
    Examples:
      ftjm get thumbnails/a-200
      ftjm get a b c -o json
    """
    from ftjm.jobhistory import view

    names, found = _read(jobs, bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    views = {name: view(recorded.event for recorded in found[name]) for name in names}
    rows = [shown(found_view) for found_view in views.values() if found_view]
    if len(names) == 1 and rows:
        common.emit({name: value for name, value in rows[0].items() if value not in ("", None, {}, [])}, output)
    elif rows:
        common.emit(
            rows, output, columns=["job", "state", "run", "attempt", "priority", "submitted", "ended", "reason"]
        )
    _missing([name for name, found_view in views.items() if found_view is None])


def history(
    jobs: asking.Jobs,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Show all that happened to jobs: every event, with its time, its cause and who wanted it.

    \b
    Examples:
      ftjm history thumbnails/a-200
      ftjm history a -o json | jq '.[].event'
    """
    names, found = _read(jobs, bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    rows = [_row(recorded) for name in names for recorded in found[name]]
    columns = ["at", "event", "run", "attempt", "cause", "actor", "details"]
    if rows:
        if output is Output.table:
            for row in rows:
                row["cause"] = f"{row['cause']} {row['cause_ref']}"
                row["details"] = ", ".join(f"{name}={_short(value)}" for name, value in row["details"].items())
        common.emit(rows, output, columns=["job", *columns] if len(names) > 1 else columns)
    _missing([name for name in names if not found[name]])


def _read(jobs: list[str], **options: Any) -> tuple[list[tuple[str, str]], dict[tuple[str, str], list[Recorded]]]:
    from ftjm.jobhistory import read_jobs

    names = asking.names(jobs)
    return names, read_jobs(common.settings(**options), names)


def _missing(names: list[tuple[str, str]]) -> None:
    for queue, job_id in names:
        typer.echo(
            f"error: expected a job {queue}/{job_id} in the log, but found none; it was never submitted, or is not "
            f"decided yet",
            err=True,
        )
    if names:
        raise typer.Exit(1)


def shown(view: JobView) -> dict[str, Any]:
    """A job for printing; what is empty is empty."""
    from ftjm.durations import format_duration, format_time

    job, spec = view.job, view.spec
    return {
        "job": f"{view.queue}/{view.job_id}",
        "state": job.state.name,
        "reason": job.reason,
        "run": job.run,
        "attempt": job.attempt,
        "failures": job.failures,
        "worker_losses": job.losses,
        "max_attempts": spec.max_attempts,
        "priority": job.priority,
        "command": spec.command,
        "payload": asking.shown_json(spec.payload),
        "env": spec.environment,
        "labels": spec.labels,
        "cwd": spec.working_directory,
        "timeout": format_duration(spec.timeout_ms) if spec.timeout_ms else None,
        "session": job.session,
        "stopping": job.stopping,
        "submitted": format_time(job.submitted_at),
        "due": format_time(job.due_at),
        "deadline": format_time(job.deadline_at),
        "dispatched": format_time(job.dispatched_at),
        "started": format_time(job.started_at),
        "ended": format_time(job.ended_at),
        "exit_code": view.outcome.exit_code if job.ended_at else None,
        "error": view.outcome.error,
        "result": asking.shown_json(view.outcome.result),
        "forgotten": format_time(view.forgotten_at),
    }


def _row(recorded: Recorded) -> dict[str, Any]:
    from ftjm.cli.rendering import plain
    from ftjm.durations import format_time
    from ftjm.jobhistory import details

    event = recorded.event
    said = {
        name: format_time(value) if name.endswith("_at") else plain(value)
        for name, value in details(event).items()
        if name != "attempt"
    }
    return {
        "at": format_time(event.at),
        "job": f"{event.queue}/{event.job_id}",
        "event": type(event).__name__,
        "run": event.run,
        "attempt": getattr(event, "attempt", None),
        "cause": event.cause.value,
        "cause_ref": event.cause_ref,
        "actor": event.actor,
        "partition": recorded.partition,
        "offset": recorded.offset,
        "details": said,
    }


def _short(value: Any) -> str:
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


# ---- asking for a change


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
