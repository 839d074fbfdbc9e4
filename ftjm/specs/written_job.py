"""The fields of a job as users write them: the inverse of `job.py`.

    JobSpec of the log                         as written
    timeout_ms 90000                           timeout: 90s
    backoff_ms 1000, backoff_factor 2.0        backoff: {initial: 1s, factor: 2.0}

What was left open is left out. So a job that is written and read again is the same, and its queue's defaults fill the
same fields.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ftjm.core.job_defaults import default_of
from ftjm.core.json_values import loads
from ftjm.core.state.model import JobSpec
from ftjm.runtime.durations import format_duration, format_time
from ftjm.specs import executors


def _same(value: Any) -> Any:
    return value


FORMS: Mapping[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "environment": (("env",), dict),
    "labels": (("labels",), dict),
    "working_directory": (("cwd",), _same),
    "priority": (("priority",), _same),
    "held": (("hold",), _same),
    "delay_ms": (("delay",), format_duration),
    "start_at": (("start_at",), format_time),
    "timeout_ms": (("timeout",), format_duration),
    "deadline_ms": (("deadline",), format_duration),
    "deadline_at": (("deadline",), format_time),
    "max_attempts": (("max_attempts",), _same),
    "backoff_ms": (("backoff", "initial"), format_duration),
    "backoff_factor": (("backoff", "factor"), _same),
    "backoff_max_ms": (("backoff", "max"), format_duration),
    "on_worker_loss": (("on_worker_loss",), str),
    "worker_losses_max": (("worker_losses_max",), _same),
    "continue_for_ms": (("disconnect", "continue_for"), format_duration),
    "cancel_grace_ms": (("cancel_grace",), format_duration),
    "retention_ms": (("retention",), format_duration),
    "concurrency_key": (("concurrency_key",), _same),
    "share_identifier": (("share_identifier",), _same),
}
"""Each field of `JobSpec` that does not depend on the executor: where users write it, and in which form."""


def written_job(job: JobSpec, explicit: Collection[str] = ()) -> dict[str, Any]:
    """The fields that users write for this job, without its queue and its id.

    Args:
        job: The job as it was submitted.
        explicit: Names of the fields that are written although they have their default.
    """
    found = executors.written(job.executor, job.command, payload := _value(job.payload))
    if job.payload and payload is None:
        found["payload"] = None  # null is a payload, too
    given = [name for name in FORMS if name in explicit or getattr(job, name) != default_of(job, name)]
    return found | written_fields(job, given)


def written_fields(job: JobSpec, names: Collection[str]) -> dict[str, Any]:
    """Some fields of a job as users write them, in the order of `JobSpec`."""
    found: dict[str, Any] = {}
    for name, ((outer, *inner), form) in FORMS.items():
        if name in names:
            value = form(getattr(job, name))
            if inner:
                found.setdefault(outer, {})[inner[0]] = value
            else:
                found[outer] = value
    return found


def _value(data: bytes) -> Any:
    """The value of a payload: text for bytes of other programs that are no JSON."""
    if not data:
        return None
    try:
        return loads(data)
    except ValueError:
        return data.decode(errors="replace")
