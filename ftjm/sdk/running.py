"""Functions for the code of a job: they give the attempt that runs it, and report checkpoints and progress.

    @ftjm.task
    def index(pages: int) -> int:
        done = ftjm.attempt().checkpoint or 0        # where an earlier attempt of this run stopped
        for page in range(done, pages):
            ...
            ftjm.checkpoint(page + 1)                # the next attempt continues here
            ftjm.progress((page + 1) / pages, f"page {page + 1} of {pages}")
        return pages

It works in Python tasks, in commands that are Python programs, and in `ftjm.testing`. In a call without a job
(`task.run(...)`), `attempt()` is a local stand-in, and checkpoints and progress have no effect.

An attempt passes its checkpoint and progress to the guard by files, whose paths are in its environment
(`FTJM_CHECKPOINT_FILE`, `FTJM_PROGRESS_FILE`); the checkpoint of an earlier attempt is in `FTJM_LAST_CHECKPOINT_FILE`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from ftjm.core import json_values
from ftjm.core.limits import CHECKPOINT_BYTES_MAX
from ftjm.runtime import private_files


@dataclass(frozen=True)
class Attempt:
    """One attempt of a job."""

    job: str
    """`queue/job_id`; empty in a call without a job."""
    run: int
    """1 for the first run of the job, and one more with each rerun."""
    attempt: int
    """Grows with every dispatch. Use it as a fencing token: let a database or store refuse a lower one."""
    checkpoint: Any = None
    """The value that an earlier attempt of this run passed to `ftjm.checkpoint`; None if there is none."""

    @property
    def run_key(self) -> str:
        """A key that all attempts of a run share. Use it as an idempotency key for requests to other systems."""
        return f"{self.job}/{self.run}"

    @property
    def is_local(self) -> bool:
        """Whether this is a call without a job."""
        return not self.job


class Running(NamedTuple):
    """The current attempt, and the functions that take its checkpoint (JSON) and its progress (fraction and text)."""

    attempt: Attempt
    checkpoint: Callable[[bytes], None] = lambda _: None
    progress: Callable[[float, str], None] = lambda *_: None


class Stopped(BaseException):
    """Raised inside a task when its attempt is stopped. Clean up, and let it pass:

        try:
            ...
        except ftjm.Stopped:
            remove_partial_files()
            raise

    It is raised between two steps of Python code, so a call that blocks in C delays it. A task that has not ended
    within its grace is killed with its process. It derives from BaseException, so `except Exception` does not catch it.
    The handler of SIGTERM raises it; the task may set another handler.
    """


LOCAL = Running(Attempt("", 1, 1))
CURRENT: ContextVar[Running | None] = ContextVar("ftjm_running", default=None)
LEFT_BEHIND: WeakKeyDictionary[threading.Thread, Running] = WeakKeyDictionary()
"""Threads that went on when their attempt ended, and that attempt: another one may run in this process now."""


def attempt() -> Attempt:
    """The attempt that this code runs in; a stand-in with `is_local` in a call without a job."""
    return _running().attempt


def checkpoint(data: Any) -> None:
    """Leave data for the next attempt of this run, in case this one does not succeed.

    The newest checkpoint replaces the one before. At most one a second goes to the log, so this may be called often. If
    the worker dies, the checkpoints of the last second may be lost.

    Args:
        data: A JSON value of at most 64 KiB.

    Raises:
        TypeError: JSON cannot hold it.
        ValueError: It is more than 64 KiB.
    """
    encoded = json_values.encode(data, "checkpoint")
    if len(encoded) > CHECKPOINT_BYTES_MAX:
        raise ValueError(
            f"expected a checkpoint of at most {CHECKPOINT_BYTES_MAX} bytes, but found {len(encoded)}; keep the data "
            f"elsewhere, and in the checkpoint where"
        )
    _running().checkpoint(encoded)


def progress(fraction: float, text: str = "") -> None:
    """Report how far the attempt has come, for `ftjm get` and `handle.watch()`. At most one a second goes to the log.

    Args:
        fraction: 0 to 1.
        text: A few words for people; after 1,000 characters it is cut.

    Raises:
        ValueError: The fraction is not between 0 and 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"expected a fraction of 0 to 1, but found {fraction}")
    # Half of a character, as a file's name may have it, is escaped.
    _running().progress(float(fraction), str(text).encode(errors="backslashreplace").decode())


def _running() -> Running:
    left = LEFT_BEHIND.get(threading.current_thread()) if LEFT_BEHIND else None
    return CURRENT.get() or left or from_environment() or LOCAL


def from_environment() -> Running | None:
    """The attempt that this process is, by the variables that its guard set; None if there are none."""
    return described(os.environ)


def described(given: Mapping[str, str], runs: Callable[[], bool] = lambda: True) -> Running | None:
    """The attempt that these environment variables describe; None if they describe none.

    Args:
        given: The variables.
        runs: Whether the attempt still runs. Checkpoints and progress have no effect once it has ended.
    """
    if "FTJM_CHECKPOINT_FILE" not in given or "FTJM_RUN_KEY" not in given:
        return None
    last = given.get("FTJM_LAST_CHECKPOINT_FILE")
    checkpoint_file, progress_file = given["FTJM_CHECKPOINT_FILE"], given["FTJM_PROGRESS_FILE"]

    def checkpoint(data: bytes) -> None:
        if runs():
            _replace(checkpoint_file, data)

    def progress(fraction: float, text: str) -> None:
        if runs():
            _replace(progress_file, msgspec.json.encode({"progress": fraction, "text": text[:1_000]}))

    return Running(
        Attempt(
            given["FTJM_JOB_ID"],
            int(given["FTJM_RUN"]),
            int(given["FTJM_ATTEMPT"]),
            json_values.decode(Path(last).read_bytes()) if last else None,
        ),
        checkpoint,
        progress,
    )


def _replace(name: str, content: bytes) -> None:
    """Replace the file at once, so that the guard reads the old content or the new, and never half of it."""
    path = Path(name)
    private_files.make_directory(path.parent)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
