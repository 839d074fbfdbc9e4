"""Printing what can be looked at again and again: once, or with `--watch` until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from ftjm.cli import common
from ftjm.cli.common import Output

SECONDS = 1.0
REST_PART = 2.0
"""A look that took long is followed by a rest that is so many times longer."""

Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Look again and again until Ctrl-C; json is then one document a line.")
]


def emit(look: Callable[[], Any], output: Output, *, columns: Sequence[str] | None = None, watch: bool = False) -> None:
    """Print what `look` gives: rows, or one document. With `watch`, in place on a terminal, else one after another."""
    if not watch:
        common.emit(look(), output, columns=columns)
        return
    with contextlib.suppress(KeyboardInterrupt):
        if output is Output.table and sys.stdout.isatty():
            _live(look, columns)
        else:
            _stream(look, output, columns)


def _live(look: Callable[[], Any], columns: Sequence[str] | None) -> None:
    from rich.live import Live

    with Live(console=common.console(), auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            began = time.monotonic()
            live.update(common.table(look(), columns), refresh=True)
            _rest(began)


def _stream(look: Callable[[], Any], output: Output, columns: Sequence[str] | None) -> None:
    while True:
        began = time.monotonic()
        found = look()
        if output is Output.table:
            common.emit(found, output, columns=columns)
        else:
            common.emit_line(found, output, "")
        sys.stdout.flush()
        _rest(began)


def _rest(began: float) -> None:
    time.sleep(max(SECONDS, REST_PART * (time.monotonic() - began)))
