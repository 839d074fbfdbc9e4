"""Verbs that look at jobs: get, history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from ftjm.cli import asking, common, replaying, watching
from ftjm.cli.common import Output

if TYPE_CHECKING:
    from ftjm.jobhistory import JobView, Recorded

FOR_PROGRAMS = frozenset({"session", "lane", "lease_ms", "offer", "awaits", "started_at", "ended_at", "command_id"})


def get(
    jobs: asking.Jobs,
    watch: watching.Watch = False,
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
      ftjm get a b c --watch
    """
    from ftjm.jobhistory import from_snapshot, read_jobs, view

    names = asking.names(jobs)
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    unknown: list[tuple[str, str]] = []

    def look() -> Any:
        found = read_jobs(settings, names)
        views = {name: view(r.event for r in found[name]) or from_snapshot(settings, name) for name in names}
        unknown[:] = [name for name, found_view in views.items() if found_view is None]
        rows = [shown(found_view) for found_view in views.values() if found_view]
        if len(names) == 1:
            return {name: value for name, value in rows[0].items() if value not in ("", None, {}, [])} if rows else {}
        return [_with_age(row) for row in rows] if output is Output.table else rows

    columns = ["job", "state", "run", "attempt", "age", "reason"] if len(names) > 1 else None
    if watch:
        watching.emit(look, output, columns=columns, watch=True)
    elif rows := look():
        common.emit(rows, output, columns=columns)
    _missing(unknown)


def history(
    jobs: asking.Jobs,
    archive: replaying.ArchiveUrl = None,
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
      ftjm history a --archive s3://bucket/ftjm
    """
    from ftjm.jobhistory import read_jobs

    names = asking.names(jobs)
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    found = read_jobs(settings, names, archive, asking.gap)
    rows = [_row(recorded) for name in names for recorded in found[name]]
    if rows and output is Output.table:
        columns = ["at", "event", "run", "attempt", "by", "details"]
        common.emit([_brief(row) for row in rows], output, columns=["job", *columns] if len(names) > 1 else columns)
    elif rows:
        common.emit(rows, output)
    _missing([name for name in names if not found[name]])


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

    job, spec, said = view.job, view.spec, view.checkpoint
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
        "progress": said.progress if said.progress >= 0 else None,
        "progress_text": said.text,
        "checkpoint": asking.shown_json(said.data),
        "checkpoint_at": format_time(job.checkpoint_at),
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


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """A row of history that fits a terminal: what is for programs is left out."""
    said = {name: value for name, value in row["details"].items() if name not in FOR_PROGRAMS}
    return row | {
        "at": row["at"].replace("T", " ").removesuffix("Z"),
        "by": row["actor"] or row["cause"].lower(),
        "details": ", ".join(f"{name}={_short(value)}" for name, value in said.items()),
    }


def _with_age(row: dict[str, Any]) -> dict[str, Any]:
    from ftjm.durations import age_of, parse_time

    return row | {"age": age_of(parse_time(row["submitted"]))}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
