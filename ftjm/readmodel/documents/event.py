"""An event of the log as a document, and the output that an attempt's last event holds."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ftjm.core.records import events as e
from ftjm.core.state.model import JobSpec
from ftjm.core.state.processes import BulkAction
from ftjm.readmodel.documents.bulk import filter_document
from ftjm.readmodel.documents.fields import Document, Moment, exit_fields
from ftjm.readmodel.documents.resource import written_resource
from ftjm.runtime.durations import format_time
from ftjm.runtime.plain_values import plain
from ftjm.specs import queue, schedule

OUTPUTS = ("stdout", "stderr")
ENVELOPE = frozenset(e.Event.__struct_fields__)
"""Fields that every event has. They are fields of the document itself, or name the event's job and place."""
TIMES = frozenset({"instant", "until", "decided_to", "interval_start", "counted_to", "looked_to"})
"""Fields that are times, beside those whose names end with `_at`."""
NOT_DETAILS = ENVELOPE | {"content", "attempt"}
_DEFAULT_SPEC = JobSpec()


class EventDocument(Document, frozen=True, kw_only=True):
    """An event, as the log has it."""

    at: Moment
    job: Annotated[str | None, Meta(description="Name of the job: queue/job_id.")] = None
    queue: Annotated[str | None, Meta(description="Name of the queue, if the event is about a whole queue.")] = None
    event: Annotated[str, Meta(description="The event's type, such as AttemptFailed.")]
    run: int | None = None
    attempt: int | None = None
    cause: Annotated[str, Meta(description="What led to the event: a command, a timer, a lost worker.")]
    cause_ref: Annotated[str | None, Meta(description="Which one: for a command, its place in the log.")] = None
    actor: Annotated[str | None, Meta(description="Who sent the command.")] = None
    partition: int
    offset: int
    details: Annotated[dict[str, Any], Meta(description="The event's own fields that have a value.")]


class AttemptOutput(Document, frozen=True, kw_only=True):
    """The output of one attempt: the tails that the log holds. Bytes that are no UTF-8 are replaced by U+FFFD."""

    job: str
    run: int
    attempt: int
    exit_code: Annotated[int | None, Meta(description="Exit status of the attempt's process.")] = None
    signal: Annotated[int | None, Meta(description="The signal that ended the process, in place of exit_code.")] = None
    stdout: str
    stderr: str
    stdout_cut: Annotated[int, Meta(description="Number of bytes before the tail, which were not kept.")]
    stderr_cut: Annotated[int, Meta(description="Number of bytes before the tail, which were not kept.")]


def event_document(event: e.Event, partition: int, offset: int) -> EventDocument:
    """Render an event. Of an attempt's output, `details` has the length only: `stdout_bytes` and `stderr_bytes`.

    Args:
        partition: the event's place in the log, with `offset`.
    """
    details = {name: _detail(name, value) for name, value in _own_fields(event).items()}
    for name in OUTPUTS:
        if details.pop(name, None) is not None:
            details[f"{name}_bytes"] = len(getattr(event, name))
    return EventDocument(
        at=format_time(event.at) or format_time(1),
        job=f"{event.queue}/{event.job_id}" if event.job_id else None,
        queue=None if event.job_id else event.queue or None,
        event=type(event).__name__,
        run=event.run or None,
        attempt=getattr(event, "attempt", None),
        cause=event.cause.value,
        cause_ref=event.cause_ref or None,
        actor=event.actor or None,
        partition=partition,
        offset=offset,
        details=details,
    )


def _own_fields(event: e.Event) -> dict[str, Any]:
    """An event's own fields, without empty ones. Of a job's spec, the fields that differ from their defaults; a spec of
    a queue or a schedule as users write it."""
    found = {name: getattr(event, name) for name in event.__struct_fields__ if name not in NOT_DETAILS}
    if isinstance(event, e.JobSubmitted):
        spec = msgspec.structs.asdict(event.spec)
        found["spec"] = {name: value for name, value in spec.items() if value != getattr(_DEFAULT_SPEC, name)}
    elif isinstance(event, e.QueueApplied):
        found["spec"] = queue.written(event.spec)
    elif isinstance(event, e.ScheduleApplied):
        found["spec"] = schedule.written(event.spec)
    elif isinstance(event, e.ResourceApplied | e.ResourceAdopted):
        found["spec"] = written_resource(event.spec)
    elif isinstance(event, e.BulkBegun):
        found["filter"] = msgspec.to_builtins(filter_document(event.filter))
    return {
        name: value for name, value in found.items() if value not in ("", b"", 0, {}) or _tells_of_zero(event, name)
    }


def _tells_of_zero(event: e.Event, name: str) -> bool:
    """Whether a field of this event has a value although it is 0."""
    is_new_priority = isinstance(event, e.JobPrioritized) or (
        isinstance(event, e.BulkBegun) and event.action is BulkAction.PRIORITIZE
    )
    return name == "priority" and is_new_priority


def _detail(name: str, value: Any) -> Any:
    is_time = name.endswith("_at") or name in TIMES
    return format_time(value) if is_time and isinstance(value, int) else plain(value)


def attempt_fields(event: e.OutputEvent) -> dict[str, Any]:
    """The fields of an `AttemptOutput`, from the event that ended the attempt."""
    signal = 0 if isinstance(event, e.AttemptSucceeded) else event.signal
    return {
        "job": f"{event.queue}/{event.job_id}",
        "run": event.run,
        "attempt": event.attempt,
        **exit_fields(event.exit_code, signal, succeeded=isinstance(event, e.AttemptSucceeded)),
        "stdout": event.stdout.decode(errors="replace"),
        "stderr": event.stderr.decode(errors="replace"),
        "stdout_cut": event.stdout_cut,
        "stderr_cut": event.stderr_cut,
    }


def attempt_output(event: e.OutputEvent) -> AttemptOutput:
    """Render the output of an attempt."""
    return AttemptOutput(**attempt_fields(event))
