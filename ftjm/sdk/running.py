"""What the code of a job may know of its attempt, and say of how far it has come.

Works in Python tasks, in commands that are Python programs, and in `ftjm.testing`. Where nothing is running
(`task.run(...)`), the attempt is a local stand-in, and what is said goes nowhere.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ftjm.sdk import plain

CHECKPOINT_BYTES_MAX = 64 * 1024
"""As the partition enforces it."""


@dataclass(frozen=True)
class Attempt:
    """One attempt of a job."""

    job: str
    """`queue/job_id`; empty for a task that is called here and now."""
    run: int
    attempt: int
    """Grows with every dispatch: the fencing token for effects outside."""
    checkpoint: Any = None
    """What an earlier attempt of this run has left with `ftjm.checkpoint`; None if none has."""

    @property
    def run_key(self) -> str:
        """The same over all attempts of a run: an idempotency key for effects outside."""
        return f"{self.job}/{self.run}"

    @property
    def is_local(self) -> bool:
        """Whether this is no attempt at all, but a call here and now."""
        return not self.job


@dataclass(frozen=True)
class Running:
    """An attempt, and where its words go."""

    attempt: Attempt
    checkpoint: Callable[[bytes], None] = field(default=lambda _: None)
    progress: Callable[[float, str], None] = field(default=lambda *_: None)


class Stopped(BaseException):
    """Raised in a task marked idempotent, wherever it is, when its attempt is stopped: clean up, and let it pass.

    It comes with the next step of Python code; a thread that does not end within its grace is killed with its process.
    """


LOCAL = Running(Attempt("", 1, 1))
CURRENT: ContextVar[Running | None] = ContextVar("ftjm_running", default=None)


def attempt() -> Attempt:
    """The attempt that this code runs in."""
    return _running().attempt


def checkpoint(data: Any) -> None:
    """Leave `data` (JSON, at most 64 KiB) for the next attempt of this run, should this one not succeed.

    The newest one counts. It reaches the log within about a second, at most one a second, so it may be called often;
    an attempt that its worker dies with may lose the last second's.

    Raises:
        TypeError: for what JSON cannot hold.
        ValueError: for more than 64 KiB.
    """
    encoded = plain.encode(data, "checkpoint")
    if len(encoded) > CHECKPOINT_BYTES_MAX:
        raise ValueError(
            f"expected a checkpoint of at most {CHECKPOINT_BYTES_MAX} bytes, but found {len(encoded)}; keep the data "
            f"elsewhere, and in the checkpoint where"
        )
    _running().checkpoint(encoded)


def progress(fraction: float, text: str = "") -> None:
    """Tell people how far it is: 0 to 1, and a word. Shown by `ftjm get` and `handle.watch()`; bounded as above."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"expected a fraction of 0 to 1, but found {fraction}")
    _running().progress(float(fraction), str(text))


def _running() -> Running:
    return CURRENT.get() or from_environment() or LOCAL


def from_environment() -> Running | None:
    """The attempt that this process is, by the variables that its guard set; None if it is none."""
    return described(os.environ)


def described(given: Mapping[str, str]) -> Running | None:
    """The attempt that these variables tell of; None if they tell of none."""
    if "FTJM_CHECKPOINT_FILE" not in given or "FTJM_RUN_KEY" not in given:
        return None
    left = given.get("FTJM_LAST_CHECKPOINT_FILE")
    checkpoint_file, progress_file = Path(given["FTJM_CHECKPOINT_FILE"]), Path(given["FTJM_PROGRESS_FILE"])
    return Running(
        Attempt(
            given["FTJM_JOB_ID"],
            int(given["FTJM_RUN"]),
            int(given["FTJM_ATTEMPT"]),
            plain.decode(Path(left).read_bytes()) if left else None,
        ),
        lambda data: _replace(checkpoint_file, data),
        lambda fraction, text: _replace(
            progress_file, msgspec.json.encode({"progress": fraction, "text": text[:1_000]})
        ),
    )


def _replace(path: Path, content: bytes) -> None:
    """The guard sees the old file or the new one, never half of one."""
    path.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)
