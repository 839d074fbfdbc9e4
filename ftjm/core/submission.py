"""Decisions about submissions: is it one that we can run, and do we know it already?"""

from collections.abc import Sequence

import msgspec

from ftjm.core import commands as c
from ftjm.core import events as e
from ftjm.core.identity import content_hash
from ftjm.core.model import JobSpec, job_key
from ftjm.core.names import is_name
from ftjm.core.state import State
from ftjm.core.verdict import Events, Policy, Rejected, named

EXECUTORS = ("command", "python")
PRIORITY_MAX = 100
RETRY_SECONDS = 15
"""What a refusal for lack of room tells clients to wait."""
TIME_MAX_MS = 1 << 53
"""Beyond it (the year 287396) other languages' clients lose digits."""


def submit(state: State, command: c.SubmitJob, now: int, policy: Policy) -> Events | Rejected:
    """`JobSubmitted`, or `SubmissionRepeated` where the same job is there already."""
    spec = command.spec
    if (fault := _fault(spec, policy)) is not None:
        return Rejected("INVALID", fault)
    content = content_hash(spec)
    job = state.job(job_key(command.queue, command.job_id))
    if job is not None:
        if job.content != content:
            return Rejected(
                "IDENTITY_TAKEN",
                f"expected the same content as the existing job {command.queue}/{command.job_id}, but it differs; "
                f"use another id, or rerun the existing job",
            )
        return [e.SubmissionRepeated(**named(command), run=job.run, awaits=command.awaits)]
    if policy.overload:
        return Rejected(
            "OVERLOADED", f"expected room for new jobs, but {policy.overload}; try again in {RETRY_SECONDS} s"
        )
    due_at = now + spec.delay_ms if spec.delay_ms else spec.start_at
    return [
        e.JobSubmitted(
            **named(command),
            run=1,
            spec=msgspec.structs.replace(spec, retention_ms=spec.retention_ms or policy.retention_ms),
            due_at=due_at if due_at > now else 0,
            deadline_at=now + spec.deadline_ms if spec.deadline_ms else spec.deadline_at,
            content=content,
            awaits=command.awaits,
        )
    ]


def _fault(spec: JobSpec, policy: Policy) -> str | None:
    """What is wrong with a submission, if anything."""
    limit = policy.inline_bytes_max
    size = sum(len(word) for word in spec.command) + sum(
        len(k) + len(v) for part in (spec.environment, spec.labels) for k, v in part.items()
    )
    # Told of what was found only where a check fails: there are ten of them for every submission.
    checks: Sequence[tuple[bool, str, object]] = (
        (spec.executor in EXECUTORS, _EXECUTOR, spec.executor[:40]),
        (bool(spec.command and spec.command[0]), "command: expected at least the program to run, but found none", 0),
        (0 <= spec.priority <= PRIORITY_MAX, "priority: expected 0 to {most}, but found {}", spec.priority),
        (spec.max_attempts >= 1, "max_attempts: expected 1 or more, but found {}", spec.max_attempts),
        (1 <= spec.backoff_factor <= 1_000, "backoff_factor: expected 1 to 1000, but found {}", spec.backoff_factor),
        (spec.worker_losses_max >= 0, "worker_losses_max: expected 0 or more, but found {}", spec.worker_losses_max),
        (len(spec.payload) <= limit, "payload: expected at most {limit} bytes, but found {}", len(spec.payload)),
        (size <= limit, "command, environment and labels: expected at most {limit} bytes, but found {}", size),
        (all(is_name(k) for k in spec.labels), "labels: expected names as keys", 0),
        (all(k and "=" not in k and "\0" not in k for k in spec.environment), "environment: expected names as keys", 0),
    )
    for passed, fault, found in checks:
        if not passed:
            return fault.format(found, limit=limit, most=PRIORITY_MAX)
    for field in _TIMES:
        if not 0 <= (value := getattr(spec, field)) <= TIME_MAX_MS:
            return f"{field}: expected 0 to {TIME_MAX_MS} ms, but found {value}"
    return None


_EXECUTOR = f"executor: expected one of {EXECUTORS}, but found {{!r}}"
_TIMES = (
    "delay_ms",
    "start_at",
    "timeout_ms",
    "deadline_ms",
    "deadline_at",
    "backoff_ms",
    "backoff_max_ms",
    "continue_for_ms",
    "cancel_grace_ms",
    "retention_ms",
)
