"""Standard streams as users leave them: closed, full, or of an encoding that lacks most letters. No verb stumbles."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

STREAMS = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


class _Forgiving(io.FileIO):
    """A file whose write errors are ignored: nobody can be told that standard error is full."""

    def write(self, data: object) -> int:
        """Write what can be written."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Make the standard streams usable. Called once, before anything is read or printed."""
    for descriptor, (name, mode) in STREAMS.items():
        if getattr(sys, name) is None:  # it was closed when the process started
            _to_nothing(descriptor)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))
    sys.stderr = io.TextIOWrapper(
        _Forgiving(sys.stderr.fileno(), "w", closefd=False),
        encoding=sys.stderr.encoding,
        errors="backslashreplace",
        write_through=True,
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def flush(stream: TextIO) -> OSError | None:
    """Flush a stream. If that fails, what is left in it is dropped, and the error is returned."""
    try:
        stream.flush()
    except OSError as error:
        _to_nothing(stream.fileno())  # Python flushes again at exit
        return error
    return None


def _to_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != descriptor:
        os.dup2(nothing, descriptor)
        os.close(nothing)
