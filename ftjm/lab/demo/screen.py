"""The output of the demonstration: with a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINES_OF_PROGRESS = 5


class Screen:
    """Prints the demonstration. A context manager: on exit, the bar is removed."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._animated = self._console.is_terminal and not os.environ.get("CI")
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._parts_shown = 0

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_bar()

    def step(self, text: str) -> None:
        """Print a step of the demonstration, with the time since its start."""
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {text}")

    def note(self, text: str) -> None:
        """Print a further line of the same step."""
        self._console.print(f"          {text}")

    def raw(self, lines: Sequence[str]) -> None:
        """Print lines as they are, without markup."""
        for line in lines:
            self.note(escape(line))

    def blank(self) -> None:
        """Print an empty line."""
        self._console.print()

    def progress(self, done: int, total: int) -> None:
        """Show how many jobs have ended."""
        if self._animated:
            self._move_bar(done, total)
            return
        part = done * LINES_OF_PROGRESS // total
        if part > self._parts_shown:
            self._parts_shown = part
            self.step(f"{done} of {total} jobs have ended")

    def _move_bar(self, done: int, total: int) -> None:
        if self._bar is None:
            columns = (TextColumn("          jobs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task("jobs", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done)
        if done >= total:
            self._drop_bar()

    def _drop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
