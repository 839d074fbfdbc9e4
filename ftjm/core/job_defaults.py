"""Which fields of a job its sender left open, and what its queue gives to them.

A submission holds a value for each field. A field was **left open** if it has its default and the sender does not name
it as explicit. The default is that of the job's executor (a Python task has three attempts), else that of `JobSpec`.
So a sender that knows nothing of open fields sends what it always did, and a queue that declares nothing changes
nothing.

What a field gets, the first that there is:

    the sender's value        it differs from the default, or `explicit` names the field
    the queue's default       `QueueSpec.defaults`, of the fields in `FROM_QUEUE`
    the executor's default
    `JobSpec`'s default       a retention of 0 is then the cluster's
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from ftjm.core.state.executors import OWN_DEFAULTS
from ftjm.core.state.model import JobSpec
from ftjm.core.state.queues import JobDefaults

FROM_QUEUE = frozenset(
    {
        *("priority", "timeout_ms", "deadline_ms", "max_attempts", "backoff_ms", "backoff_factor", "backoff_max_ms"),
        *("on_worker_loss", "worker_losses_max", "continue_for_ms", "cancel_grace_ms", "retention_ms"),
    }
)
"""Fields of `JobSpec` that a queue may give. What a job runs, where, when, and how it is labelled is its own."""


def default_of(spec: JobSpec, field: str) -> Any:
    """The default that a field has in jobs of this executor."""
    own = OWN_DEFAULTS.get(spec.executor, {})
    return own[field] if field in own else _defaults(type(spec))[field]


@cache
def _defaults(kind: type[JobSpec]) -> dict[str, Any]:
    return msgspec.structs.asdict(kind())


def canonical(spec: JobSpec, explicit: Iterable[str]) -> list[str]:
    """The names of `explicit` in the form that is hashed and stored: sorted, each once, and only of fields that have
    their default, since other fields are given without being named."""
    return sorted({name for name in explicit if getattr(spec, name) == default_of(spec, name)})


def explicit_fault(explicit: Sequence[str]) -> str:
    """The first error of a list of explicit fields, as text; empty if it is valid."""
    for name in explicit:
        if name not in JobSpec.__struct_fields__:
            return f"explicit: expected names of a job's fields, but found {name!r}"
    return ""


def filled(spec: JobSpec, explicit: Sequence[str], defaults: JobDefaults) -> JobSpec:
    """The job with its queue's defaults in the fields that were left open.

    A deadline is one field in two forms: a job that gives a time has no use for the queue's duration.
    """
    has_deadline = spec.deadline_at or "deadline_at" in explicit
    given = {
        name: getattr(defaults.spec, name)
        for name in defaults.fields
        if name not in explicit
        and getattr(spec, name) == default_of(spec, name)
        and not (name == "deadline_ms" and has_deadline)
    }
    return msgspec.structs.replace(spec, **given) if given else spec


def defaults_fault(defaults: Sequence[JobDefaults]) -> str:
    """The first error of a queue's defaults, as text, beyond what `bounds` checks; empty if they are valid."""
    for one in defaults:
        if unknown := [name for name in one.fields if name not in FROM_QUEUE]:
            expected = ", ".join(sorted(FROM_QUEUE))
            return f"defaults: expected fields of a job that a queue may give ({expected}), but found {unknown[0]!r}"
        if one.fields != sorted(set(one.fields)):
            return f"defaults: expected names of fields in their order, each once, but found {', '.join(one.fields)}"
        if not one.fields:
            return "defaults: expected at least one field, but found none; leave the defaults out"
    return ""
