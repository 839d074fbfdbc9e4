"""The verb `doctor`: checks what ftjm needs on this machine and of its cluster."""

from __future__ import annotations

import typer

from ftjm.cli.options import Connection, OutputFormat
from ftjm.cli.output import Output, emit
from ftjm.cli.verbs import add_verb


def register(group: typer.Typer) -> None:
    """Add `doctor`."""
    add_verb(group, doctor)


def doctor(connection: Connection, output: OutputFormat = Output.table) -> None:
    """Check what ftjm needs here: settings, disk, Kafka, topics, the clock, schedulers and workers.

    Exits with 1 if a check fails. To compare the clocks it writes one small record, which changes nothing.

    \b
    Examples:
      ftjm doctor
      ftjm doctor -o json | jq '.[] | select(.status != "ok")'
    """
    from ftjm.ops import doctor as checks

    findings = [finding.row() for finding in checks.examine(connection.settings)]
    emit(findings, output, columns=["check", "status", "found", "todo"])
    if any(finding["status"] == checks.FAIL for finding in findings):
        raise typer.Exit(1)
