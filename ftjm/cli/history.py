"""The verb `history`: every event of jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from ftjm.cli.options import ArchiveUrl, Connection, Jobs, OutputFormat, job_names
from ftjm.cli.output import Output, emit, exit_if_missing, warn_trimmed
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import short

if TYPE_CHECKING:
    from ftjm.history.jobs import Recorded

FOR_PROGRAMS = frozenset({"session", "lane", "lease_ms", "offer", "awaits", "started_at", "ended_at", "command_id"})
"""Fields of events that a table leaves out."""


def register(group: typer.Typer) -> None:
    """Add `history`."""
    add_verb(group, history)


def history(
    connection: Connection, jobs: Jobs, archive: ArchiveUrl = None, output: OutputFormat = Output.table
) -> None:
    """Show every event of jobs, each with its time, its cause and the user who requested it.

    \b
    Examples:
      ftjm history thumbnails/a-200
      ftjm history a -o json | jq '.[].event'
      ftjm history a --archive s3://bucket/ftjm
    """
    from ftjm.history.jobs import read_jobs

    names = job_names(jobs)
    found = read_jobs(connection.settings(), names, archive, warn_trimmed)
    rows = [_row(recorded) for name in names for recorded in found[name]]
    if rows and output is Output.table:
        columns = ["at", "event", "run", "attempt", "by", "details"]
        emit([_brief(row) for row in rows], output, columns=["job", *columns] if len(names) > 1 else columns)
    elif rows:
        emit(rows, output)
    exit_if_missing(name for name in names if not found[name])


def _row(recorded: Recorded) -> dict[str, Any]:
    from ftjm.readmodel.documents.event import event_document
    from ftjm.readmodel.documents.fields import plain_document

    return plain_document(event_document(recorded.event, recorded.partition, recorded.offset))


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """A row of history that fits a terminal: fields for programs are left out."""
    fields = {name: value for name, value in row["details"].items() if name not in FOR_PROGRAMS}
    return row | {
        "at": row["at"].replace("T", " ").removesuffix("Z"),
        "by": row.get("actor") or row["cause"].lower(),
        "details": ", ".join(f"{name}={_short(value)}" for name, value in fields.items()),
    }


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return short(" ".join(text.split()), 60)
