"""What the verbs share: options, settings from them, and printing in the format that `-o` names."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjm.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ftjm.config import Settings


class Output(StrEnum):
    """Formats of `-o`."""

    table = "table"
    json = "json"
    yaml = "yaml"


Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka servers, host:port[,host:port].")]
Cluster = Annotated[str | None, typer.Option("--cluster", help="Prefix of the topics (default ftjm).")]
DataDir = Annotated[str | None, typer.Option("--data-dir", help="Stores, embedded Kafka and the endpoint file.")]
KafkaSetting = Annotated[
    list[str] | None, typer.Option("-X", metavar="NAME=VALUE", help="A setting for the Kafka client, as it is.")
]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="console or json.")]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")]
MetricsHost = Annotated[
    str | None, typer.Option("--metrics-host", help="Where metrics and health are served (default 127.0.0.1).")
]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", min=0, max=65_535, help="Their port (default: a free one, logged).")
]
Apps = Annotated[
    list[str] | None,
    typer.Option("--app", metavar="MODULE", help="Defines Python tasks; imported once, may be repeated."),
]
OutputFormat = Annotated[Output, typer.Option("-o", "--output", help="Format of what is printed.")]


def settings(
    *,
    bootstrap: str | None = None,
    cluster: str | None = None,
    data_dir: str | None = None,
    kafka: Sequence[str] | None = None,
    log_format: str | None = None,
    log_level: str | None = None,
    **others: Any,
) -> Settings:
    """The settings that these flags give, with logging configured by them. Raises UsageError."""
    from ftjm import config, logs

    loaded = config.load(
        bootstrap=bootstrap,
        cluster=cluster,
        data_dir=data_dir,
        kafka=kafka_flags(kafka or ()) or None,
        log_format=log_format,
        log_level=log_level,
        **others,
    )
    logs.configure(loaded.log_format, loaded.log_level)
    return loaded


@contextlib.contextmanager
def status(what: str) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that tells of the step that is under way; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as line:
        yield lambda step: line.update(f"{what}: {step}")


def kafka_flags(flags: Iterable[str]) -> dict[str, str]:
    """`-X security.protocol=SSL` as a dict. Raises UsageError for one without `=`."""
    parsed = {}
    for flag in flags:
        name, equals, value = flag.partition("=")
        if not (name and equals):
            raise UsageError("-X name=value", f"-X {flag}", "write for instance -X security.protocol=SSL")
        parsed[name.removeprefix("kafka.")] = value
    return parsed


def emit(value: Any, output: Output, *, columns: Sequence[str] | None = None) -> None:
    """Print one document: a mapping, or a sequence of mappings (`columns` picks and orders those of the table)."""
    if output is Output.json:
        typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))
    elif output is Output.yaml:
        import yaml

        typer.echo(yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False), nl=False)
    else:
        _table(value, columns)


def emit_line(value: Mapping[str, Any], output: Output, text: str) -> None:
    """Print one item of a stream: `text` for people, one JSON object a line, or one YAML document."""
    if output is Output.json:
        typer.echo(json.dumps(value, default=str, ensure_ascii=False))
    elif output is Output.yaml:
        import yaml

        typer.echo("---\n" + yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False), nl=False)
    else:
        typer.echo(text)


def _table(value: Any, columns: Sequence[str] | None) -> None:
    console().print(table(value, columns))


def console() -> Console:
    """Standard output. A pipe has no width: nothing must be folded there."""
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
            table.add_row(name, _cell(value.get(name)))
    else:
        rows = list(value)
        names = columns or (list(rows[0]) if rows else [])
        for name in names:
            table.add_column(name.upper(), overflow="fold")
        for row in rows:
            table.add_row(*(_cell(row.get(name)) for name in names))
    return table


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, dict | list):
        return escape(json.dumps(value, default=str, ensure_ascii=False))
    return escape(str(value))
