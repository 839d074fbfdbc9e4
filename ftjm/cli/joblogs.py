"""The verb `logs`: what an attempt wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.cli import asking, common
from ftjm.cli.common import Output
from ftjm.errors import UsageError

if TYPE_CHECKING:
    from ftjm.config import Settings
    from ftjm.core.events import AttemptFailed, AttemptSucceeded
    from ftjm.jobhistory import Recorded


class Stream(StrEnum):
    """Which output."""

    stdout = "stdout"
    stderr = "stderr"
    both = "both"


def logs(
    jobs: asking.Jobs,
    attempt: Annotated[int | None, typer.Option(help="Of this attempt instead of the newest.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Of every attempt of the run, as each ends, until the job has ended.")
    ] = False,
    stream: Annotated[Stream, typer.Option(help="Which output.")] = Stream.both,
    bootstrap: common.Bootstrap = None,
    cluster: common.Cluster = None,
    data_dir: common.DataDir = None,
    kafka: common.KafkaSetting = None,
    output: common.OutputFormat = Output.table,
) -> None:
    """Print what the newest ended attempt of each job wrote.

    Output goes to standard output and errors to standard error, byte for byte. The log holds the tail of each.

    \b
    Examples:
      ftjm logs thumbnails/a-200
      ftjm logs thumbnails/a-200 --attempt 1 --stream stderr
      ftjm logs -f thumbnails/a-200
    """
    from ftjm.jobhistory import outputs, read_jobs

    names = asking.names(jobs)
    settings = common.settings(bootstrap=bootstrap, cluster=cluster, data_dir=data_dir, kafka=kafka)
    if follow:
        if attempt is not None:
            raise UsageError("--attempt or --follow", "both", "--follow tells of all attempts: leave one of them out")
        _follow(settings, names, stream, output)
        return
    found = read_jobs(settings, names, gap=asking.gap)
    failed = False
    for name in names:
        ended = list(outputs(recorded.event for recorded in found[name]))
        wanted = [event for event in ended if attempt in (None, event.attempt)]
        if not wanted:
            failed = True
            typer.echo(f"error: {_why_none(name, found[name], attempt)}", err=True)
            continue
        _print(wanted[-1], stream, output, header=len(names) > 1)
    if failed:
        raise typer.Exit(1)


def _follow(settings: Settings, names: list[tuple[str, str]], stream: Stream, output: Output) -> None:
    from ftjm.jobhistory import follow_jobs

    def say(name: tuple[str, str]) -> None:
        typer.echo(f"{'/'.join(name)} is not in the log yet: waiting for it", err=True)

    for event in follow_jobs(settings, names, unknown=say):
        _print(event, stream, output, header=True)


def _why_none(name: tuple[str, str], events: Iterable[Recorded], attempt: int | None) -> str:
    from ftjm.jobhistory import view

    job = "/".join(name)
    known = view(recorded.event for recorded in events)
    if known is None:
        return f"expected a job {job} in the log, but found none; it was never submitted, or is not decided yet"
    which = "an attempt" if attempt is None else f"attempt {attempt}"
    todo = "output comes into the log when the attempt has ended"
    return f"expected output of {which} of {job}, but it is {known.job.state.name}, attempt {known.job.attempt}; {todo}"


def _print(event: AttemptSucceeded | AttemptFailed, stream: Stream, output: Output, *, header: bool) -> None:
    if output is not Output.table:
        common.emit_line(_document(event), output, "")
        return
    if header:
        typer.echo(f"==> {event.queue}/{event.job_id} attempt {event.attempt} <==", err=True)
    for name, data, cut, target in (
        ("stdout", event.stdout, event.stdout_cut, sys.stdout.buffer),
        ("stderr", event.stderr, event.stderr_cut, sys.stderr.buffer),
    ):
        if stream in (name, Stream.both):
            if cut:
                typer.echo(f"[{cut} bytes of {name} before this were not kept]", err=True)
            target.write(data)
            target.flush()


def _document(event: AttemptSucceeded | AttemptFailed) -> dict[str, Any]:
    from ftjm.cli.rendering import plain

    fields = ("run", "attempt", "exit_code", "stdout", "stderr", "stdout_cut", "stderr_cut")
    return {"job": f"{event.queue}/{event.job_id}"} | {name: plain(getattr(event, name)) for name in fields}
