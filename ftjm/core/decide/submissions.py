"""Decisions about submissions: whether a job is valid, and whether it is known already."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from ftjm.core.decide.decision import Events, Policy, Rejected, named, unknown
from ftjm.core.identity import CONTENT_STATE_VERSIONS, content_hash, pack_content
from ftjm.core.job_defaults import canonical, explicit_fault, filled
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.executors import EXECUTORS
from ftjm.core.state.model import Job, JobSpec, job_key
from ftjm.core.state.view import StateView

RETRY_SECONDS = 15
"""Time after which a client that was refused as OVERLOADED should try again; the refusal's text names it."""


def submit(state: StateView, command: c.SubmitJob, now: int, policy: Policy) -> Events | Rejected:
    """`JobSubmitted` for a new job; `SubmissionRepeated` if the same job exists."""
    spec, explicit = command.spec, command.explicit
    if fault := fault_of(spec, policy) or (explicit and explicit_fault(explicit)):
        return Rejected("INVALID", fault)
    job = state.job(job_key(command.queue, command.job_id))
    if job is not None:
        return _existing(command, job, awaits=command.awaits)
    if policy.overload:
        return overloaded(policy)
    return [new_job(state, named(command), spec, now, policy, explicit=explicit, awaits=command.awaits)]


def new_job(
    state: StateView,
    name: dict[str, Any],
    spec: JobSpec,
    now: int,
    policy: Policy,
    *,
    explicit: Sequence[str] = (),
    awaits: bool = False,
) -> e.JobSubmitted:
    """The event that makes a job, which must not exist yet.

    Args:
        name: the envelope's fields that name the job.
        spec: without the defaults of the queue and of the cluster.
        explicit: names of fields that were given although they have their default.
    """
    content = _content(state, spec, canonical(spec, explicit) if explicit else explicit)
    declared = state.declaration(name["queue"])
    if declared is not None and declared.spec.defaults:
        spec = filled(spec, explicit, declared.spec.defaults[0])
    due_at = now + spec.delay_ms if spec.delay_ms else spec.start_at
    return e.JobSubmitted(
        **name,
        run=1,
        spec=msgspec.structs.replace(spec, retention_ms=spec.retention_ms or policy.retention_ms),
        due_at=due_at if due_at > now else 0,
        deadline_at=now + spec.deadline_ms if spec.deadline_ms else spec.deadline_at,
        content=content,
        awaits=awaits,
    )


def overloaded(policy: Policy) -> Rejected:
    """The refusal of a new job for `policy.overload`."""
    return Rejected("OVERLOADED", f"expected room for new jobs, but {policy.overload}; try again in {RETRY_SECONDS} s")


def await_outcome(state: StateView, command: c.AwaitJob, now: int, policy: Policy) -> Events | Rejected:
    """`SubmissionRepeated` if the job exists. A question about a job never creates it."""
    if fault := explicit_fault(command.explicit):
        return Rejected("INVALID", fault)
    job = state.job(job_key(command.queue, command.job_id))
    return unknown(command) if job is None else _existing(command, job, awaits=True)


def _existing(command: c.SubmitJob | c.AwaitJob, job: Job, *, awaits: bool) -> Events | Rejected:
    # A job that an earlier program accepted has a hash of an earlier version: compare with that.
    explicit = canonical(command.spec, command.explicit) if command.explicit else command.explicit
    if job.content != content_hash(command.spec, job.content_version, explicit):
        return Rejected(
            "IDENTITY_TAKEN",
            f"expected the same content as the existing job {command.queue}/{command.job_id}, but it differs; "
            f"use another id, or rerun the existing job",
        )
    return [e.SubmissionRepeated(**named(command), run=job.run, awaits=awaits)]


def _content(state: StateView, spec: JobSpec, explicit: Sequence[str]) -> bytes:
    """The packed content hash of a new job.

    Until the upgrade is final, the cluster can go back to a build that knows earlier versions alone, and would refuse
    the job's next submission. So the newest version is used that rows of the final version know. Version 1 cannot
    express every job.
    """
    version = _content_version(state.finalized.state_version)
    if version > 1:
        return pack_content(version, content_hash(spec, version, explicit))
    if content := content_hash(spec, 1):
        return pack_content(1, content)
    return pack_content(2, content_hash(spec, 2))


@cache
def _content_version(state_version: int) -> int:
    """The newest version of the content hash that rows of this version know."""
    known = [version for version, rows in CONTENT_STATE_VERSIONS.items() if rows <= state_version]
    return max(known, default=1)


def fault_of(spec: JobSpec, policy: Policy) -> str | None:
    """The first error of a submission, as text, beyond what `bounds` checks; None if the submission is valid."""
    limit = policy.inline_bytes_max
    if spec.executor not in EXECUTORS:
        return f"executor: expected one of {EXECUTORS}, but found {spec.executor[:40]!r}"
    if not spec.command or not spec.command[0]:
        return "command: expected at least the program to run, but found none"
    if len(spec.payload) > limit:
        return f"payload: expected at most {limit} bytes, but found {len(spec.payload)}"
    size = sum(map(_size, spec.command))
    for part in (spec.environment, spec.labels):
        if part:
            size += sum(map(_size, part)) + sum(map(_size, part.values()))
    if size > limit:
        return f"command, environment and labels: expected at most {limit} bytes, but found {size}"
    if not all(map(is_name, spec.labels)):
        return "labels: expected names as keys"
    if not all(k and "=" not in k and "\0" not in k for k in spec.environment):
        return "environment: expected names as keys"
    return None


def _size(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
