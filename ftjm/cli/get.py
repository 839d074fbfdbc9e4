"""The verb `get`: jobs as they are now, folded from the log."""

from __future__ import annotations

from typing import Any

import typer

from ftjm.cli.options import Connection, Jobs, OutputFormat, job_names
from ftjm.cli.output import Output, emit, exit_if_missing
from ftjm.cli.verbs import add_verb
from ftjm.cli.watch import Watch, emit_watched


def register(group: typer.Typer) -> None:
    """Add `get`."""
    add_verb(group, get)


def get(connection: Connection, jobs: Jobs, watch: Watch = False, output: OutputFormat = Output.table) -> None:
    """Show jobs as they are now, by the log.

    \b
    Examples:
      ftjm get thumbnails/a-200
      ftjm get a b c -o json
      ftjm get a b c --watch
    """
    from ftjm.history.jobs import find_jobs
    from ftjm.readmodel.documents.fields import plain_document

    names = job_names(jobs)
    settings = connection.settings()
    missing: list[tuple[str, str]] = []

    def read() -> Any:
        views = find_jobs(settings, names)
        missing[:] = [name for name, found_view in views.items() if found_view is None]
        rows = [plain_document(found_view.document()) for found_view in views.values() if found_view]
        if len(names) == 1:
            return rows[0] if rows else {}
        return [_with_age(row) for row in rows] if output is Output.table else rows

    columns = ["job", "state", "run", "attempt", "age", "reason"] if len(names) > 1 else None
    if watch:
        emit_watched(read, output, columns=columns, watch=True)
    elif rows := read():
        emit(rows, output, columns=columns)
    exit_if_missing(missing)


def _with_age(row: dict[str, Any]) -> dict[str, Any]:
    from ftjm.runtime.durations import age_of, parse_time

    return row | {"age": age_of(parse_time(row["submitted_at"]))}
