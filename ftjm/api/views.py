"""Rows, heartbeats and events as the API shows them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from ftjm.api import models as m
from ftjm.api.explaining import Explained
from ftjm.api.following import Freshness
from ftjm.api.presence import HeardScheduler, HeardWorker
from ftjm.api.queries import Found, Listed
from ftjm.clock import wall_ms
from ftjm.core import events as e
from ftjm.core.messages import JobOutcome
from ftjm.core.model import TERMINAL, Position
from ftjm.durations import format_duration, format_time
from ftjm.jobhistory import Recorded, details
from ftjm.rendering import plain

STALE_MS = 5_000
"""The age of the projection is below two seconds where all is well."""
OUTPUTS = frozenset({"stdout", "stderr"})


def freshness(known: Freshness) -> m.Freshness:
    """How old what is read is."""
    if not known.as_of:
        return m.Freshness(as_of=None, age_seconds=None, stale=True)
    age_ms = max(0, wall_ms() - known.as_of)
    return m.Freshness(as_of=format_time(known.as_of), age_seconds=age_ms / 1000, stale=age_ms > STALE_MS)


def summary(listed: Listed) -> dict[str, Any]:
    """The fields of a `JobSummary`."""
    job = listed.job
    queue, _, job_id = listed.key.partition("/")
    return {
        "job": listed.key,
        "queue": queue,
        "job_id": job_id,
        "state": job.state.name,
        "run": job.run,
        "attempt": job.attempt,
        "priority": job.priority,
        "labels": json.loads(listed.labels),
        "worker": listed.worker or None,
        "reason": job.reason or None,
        "submitted_at": format_time(job.submitted_at),
        "due_at": format_time(job.due_at) or None,
        "deadline_at": format_time(job.deadline_at) or None,
        "dispatched_at": format_time(job.dispatched_at) or None,
        "started_at": format_time(job.started_at) or None,
        "ended_at": format_time(job.ended_at) or None,
    }


def job(found: Found, known: Freshness) -> m.Job:
    """A job with what was asked for and what came of it."""
    row, spec, outcome = found.listed.job, found.spec, found.outcome
    return m.Job(
        **summary(found.listed),
        failures=row.failures,
        worker_losses=row.losses,
        max_attempts=spec.max_attempts,
        executor=spec.executor,
        command=spec.command,
        payload=value(spec.payload),
        env=spec.environment,
        cwd=spec.working_directory or None,
        timeout=format_duration(spec.timeout_ms) if spec.timeout_ms else None,
        stopping=row.stopping or None,
        session=row.session or None,
        progress=found.checkpoint.progress if found.checkpoint.progress >= 0 else None,
        progress_text=found.checkpoint.text or None,
        checkpoint=value(found.checkpoint.data),
        exit_code=outcome.exit_code if row.state in TERMINAL else None,
        error=outcome.error or None,
        result=value(outcome.result),
        freshness=freshness(known),
    )


def value(data: bytes) -> Any:
    """JSON bytes as a value; None for none, and text for what is not JSON."""
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data.decode(errors="replace")


def outcome(ended: JobOutcome) -> m.Outcome:
    """How a run ended, as its waiter was told."""
    return m.Outcome(
        state=ended.state,
        reason=ended.reason or None,
        exit_code=ended.exit_code,
        error=ended.error or None,
        result=value(ended.result),
    )


def happened(recorded: Recorded) -> m.Happened:
    """An event; of outputs, only how long they are."""
    event = recorded.event
    said = {
        name: _field(name, found)
        for name, found in details(event).items()
        if name not in OUTPUTS and name not in ("attempt", "session")
    }
    said |= {f"{name}_bytes": len(data) for name in OUTPUTS if (data := getattr(event, name, b""))}
    return m.Happened(
        at=format_time(event.at) or format_time(1),
        job=f"{event.queue}/{event.job_id}" if event.job_id else None,
        event=type(event).__name__,
        run=event.run or None,
        attempt=getattr(event, "attempt", None),
        cause=event.cause.value,
        cause_ref=event.cause_ref,
        actor=event.actor or None,
        partition=recorded.partition,
        offset=recorded.offset,
        details=said,
    )


def _field(name: str, found: Any) -> Any:
    if name.endswith("_at") and isinstance(found, int):
        return format_time(found)
    return plain(found)


def logs(event: e.AttemptSucceeded | e.AttemptFailed, known: Freshness) -> m.Logs:
    """What an attempt wrote."""
    return m.Logs(
        job=f"{event.queue}/{event.job_id}",
        run=event.run,
        attempt=event.attempt,
        exit_code=event.exit_code,
        stdout=event.stdout.decode(errors="replace"),
        stderr=event.stderr.decode(errors="replace"),
        stdout_cut=event.stdout_cut,
        stderr_cut=event.stderr_cut,
        freshness=freshness(known),
    )


def explained(found: Found, why: Explained) -> dict[str, Any]:
    """The fields of an `Explained` document, but for how true it is."""
    return {
        "job": found.listed.key,
        "state": found.listed.job.state.name,
        "reason": why.why.reason.value,
        "text": why.why.text,
        "todo": why.why.todo or None,
        "ahead": why.ahead,
    }


def worker(heard: HeardWorker) -> m.Worker:
    """A worker session."""
    told = heard.heartbeat
    return m.Worker(
        worker=told.worker,
        session=told.session,
        host=told.host,
        pid=told.pid,
        state=told.state.value,
        alive=heard.alive,
        silent_ms=heard.silent_ms,
        lease_ms=told.lease_ms,
        slots=told.slots,
        busy=told.busy,
        queues=told.queues,
    )


def scheduler(heard: HeardScheduler) -> m.SchedulerSummary:
    """A scheduler process."""
    told = heard.heartbeat
    return m.SchedulerSummary(
        scheduler=told.instance,
        host=told.host,
        pid=told.pid,
        alive=heard.alive,
        silent_ms=heard.silent_ms,
        roles=dict(Counter(report.role for report in told.partitions)),
    )


def partition(number: int, at: Position, commands_end: int | None, heard: list[HeardScheduler]) -> m.PartitionSummary:
    """A partition, by the log and by what schedulers say of it."""
    roles = [
        m.Role(scheduler=one.heartbeat.instance, role=report.role, applied_offset=report.applied_offset)
        for one in heard
        if one.alive
        for report in one.heartbeat.partitions
        if report.partition == number
    ]
    return m.PartitionSummary(
        partition=number,
        owner=at.owner or None,
        alive=any(role.scheduler == at.owner and role.role == "owner" for role in roles),
        epoch=at.owner_epoch,
        batch=at.batch_no,
        decided_at=format_time(at.now) or None,
        next_command=at.next_command,
        lag=None if commands_end is None else max(0, commands_end - at.next_command),
        applied_offset=at.applied_offset,
        roles=roles,
    )
