"""Requests: what may be submitted, a call of a task or a command, with its options. Checked when it is made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack

import msgspec

from ftjm.core import json_values
from ftjm.core.names import is_name
from ftjm.core.state.executors import COMMAND

if TYPE_CHECKING:
    from ftjm.specs.job import JobRequest

R = TypeVar("R")


class JobOptions(TypedDict, total=False):
    """The options of a job, as in files of jobs: durations and times are text (`2m`, `2030-01-31T18:00:00Z`)."""

    queue: str
    priority: int
    """0 to 100, higher first; by default 50."""
    timeout: str
    """Longest duration of each attempt. An attempt that takes longer is stopped, and the job may be tried again."""
    deadline: str
    """The job's deadline, as a duration from submission or as a time. A job that has not ended by then fails."""
    delay: str
    """Time from submission to the first attempt."""
    start_at: str
    """The time of the first attempt, instead of `delay`."""
    max_attempts: int
    backoff: Mapping[str, str | float]
    """Pauses between attempts: `initial`, `factor`, `max`, such as `{"initial": "1s", "factor": 2, "max": "5m"}`."""
    on_worker_loss: Literal["requeue", "fail", "hold"]
    """What happens to the job if its worker is lost during an attempt."""
    worker_losses_max: int
    """After how many such losses the job fails; with `requeue`."""
    disconnect: Mapping[str, str]
    """`continue_for`: how long an attempt may run on while its worker is cut off from the log; at most 23h."""
    cancel_grace: str
    """Time between SIGTERM and SIGKILL when an attempt is stopped."""
    retention: str
    """How long the ended job is kept."""
    concurrency_key: str
    """Of the jobs of the queue with the same key, one has a worker at a time, or as many as the queue says."""
    share_identifier: str
    """The share of its queue that it belongs to: shares have slot time by their weights, as the queue declares them."""
    hold: bool
    """Whether it waits for a release."""
    env: Mapping[str, str]
    """Environment variables. They are public: they stay in the log."""
    labels: Mapping[str, str]
    cwd: str
    """The working directory on the worker; by default a directory of its own for each attempt."""


@dataclass(frozen=True)
class Request(Generic[R]):
    """A job that is not submitted yet, and whose result is an `R`. Made by a task or by `ftjm.command`."""

    executor: str
    command: tuple[str, ...]
    payload: bytes
    """JSON, or empty."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def job(self, options: Mapping[str, Any] | None = None) -> JobRequest:
        """The job, with further options that win over its own. Raises InvalidJobError with everything that is wrong."""
        chosen = {**self.options, **(options or {})}
        job_id = chosen.get("job_id")
        if job_id is None or (isinstance(job_id, str) and is_name(job_id)):
            chosen.pop("job_id", None)  # all else may be as in the job before; a wrong id is refused with the rest
        parsed = _parsed(self.executor, self.command, chosen)
        spec = msgspec.structs.replace(parsed.spec, payload=self.payload)
        return parsed._replace(job_id=job_id or "", spec=spec)

    def checked(self) -> Request[R]:
        """Check the request, and return it. Raises InvalidJobError with all problems."""
        from ftjm.specs.job import INLINE_LIMIT_BYTES, InvalidJobError
        from ftjm.specs.problems import FieldProblem

        self.job()
        if len(self.payload) > INLINE_LIMIT_BYTES:
            found = f"expected arguments of at most {INLINE_LIMIT_BYTES} bytes of JSON, but found {len(self.payload)}"
            text = f"{found}; put the data elsewhere, and pass where it is"
            raise InvalidJobError([FieldProblem(("payload",), text)])
        return self


def _parsed(executor: str, command: tuple[str, ...], options: Mapping[str, Any]) -> JobRequest:
    """The job without its payload. Raises InvalidJobError.

    Most jobs of a program differ in nothing but their payloads, and checking the rest takes longer than sending it.
    """
    exactly = tuple((name, type(value), value) for name, value in options.items())  # `True` equals 1
    try:
        return _parsed_before(executor, command, exactly)
    except TypeError:  # an option whose value is no key, such as a mapping
        return _parse(executor, command, options)


@lru_cache(maxsize=32)
def _parsed_before(
    executor: str, command: tuple[str, ...], options: tuple[tuple[str, type[Any], Any], ...]
) -> JobRequest:
    return _parse(executor, command, {name: value for name, _, value in options})


def _parse(executor: str, command: tuple[str, ...], options: Mapping[str, Any]) -> JobRequest:
    from ftjm.specs.executors import BY_NAME
    from ftjm.specs.job import parse_job

    return parse_job({**options, **BY_NAME[executor].written(list(command))})


def command(command: str | Sequence[str], *, payload: Any = None, **options: Unpack[JobOptions]) -> Request[Any]:
    """Make a request for a job that runs a program.

    Example:
        client.submit(ftjm.command(["ffmpeg", "-i", "in.mov", "out.mp4"], timeout="1h"))

    Args:
        command: The program and its arguments; or a text, which is split into words as a shell does. No shell runs.
        payload: A JSON value for the program's standard input; None for an empty input.
        options: Options of the job.

    Returns:
        The request. The job's result is the JSON that the program writes to the file `FTJM_RESULT_FILE`, or None.

    Raises:
        InvalidJobError: An option or the command has a wrong value.
        TypeError: The command is not made of text, or JSON cannot hold the payload.
    """
    words = _split(command) if isinstance(command, str) else _words(command)
    encoded = b"" if payload is None else json_values.encode(payload, "payload")
    return Request[Any](COMMAND, tuple(words), encoded, dict(options)).checked()


def _split(command: str) -> list[str]:
    """The words of a command line."""
    from ftjm.specs.job import parse_job

    return parse_job({"command": command}).spec.command


def _words(command: Any) -> list[str]:
    if isinstance(command, bytes | bytearray | memoryview) or not isinstance(command, Sequence):
        raise TypeError(f"expected a text or a list of texts as the command, but found {found_type(command)}")
    for index, word in enumerate(command):
        if not isinstance(word, str | int | float | os.PathLike) or isinstance(word, bool):
            raise TypeError(f"expected text as word {index} of the command, but found {found_type(word)}")
    return [os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in command]


def found_type(value: Any) -> str:
    """A value that is not of the expected type, for an error: its type, and how it looks."""
    try:
        return f"{type(value).__name__}: {value!r:.80}"
    except Exception:  # noqa: BLE001  (a user's `__repr__` may raise anything)
        return type(value).__name__
