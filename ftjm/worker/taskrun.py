"""One attempt of a Python task, in the process that the zygote forked for it: from its orders to its exit status."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn

import msgspec

from ftjm.core.model import FailureReason
from ftjm.sdk import plain
from ftjm.sdk.tasks import TASKS, Task
from ftjm.worker.taskcall import Call, unpack

ERROR_CHARACTERS_MAX = 16_000
FAILED = 1


def become(given: Sequence[int]) -> NoReturn:
    """Be the process of an attempt, with these as standard input, output, errors, and for the outcome."""
    status = FAILED
    try:
        take(given[:3])
        call = unpack(everything(0))
        status = 0 if call is None else _obey(call, given[3])
        # As the interpreter does at its own end: threads that are not daemons are waited for.
        threading._shutdown()  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001  (nothing of the zygote's may run in this process)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status)


def take(given: Sequence[int]) -> None:
    """Be a process in a group of its own, with these as standard input, output and errors."""
    os.setsid()
    for number, fd in enumerate(given):
        os.dup2(fd, number)
        os.close(fd)
    for which in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, signal.SIG_DFL)


def everything(fd: int) -> bytes:
    """All that can be read there."""
    chunks = []
    while chunk := os.read(fd, 1 << 18):
        chunks.append(chunk)
    return b"".join(chunks)


def _obey(call: Call, outcome: int) -> int:
    """Be the process that the call asks for, and run its task; the exit status."""
    os.environ.clear()
    os.environ.update(call.environment)
    try:
        os.chdir(call.working_directory)
    except OSError as error:
        text = f"cannot enter the working directory {call.working_directory!r}: {error.strerror}"
        return _fail(outcome, FailureReason.START_FAILED, text)
    return perform(call, outcome)


def perform(call: Call, outcome: int) -> int:
    """Run the task; the exit status. Its result, or why it failed, is written to `outcome`."""
    task = TASKS.get(call.task)
    if task is None:
        return _fail(outcome, FailureReason.START_FAILED, unknown(call.task))
    try:
        args, kwargs = arguments(call.payload)
    except ValueError as error:
        return _fail(outcome, FailureReason.START_FAILED, f"{call.task}: {error}")
    try:
        value = task.function(*args, **kwargs)
    except SystemExit as leaving:
        return _status(leaving.code)
    except BaseException as error:  # noqa: BLE001  (whatever a task raises is its outcome)
        text = told(error, error.__traceback__.tb_next if error.__traceback__ else None)
        sys.stderr.write(text)
        return _fail(outcome, FailureReason.EXCEPTION, text)
    return _succeed(outcome, task, value)


def _succeed(outcome: int, task: Task[..., Any], value: object) -> int:
    try:
        encoded = plain.encode(value, f"the result of {task.name}")
    except TypeError as error:
        return _fail(outcome, FailureReason.RESULT_REFUSED, str(error))
    if value is not None:
        _write(outcome, encoded)
    return 0


def unknown(name: str) -> str:
    """Why a task cannot be run here."""
    known = ", ".join(sorted(TASKS)) or "none"
    return f"expected the task {name!r} in this worker's apps, but it knows {known}; see --app, and the task's name"


def arguments(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """What a task is called with. Raises ValueError for a payload that is no call."""
    try:
        found = msgspec.json.decode(payload) if payload else {}
    except msgspec.DecodeError as error:
        raise ValueError(f"expected a payload of JSON, but {error}") from None
    args, kwargs = (found.get("args", []), found.get("kwargs", {})) if isinstance(found, dict) else (None, None)
    if not isinstance(args, list) or not isinstance(kwargs, dict) or set(found) - {"args", "kwargs"}:
        raise ValueError('expected a payload of {"args": [...], "kwargs": {...}}, but found something else')
    return args, kwargs


def told(error: BaseException, since: TracebackType | None) -> str:
    """A traceback for people, without the frames of ours; of a long one its end."""
    text = "".join(traceback.format_exception(error.with_traceback(since)))
    return text if len(text) <= ERROR_CHARACTERS_MAX else f"[...]\n{text[-ERROR_CHARACTERS_MAX:]}"


def _fail(outcome: int, reason: FailureReason, text: str) -> int:
    _write(outcome, msgspec.json.encode({"reason": reason, "error": text}))
    return FAILED


def _write(outcome: int, content: bytes) -> None:
    with os.fdopen(outcome, "wb", closefd=False) as file:
        file.write(content)


def _status(code: object) -> int:
    """The exit status of `sys.exit(code)`, as the interpreter finds it."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    sys.stderr.write(f"{code}\n")
    return FAILED
