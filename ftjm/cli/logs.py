"""The verb `logs`: the output of attempts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli.options import ArchiveUrl, Connection, Jobs, OutputFormat, job_names
from ftjm.cli.output import Output, echo, emit_line, warn_trimmed
from ftjm.cli.verbs import add_verb
from ftjm.runtime.errors import UsageError

if TYPE_CHECKING:
    from ftjm.core.records.events import OutputEvent
    from ftjm.history.jobs import Recorded
    from ftjm.runtime.config import Settings


class Stream(StrEnum):
    """The output to print."""

    stdout = "stdout"
    stderr = "stderr"
    both = "both"


def register(group: typer.Typer) -> None:
    """Add `logs`."""
    add_verb(group, logs)


def logs(
    connection: Connection,
    jobs: Jobs,
    attempt: Annotated[int | None, typer.Option(help="The output of this attempt instead of the newest.")] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Print the output of every attempt of the run when it ends, until the job has ended."
        ),
    ] = False,
    stream: Annotated[Stream, typer.Option(help="Which output.")] = Stream.both,
    archive: ArchiveUrl = None,
    output: OutputFormat = Output.table,
) -> None:
    """Print the output of the newest ended attempt of each job.

    Its standard output goes to standard output, its standard error to standard error, byte for byte. Of long output,
    the log holds the end.

    \b
    Examples:
      ftjm logs thumbnails/a-200
      ftjm logs thumbnails/a-200 --attempt 1 --stream stderr
      ftjm logs -f thumbnails/a-200
      ftjm logs thumbnails/a-200 --archive s3://bucket/ftjm
    """
    from ftjm.history.jobs import outputs, read_jobs

    names = job_names(jobs)
    settings = connection.settings()
    if follow:
        for option, value, why in (
            ("--attempt", attempt, "prints all attempts"),
            ("--archive", archive, "reads the log only"),
        ):
            if value is not None:
                raise UsageError(f"{option} or --follow", "both", f"--follow {why}: leave one of them out")
        _follow(settings, names, stream, output)
        return
    found = read_jobs(settings, names, archive, warn_trimmed)
    failed = False
    for name in names:
        ended = list(outputs(recorded.event for recorded in found[name]))
        wanted = [event for event in ended if attempt in (None, event.attempt)]
        if not wanted:
            failed = True
            echo(f"error: {_why_none(settings, name, found[name], attempt)}", err=True)
            continue
        _print(wanted[-1], stream, output, header=len(names) > 1)
    if failed:
        raise typer.Exit(1)


def _follow(settings: Settings, names: list[tuple[str, str]], stream: Stream, output: Output) -> None:
    from ftjm.history.jobs import follow_jobs

    def print_waiting(name: tuple[str, str]) -> None:
        echo(f"{'/'.join(name)} is not in the log yet: waiting for it", err=True)

    for event in follow_jobs(settings, names, unknown=print_waiting):
        _print(event, stream, output, header=True)


def _why_none(settings: Settings, name: tuple[str, str], events: Iterable[Recorded], attempt: int | None) -> str:
    from ftjm.history.jobs import from_snapshot, view

    job = "/".join(name)
    known = view(recorded.event for recorded in events) or from_snapshot(settings, name)
    if known is None:
        return f"expected a job {job} in the log, but found none; it was never submitted, or is not decided yet"
    which = "an attempt" if attempt is None else f"attempt {attempt}"
    todo = "output comes into the log when the attempt has ended, and is trimmed with its events"
    return f"expected output of {which} of {job}, but it is {known.job.state.name}, attempt {known.job.attempt}; {todo}"


def _print(event: OutputEvent, stream: Stream, output: Output, *, header: bool) -> None:
    if output is not Output.table:
        emit_line(_document(event), output, "")
        return
    if header:
        echo(f"==> {event.queue}/{event.job_id} attempt {event.attempt} <==", err=True)
    for name, data, cut, target in (
        ("stdout", event.stdout, event.stdout_cut, sys.stdout.buffer),
        ("stderr", event.stderr, event.stderr_cut, sys.stderr.buffer),
    ):
        if stream in (name, Stream.both):
            if cut:
                echo(f"[{cut} bytes of {name} before this were not kept]", err=True)
            target.write(data)
            target.flush()


def _document(event: OutputEvent) -> dict[str, Any]:
    from ftjm.readmodel.documents.event import attempt_output
    from ftjm.readmodel.documents.fields import plain_document

    return plain_document(attempt_output(event))
