"""Printing: documents and streams in the format that `-o` names, and progress on a terminal."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from ftjm.runtime.terminal import one_line, printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class Output(StrEnum):
    """Formats of `-o`."""

    table = "table"
    json = "json"
    yaml = "yaml"


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text that may hold what others wrote. Control characters in it are escaped, except for line ends."""
    typer.echo(printable(text), err=err, nl=nl)


def emit(value: Any, output: Output, *, columns: Sequence[str] | None = None) -> None:
    """Print one document.

    Args:
        value: A mapping, or a sequence of mappings.
        output: The format.
        columns: The columns of a table, in order; by default all fields of the first row.
    """
    if output is Output.json:
        typer.echo(_json(value, indent=2))
    elif output is Output.yaml:
        typer.echo(_yaml(value), nl=False)
    else:
        console().print(table(value, columns))


def emit_line(value: Any, output: Output, text: str) -> None:
    """Print one item of a stream: `text` in a table, else one JSON object a line, or one YAML document."""
    if output is Output.json:
        typer.echo(_json(value))
    elif output is Output.yaml:
        typer.echo("---\n" + _yaml(value), nl=False)
    else:
        typer.echo(one_line(text))


def _json(value: Any, indent: int | None = None) -> str:
    """JSON in letters that standard output has: all in UTF-8, else those of ASCII, and the others as `\\u00e9`."""
    has_all = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    return printable_json(json.dumps(value, indent=indent, default=str, ensure_ascii=not has_all))


def _yaml(value: Any) -> str:
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False)


def console() -> Console:
    """Standard output, as rich prints on it. Lines are folded on a terminal only, since a pipe has no width."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 10_000, highlight=False)


def table(value: Any, columns: Sequence[str] | None) -> Table:
    """A mapping, or a sequence of mappings, as a table."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=not isinstance(value, Mapping))
    if isinstance(value, Mapping):
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name in columns or list(value):
            table.add_row(_cell(name), _cell(value.get(name)))
    else:
        rows = list(value)
        names = columns or (list(rows[0]) if rows else [])
        for name in names:
            table.add_column(_cell(name.upper()), overflow="fold")
        for row in rows:
            table.add_row(*(_cell(row.get(name)) for name in names))
    return table


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, dict | list):
        return escape(_json(value))
    return escape(printable(str(value)))


# ---- standard error


def warn_trimmed(partition: int, begin: int) -> None:
    """Print to standard error that older events of a partition are not in the log any more."""
    echo(
        f"events of partition {partition} before offset {begin} were trimmed: older ones are in the archive, if there "
        "is one (--archive of `ftjm replay`, `ftjm history` and `ftjm logs`)",
        err=True,
    )


def exit_if_missing(names: Iterable[tuple[str, str]]) -> None:
    """Name each of these jobs as missing from the log, on standard error, and exit with 1 if there are any."""
    missing = list(names)
    for queue, job_id in missing:
        echo(
            f"error: expected a job {queue}/{job_id} in the log, but found none; it was never submitted, or is not "
            "decided yet",
            err=True,
        )
    if missing:
        raise typer.Exit(1)


@contextlib.contextmanager
def status(what: str) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that names the step that is under way; nothing in a pipe. Gives a function that sets it."""
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as line:
        yield lambda step: line.update(_cell(f"{what}: {step}"))


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal; None in a pipe. Gives a function that takes how much is done, and how much there is."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def count_progress(what: str, count: int) -> Iterator[Callable[[int], None] | None]:
    """A bar that counts up to `count`, on a terminal; None in a pipe, or where there is one thing only."""
    if count < 2 or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=count)
        yield lambda done: bar.update(task, completed=done)
