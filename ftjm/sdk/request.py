"""What may be submitted: a call of a task, or a command, with its options; checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar, Unpack

import msgspec

from ftjm.sdk import plain

if TYPE_CHECKING:
    from ftjm.inputs import JobRequest

R = TypeVar("R")
COMMAND, PYTHON = "command", "python"


class JobOptions(TypedDict, total=False):
    """Every option of a job, as in files of jobs: durations and times are text (`2m`, `2030-01-31T18:00:00Z`)."""

    queue: str
    priority: int
    """0 to 100, higher first; by default 50."""
    timeout: str
    """For each attempt."""
    deadline: str
    delay: str
    start_at: str
    max_attempts: int
    backoff: Mapping[str, str | float]
    """`initial`, `factor`, `max`."""
    on_worker_loss: Literal["requeue", "fail", "hold"]
    worker_losses_max: int
    disconnect: Mapping[str, str]
    """`continue_for`."""
    cancel_grace: str
    retention: str
    hold: bool
    env: Mapping[str, str]
    """Public: it stays in the log."""
    labels: Mapping[str, str]
    cwd: str


@dataclass(frozen=True)
class Request(Generic[R]):
    """A job that is not submitted yet; it yields an `R`."""

    executor: str
    command: tuple[str, ...]
    payload: bytes
    """JSON, or empty."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def job(self, options: Mapping[str, Any] | None = None) -> JobRequest:
        """The job with these further options. Raises InvalidJobError, with all that is wrong."""
        from ftjm.inputs import parse_job

        runs = {"task": self.command[0]} if self.executor == PYTHON else {"command": list(self.command)}
        parsed = parse_job({**self.options, **(options or {}), **runs})
        spec = msgspec.structs.replace(parsed.spec, payload=self.payload)
        return parsed._replace(spec=spec)

    def checked(self) -> Request[R]:
        """The same, once everything about it is known to be right. Raises InvalidJobError."""
        from ftjm.inputs import INLINE_LIMIT_BYTES, InvalidJobError, Problem

        self.job()
        if len(self.payload) > INLINE_LIMIT_BYTES:
            found = f"expected arguments of at most {INLINE_LIMIT_BYTES} bytes of JSON, but found {len(self.payload)}"
            raise InvalidJobError([Problem(("payload",), f"{found}; put the data elsewhere, and pass where it is")])
        return self


def command(command: str | Sequence[str], *, payload: Any = None, **options: Unpack[JobOptions]) -> Request[Any]:
    """A job that runs a program: a list of words, or a text that is split as a shell does, without running one.

    Args:
        payload: JSON for its standard input; None is nothing.

    Its result is what it writes as JSON to the file `FTJM_RESULT_FILE`, or None.
    Raises InvalidJobError, and TypeError for a payload that JSON cannot hold.
    """
    import shlex

    words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    encoded = b"" if payload is None else plain.encode(payload, "payload")
    return Request[Any](COMMAND, tuple(words), encoded, dict(options)).checked()
