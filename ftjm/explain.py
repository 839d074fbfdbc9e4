"""Why a job is not running, in words: computed from what is known now, and never stored."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from ftjm.core.messages import SessionState, WorkerHeartbeat
from ftjm.core.model import LIVE, TERMINAL, Job, JobState
from ftjm.durations import format_duration, format_time


class Reason(StrEnum):
    """What a job waits for; empty where it waits for nothing."""

    NONE = ""
    HELD = "Held"
    START_TIME = "StartTime"
    BACKOFF = "Backoff"
    DEPENDENCY = "Dependency"
    NO_SCHEDULER = "NoScheduler"
    NO_WORKER = "NoWorker"
    PRIORITY = "Priority"
    RESOURCES = "Resources"


class Server(msgspec.Struct, frozen=True):
    """A worker session as far as it matters here."""

    worker: str
    queues: list[str]
    slots: int
    busy: int
    draining: bool


class Facts(msgspec.Struct, frozen=True):
    """What an explanation is made from."""

    queue: str
    job: Job
    now: int
    """ms."""
    ahead: int
    """READY jobs of the queue that are served before it."""
    ahead_max: int
    """Up to which they were counted."""
    owned: bool
    """Whether a scheduler that was heard lately decides about the queue's partition."""
    partition: int
    servers: Sequence[Server]
    """All worker sessions that were heard within their leases."""
    worker: str = ""
    """The one that has the job, if one has."""


class Explanation(msgspec.Struct, frozen=True):
    """The reason, for programs; what is so, and what to do about it, for people."""

    reason: Reason
    text: str
    todo: str = ""


def server(heartbeat: WorkerHeartbeat) -> Server:
    """A session by its heartbeat."""
    draining = heartbeat.state is not SessionState.OPEN
    return Server(heartbeat.worker, heartbeat.queues, heartbeat.slots, heartbeat.busy, draining)


def explain(facts: Facts) -> Explanation:
    """Why the job of `facts` is not running; that it does, or has ended, where it is so."""
    job = facts.job
    if job.state in TERMINAL:
        because = f" ({job.reason})" if job.reason else ""
        text = f"run {job.run} ended as {job.state.name} at {format_time(job.ended_at)}{because}"
        return Explanation(Reason.NONE, text, "`ftjm rerun` runs it once more")
    if job.state in LIVE:
        return _live(facts)
    if not facts.owned:
        text = f"no scheduler that decides about partition {facts.partition} was heard lately"
        return Explanation(Reason.NO_SCHEDULER, text, "start one: ftjm scheduler; see `ftjm inspect partitions`")
    match job.state:
        case JobState.HELD:
            because = f": {job.reason}" if job.reason else ""
            return Explanation(Reason.HELD, f"it is held{because}", "let it go on with `ftjm release`")
        case JobState.SCHEDULED:
            return Explanation(Reason.START_TIME, f"it starts at {_at(job.due_at, facts.now)}")
        case JobState.RETRY_WAIT:
            text = f"attempt {job.attempt} ended with {job.reason}; the next one may start at"
            return Explanation(Reason.BACKOFF, f"{text} {_at(job.due_at, facts.now)}")
        case JobState.PENDING:
            return Explanation(Reason.DEPENDENCY, job.reason or "it waits for other jobs")
        case _:
            return _ready(facts)


def _live(facts: Facts) -> Explanation:
    job = facts.job
    where = f"on worker {facts.worker}" if facts.worker else "on a worker"
    if job.state is JobState.DISPATCHED:
        since = format_time(job.dispatched_at)
        return Explanation(Reason.NONE, f"attempt {job.attempt} was sent to run {where} at {since}, and begins there")
    stopping = f", and is being stopped ({job.stopping})" if job.stopping else ""
    since = format_time(job.started_at)
    return Explanation(Reason.NONE, f"attempt {job.attempt} has been running {where} since {since}{stopping}")


def _ready(facts: Facts) -> Explanation:
    serving = [found for found in facts.servers if facts.queue in found.queues]
    taking = [found for found in serving if not found.draining]
    if not taking:
        others = f"{len(facts.servers)} worker(s) were heard that do not" if facts.servers else "none was heard at all"
        text = f"all {len(serving)} worker(s) that serve queue {facts.queue} are leaving"
        if not serving:
            text = f"no worker serves queue {facts.queue}; {others}"
        return Explanation(Reason.NO_WORKER, text, f"start one: ftjm worker --queue {facts.queue}")
    slots, busy = sum(found.slots for found in taking), sum(min(found.busy, found.slots) for found in taking)
    if facts.ahead:
        count = f"at least {facts.ahead}" if facts.ahead >= facts.ahead_max else str(facts.ahead)
        text = f"{count} job(s) of queue {facts.queue} go first: of higher priority, or as high and older"
        return Explanation(
            Reason.PRIORITY,
            f"{text}; {busy} of {slots} slot(s) of {len(taking)} worker(s) are busy",
            "wait, add workers or slots, or submit with a higher --priority",
        )
    if busy >= slots:
        text = f"it is next, but all {slots} slot(s) of the {len(taking)} worker(s) that serve its queue are busy"
        return Explanation(Reason.RESOURCES, text, "wait, or add workers or slots")
    text = f"it is next; {slots - busy} slot(s) are free, and one is about to be offered to its partition"
    return Explanation(Reason.RESOURCES, text)


def _at(due: int, now: int) -> str:
    left = f", in {format_duration((due - now) // 1000 * 1000)}" if due - now >= 1000 else ""
    return f"{format_time(due)}{left}"
