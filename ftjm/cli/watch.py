"""Printing what changes: once, or with `--watch` again and again until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from ftjm.cli.output import Output, console, emit, emit_line, table

SECONDS = 1.0
"""Pause between two reads, at least."""
PAUSE_PER_READ = 2.0
"""A read that takes long is followed by a pause that is this many times longer, to spare Kafka."""

Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Print again and again until Ctrl-C; json is then one document a line.")
]


def emit_watched(
    read: Callable[[], Any], output: Output, *, columns: Sequence[str] | None = None, watch: bool = False
) -> None:
    """Print what `read` returns: rows, or one document. With `watch`, again and again: on a terminal in place."""
    if not watch:
        emit(read(), output, columns=columns)
        return
    with contextlib.suppress(KeyboardInterrupt):
        if output is Output.table and sys.stdout.isatty():
            _emit_in_place(read, columns)
        else:
            _emit_stream(read, output, columns)


def _emit_in_place(read: Callable[[], Any], columns: Sequence[str] | None) -> None:
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            began = time.monotonic()
            live.update(table(read(), columns), refresh=True)
            _pause(began)


def _emit_stream(read: Callable[[], Any], output: Output, columns: Sequence[str] | None) -> None:
    while True:
        began = time.monotonic()
        found = read()
        if output is Output.table:
            emit(found, output, columns=columns)
        else:
            emit_line(found, output, "")
        sys.stdout.flush()
        _pause(began)


def _pause(began: float) -> None:
    time.sleep(max(SECONDS, PAUSE_PER_READ * (time.monotonic() - began)))
