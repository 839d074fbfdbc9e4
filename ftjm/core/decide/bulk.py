"""Decisions about bulk requests: the same for many jobs of a queue.

A request is a process: it is begun at once, and goes through the queue's jobs by their ids, a slice in each batch
(`processes.py`). Each job is decided as by a command about this job alone. So a job that a bulk request cancels is
cancelled as any other, with an event of its own, and clients that wait for its outcome are told.

The request is about the jobs that were there when it was accepted: those whose `order` is not above the newest one
then. A job that comes, ends or begins a new run meanwhile is left alone.
"""

from collections.abc import Mapping
from typing import Any, assert_never

from ftjm.core.decide import jobs
from ftjm.core.decide.decision import Events, Policy, Rejected
from ftjm.core.lifecycle import states_of
from ftjm.core.names import is_name
from ftjm.core.records import commands as c
from ftjm.core.records import events as e
from ftjm.core.state.model import Job, JobState
from ftjm.core.state.processes import Bulk, BulkAction, JobFilter, ProcessKind, bulk_name
from ftjm.core.state.view import StateView

CHANGED_MAX = 80
"""Jobs that a slice changes: 3 ms."""
LOOKED_MAX = 300
"""Jobs that a slice looks at: 4 ms, since it reads two rows of each."""
ROWS_OF_A_CHANGE = 6
"""About so many rows a change writes: the job's, its place, its timers, its slot, and answers to waiting clients."""

STATES: Mapping[BulkAction, frozenset[JobState]] = {
    BulkAction.CANCEL: states_of(e.JobCancelled) | states_of(e.JobStopRequested),
    BulkAction.HOLD: states_of(e.JobHeld),
    BulkAction.RELEASE: states_of(e.JobReleased),
    BulkAction.RERUN: states_of(e.JobRerun) - {JobState.SUCCEEDED},
    BulkAction.PURGE: states_of(e.JobForgotten),
    BulkAction.PRIORITIZE: states_of(e.JobPrioritized),
}
"""The states that allow an action, for a filter that names none. A success is rerun only if it is named."""


def begin(state: StateView, command: c.BulkJobs, now: int, policy: Policy) -> Events | Rejected:
    """`BulkBegun`."""
    if not is_name(command.command_id):
        return Rejected("INVALID", "command_id: expected a name, so that a repeated request is recognised")
    if wrong := [name for name in command.filter.states if name not in JobState.__members__]:
        expected = ", ".join(JobState.__members__)
        return Rejected("INVALID", f"filter.states: expected some of {expected}, but found {wrong[0][:40]!r}")
    name = bulk_name(command.queue, command.command_id)
    known = state.process(ProcessKind.BULK, name) or state.bulk_result(name)
    if isinstance(known, Bulk) and _asks(known) != (command.action, command.filter, command.priority):
        text = f"expected another id than {command.command_id}, which a request to {known.action} has"
        return Rejected("IDENTITY_TAKEN", f"{text}; leave --command-id out, or use another")
    if known is not None or state.remembers(name):
        return Rejected("REPEATED", f"the request {command.command_id} about queue {command.queue} was accepted before")
    counts = state.queue(command.queue)
    return [
        e.BulkBegun(
            queue=command.queue,
            bulk=command.command_id,
            action=command.action,
            filter=command.filter,
            reason=command.reason,
            priority=command.priority,
            jobs=sum(counts.counts) if counts else 0,
        )
    ]


def _asks(request: Bulk) -> tuple[BulkAction, JobFilter, int]:
    return request.action, request.filter, request.priority


def stop(state: StateView, command: c.StopBulk, now: int, policy: Policy) -> Events | Rejected:
    """`BulkStopped`."""
    if state.process(ProcessKind.BULK, bulk_name(command.queue, command.bulk)) is None:
        text = f"expected a request {command.bulk} about queue {command.queue} to be under way, but there is none"
        return Rejected("UNKNOWN_BULK", text)
    return [e.BulkStopped(queue=command.queue, bulk=command.bulk)]


def next_slice(state: StateView, name: str, bulk: Bulk, rows: int, now: int, policy: Policy) -> Events:
    """The events of the next slice: those of its jobs, and a `BulkAdvanced`.

    Args:
        rows: how many rows the batch may change yet.
    """
    most = min(CHANGED_MAX, rows // ROWS_OF_A_CHANGE)
    events: Events = []
    looked = changed = refused = 0
    following = ""
    for key in state.job_keys(bulk.queue, bulk.next_job):
        if looked == LOOKED_MAX or changed == most:
            following = key.partition("/")[2]
            break
        looked += 1
        job = state.job(key)
        assert job is not None
        if job.order > bulk.order_max or not _is_named(state, bulk, key, job):
            continue
        decided = _decide(state, bulk, key, now, policy, name)
        if isinstance(decided, Rejected):
            refused += 1
        else:
            changed += 1
            events += decided
    events.append(
        e.BulkAdvanced(
            queue=bulk.queue,
            bulk=name.partition("/")[2],
            next_job=following,
            looked=bulk.looked + looked,
            changed=bulk.changed + changed,
            refused=bulk.refused + refused,
        )
    )
    return events


def _is_named(state: StateView, bulk: Bulk, key: str, job: Job) -> bool:
    wanted: JobFilter = bulk.filter
    if job.state.name not in wanted.states if wanted.states else job.state not in STATES[bulk.action]:
        return False
    if not wanted.submitted_after <= job.submitted_at < (wanted.submitted_before or job.submitted_at + 1):
        return False
    # Looked at last: a spec is a row of its own.
    return not wanted.labels or wanted.labels.items() <= state.spec(key).labels.items()


def _decide(state: StateView, bulk: Bulk, key: str, now: int, policy: Policy, name: str) -> Events | Rejected:
    """Decide about one job, as by a command about this job alone."""
    queue, _, job_id = key.partition("/")
    job: dict[str, Any] = {"queue": queue, "job_id": job_id}
    match bulk.action:
        case BulkAction.CANCEL:
            return jobs.cancel(state, c.CancelJob(**job, reason=bulk.reason), now, policy)
        case BulkAction.HOLD:
            return jobs.hold(state, c.HoldJob(**job, reason=bulk.reason), now, policy)
        case BulkAction.RELEASE:
            return jobs.release(state, c.ReleaseJob(**job), now, policy)
        case BulkAction.RERUN:
            command_id = name.partition("/")[2]
            return jobs.rerun(state, c.RerunJob(**job, reason=bulk.reason, command_id=command_id), now, policy)
        case BulkAction.PRIORITIZE:
            return jobs.prioritize(state, c.PrioritizeJob(**job, priority=bulk.priority), now, policy)
        case BulkAction.PURGE:
            return jobs.purge(state, key)
        case _:
            assert_never(bulk.action)
