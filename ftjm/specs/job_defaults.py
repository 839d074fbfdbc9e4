"""The defaults that a queue gives to its jobs, as users declare them: some of the fields of a job, in the same form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, create_model

from ftjm.core.state.model import JobSpec
from ftjm.core.state.queues import JobDefaults
from ftjm.specs.executors import Fields
from ftjm.specs.fields import duration, written_as
from ftjm.specs.job import PolicyFields, policy_values
from ftjm.specs.problems import FieldProblem

FIELDS = (
    *("priority", "timeout", "deadline", "max_attempts", "backoff", "on_worker_loss", "worker_losses_max"),
    *("disconnect", "cancel_grace", "retention"),
)
"""Fields of a job that a queue may give: those of `FROM_QUEUE` in `core/job_defaults.py`, as users write them."""
OWN_FIELDS: Mapping[str, str] = {
    "queue": "these are defaults of the queue that metadata names",
    "job_id": "each job has its own",
    "command": "each job has its own",
    "task": "each job has its own",
    "payload": "each job has its own",
    "args": "each job has its own",
    "kwargs": "each job has its own",
    "env": "each job has its own",
    "labels": "each job has its own",
    "cwd": "each job has its own",
    "concurrency_key": "each job has its own",
    "share_identifier": "each job has its own",
    "delay": "each job has its own",
    "start_at": "each job has its own",
    "hold": "`ftjm queue pause` keeps all jobs of a queue waiting",
}
"""Fields of a job that a queue does not give, and the reason."""
RelativeDeadline = Annotated[
    tuple[str, int],
    BeforeValidator(lambda value: ("deadline_ms", duration(value))),
    written_as("string", examples=["2h"]),
]

DefaultsFields: type[Fields] = create_model(  # type: ignore[call-overload]
    "DefaultsFields",
    __base__=Fields,
    __module__=__name__,
    __doc__="Fields of a job that its queue gives where the job's sender leaves them open.",
    **{name: (PolicyFields.model_fields[name].annotation, PolicyFields.model_fields[name]) for name in FIELDS}
    | {
        "deadline": (
            RelativeDeadline | None,
            Field(None, description="When a job must have ended: a duration from its submission on."),
        )
    },
)


def job_defaults(fields: Any) -> list[JobDefaults]:
    """The defaults that validated `DefaultsFields` stand for; an empty list if there are none."""
    given = dict(sorted(policy_values(fields).items()))
    return [JobDefaults([*given], JobSpec(**given))] if given else []


def defaults_problems(fields: Any) -> list[FieldProblem]:
    """Fields of a job in the defaults of a queue's spec that a queue does not give, with paths from the spec on.

    Args:
        fields: The spec as the user wrote it.
    """
    defaults = fields.get("defaults") if isinstance(fields, Mapping) else None
    if not isinstance(defaults, Mapping):
        return []
    return [
        FieldProblem(("defaults", name), f"expected none, since {why}; leave it out")
        for name, why in OWN_FIELDS.items()
        if name in defaults
    ]
