"""Standard output and errors for threads that have their own: whoever prints, prints to those of its attempt.

Put in place before the apps are imported, since what they set up then (logging, for instance) keeps the streams.
"""

import sys
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, TextIO

CURRENT: ContextVar[Sequence[TextIO] | None] = ContextVar("ftjm_outputs", default=None)
"""Of the thread that runs: its standard output and its standard errors."""


class Routed:
    """A stream that is another one in each thread."""

    def __init__(self, which: int, own: TextIO) -> None:
        self._which, self._own = which, own

    def __getattr__(self, name: str) -> Any:
        streams = CURRENT.get()
        return getattr(self._own if streams is None else streams[self._which], name)


def route() -> None:
    """From now on, `sys.stdout` and `sys.stderr` are of the thread."""
    sys.stdout, sys.stderr = Routed(0, sys.stdout), Routed(1, sys.stderr)
