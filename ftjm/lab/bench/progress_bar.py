"""Progress on standard error: a bar on a terminal, nothing in a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressBar:
    """Shows the progress of a run. A context manager: on exit, the bar is removed."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, text: str) -> None:
        """Begin a step: show its text, and an empty bar."""
        self._bar.reset(self._task, description=text, total=None, completed=0)

    def move(self, done: int, total: int) -> None:
        """Show how far the step is."""
        self._bar.update(self._task, completed=done, total=total)
