"""Performs the call of a task, wherever that is: in a process of a worker, or in `ftjm.testing`.

Whatever a task raises or returns becomes an outcome: nothing is lost because its text is odd, or because it cannot be
printed.
"""

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from ftjm.core import json_values
from ftjm.core.state.model import FailureReason
from ftjm.sdk.tasks import TASKS
from ftjm.worker.executors.python.call import TaskFailure

ERROR_HEAD_CHARACTERS, ERROR_TAIL_CHARACTERS = 6_000, 10_000
"""A traceback longer than both together is cut in the middle: its head has the first frames, its tail the error."""
_PARTS = {"args", "kwargs"}
FAILED = 1
"""Exit status of a task that has failed."""


class Performed(NamedTuple):
    """How a task has ended."""

    exit_status: int
    result: bytes = b""
    """JSON; empty for None."""
    failure: TaskFailure | None = None
    """None for a success, and for an exit status that the task has chosen."""


def perform(name: str, payload: bytes, passes: tuple[type[BaseException], ...] = ()) -> Performed:
    """Call a task.

    Args:
        name: The name of the task.
        payload: Its arguments as JSON.
        passes: What it may raise that is raised here, too, and is not an outcome.
    """
    task = TASKS.get(name)
    if task is None:
        return failed(FailureReason.START_FAILED, unknown_task(name))
    try:
        args, kwargs = arguments(payload)
    except ValueError as error:
        return failed(FailureReason.START_FAILED, f"{name}: {error}")
    return call(lambda: task.function(*args, **kwargs), name, passes, frames=2)


def call(
    function: Callable[[], Any], name: str, passes: tuple[type[BaseException], ...] = (), frames: int = 1
) -> Performed:
    """Call a function.

    Args:
        function: What to call.
        name: What it is called in errors.
        passes: What it may raise that is raised here, too, and is not an outcome.
        frames: How many frames of ours are before its own in a traceback.
    """
    try:
        value = function()
    except SystemExit as leaving:
        return Performed(_exit_status(leaving.code))
    except passes:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever a task raises is its outcome)
        return failed(FailureReason.EXCEPTION, error_text(error, frames))
    if value is None:
        return Performed(0)
    try:
        result = json_values.encode(value, f"the result of {name}")
    except BaseException as error:  # noqa: BLE001  (a value may have methods of its own that raise)
        odd = f"the result of {name}: expected what JSON can hold, but looking at it raised {type(error).__qualname__}"
        return failed(FailureReason.RESULT_REFUSED, str(error) if isinstance(error, json_values.NotJsonError) else odd)
    return Performed(0, result)


def failed(reason: FailureReason, text: str) -> Performed:
    """A failure with this error text."""
    return Performed(FAILED, failure=TaskFailure(reason, printable(text)))


def unknown_task(name: str) -> str:
    """The error text for a task name that this process cannot run."""
    known = ", ".join(sorted(TASKS)) or "none"
    return f"expected the task {name!r} in this worker's apps, but it knows {known}; see --app, and the task's name"


def arguments(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments in a payload; none in an empty one.

    Raises:
        ValueError: The payload is no call.
    """
    try:
        found = msgspec.json.decode(payload) if payload else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected a payload of JSON, but {error}") from None
    args, kwargs = (found.get("args", []), found.get("kwargs", {})) if isinstance(found, dict) else (None, None)
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not found.keys() <= _PARTS:
        raise ValueError('expected a payload of {"args": [...], "kwargs": {...}}, but found something else')
    return args, kwargs


def error_text(error: BaseException, frames: int) -> str:
    """The traceback of an error for the task's user, without its first `frames`, and of a long one head and tail."""
    since = error.__traceback__
    for _ in range(frames):
        since = since.tb_next if since else None
    try:
        text = "".join(traceback.format_exception(error.with_traceback(since)))
    except BaseException as odd:  # noqa: BLE001  (methods of the error may raise anything)
        where = "".join(traceback.format_tb(since))
        kind = type(error).__qualname__
        text = f"Traceback (most recent call last):\n{where}{kind}: its text raised {type(odd).__qualname__}\n"
    text = printable(text)
    if len(text) <= ERROR_HEAD_CHARACTERS + ERROR_TAIL_CHARACTERS:
        return text
    return f"{text[:ERROR_HEAD_CHARACTERS]}\n[...]\n{text[-ERROR_TAIL_CHARACTERS:]}"


def printable(text: str) -> str:
    """The text in UTF-8: what is no valid character (half of a file's name, for instance) is escaped."""
    return text.encode(errors="backslashreplace").decode()


def write_error(text: str) -> None:
    """Write to standard errors, if the task has left them open and there is room."""
    with suppress(Exception):
        sys.stderr.write(text)


def _exit_status(code: object) -> int:
    """The exit status of `sys.exit(code)`, as the interpreter finds it."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    # Its text may raise anything.
    with suppress(BaseException):
        write_error(f"{code}\n")
    return FAILED
