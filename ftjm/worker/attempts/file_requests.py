"""Requests that touch files, and how they are carried out: by a process that may wait in the guard's place.

The guard itself touches no file. It sends one of these to its helper (`guard/file_reader.py`), which answers `Found`.
"""

import errno
import os
import shutil
from pathlib import Path

import msgspec

from ftjm.worker.attempts.attempt_files import Found, Look, Make, look, make, not_made


class Explain(msgspec.Struct, kw_only=True, tag=True):
    """A request to find out why a program could not be executed."""

    number: int = 0
    """The answer has the same number, and the error text as its `refusal`."""
    directory: str
    """The attempt's directory."""
    program: str
    path: str
    """Where the program was searched for: `PATH` of the attempt."""
    working_directory: str
    error: int
    """What the attempt to execute it returned, of `errno`."""


FileRequest = Look | Make | Explain


def carry_out(request: FileRequest) -> Found:
    """Do what is requested. It raises nothing, but may wait without end."""
    if isinstance(request, Look):
        return look(request)
    if isinstance(request, Make):
        return Found(request.number, refusal=_make(request))
    return Found(request.number, refusal=_explain(request))


def _make(request: Make) -> str:
    """Make an attempt's directory. Returns the reason why there is none; empty if there is one."""
    try:
        make(Path(request.directory), work=request.work, checkpoint=request.checkpoint)
    except OSError as error:
        return not_made(request.directory, error)
    return ""


def _explain(request: Explain) -> str:
    """Why a program could not be executed, in words for the job's user."""
    program, code = request.program, request.error
    try:
        # The dot asks for the right to enter the directory, and not only for its existence.
        os.stat(os.path.join(request.working_directory, "."))  # noqa: PTH116, PTH118  (a Path drops the dot)
    except OSError as error:
        return f"cannot enter the working directory {request.working_directory!r}: {error.strerror}"
    if code == errno.ENOENT and (interpreter := _interpreter(program, request.path)):
        return (
            f"cannot execute {program!r}: its first line names the interpreter {interpreter!r}, which is not on this "
            "worker; mend that line, or install it"
        )
    if code == errno.ENOENT:
        return f"cannot execute {program!r}: no such program on this worker; give a path, or install it"
    if code == errno.E2BIG:
        return f"cannot execute {program!r}: command and environment are too long; use the payload"
    if code in {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}:
        return f"cannot start a process: {os.strerror(code)}; look at the worker's limits"
    return f"cannot execute {program!r}: {os.strerror(code)}"


def _interpreter(program: str, path: str) -> str:
    """What the first line of a script names as its interpreter; empty if the file is no script, or is not found."""
    try:
        with Path(shutil.which(program, path=path) or program).open("rb") as file:
            line = file.readline(512)
    except OSError:
        return ""
    return line[2:].decode(errors="replace").rstrip("\n").lstrip() if line.startswith(b"#!") else ""
