"""Explains in words why a job is not running.

An explanation is computed when it is asked for, and never stored. `gather_facts` collects what it needs from the
projection (the job, and the jobs before it) and from presence (workers, and the owner of the job's partition);
`explain` is a pure function from these facts to the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import msgspec

from ftjm.core.job_gates import key_limit
from ftjm.core.queue_gates import Opening, QueueRows, closed_gate, live_jobs
from ftjm.core.records.messages import SessionState, WorkerHeartbeat
from ftjm.core.state.model import LIVE, TERMINAL, Job, JobState
from ftjm.core.state.resources import ResourceKind
from ftjm.core.windows import closing, may_start_on
from ftjm.readmodel.documents.explanation import ExplanationDocument, Reason, ShareDocument
from ftjm.readmodel.presence import Presence
from ftjm.readmodel.queries import AHEAD_MAX, AtKey, ListedJob, Reader, StoredJob
from ftjm.readmodel.share_standing import ShareStanding, behind_shares, share_standing
from ftjm.readmodel.tables import submission_place
from ftjm.runtime.clock import wall_ms
from ftjm.runtime.durations import format_duration, format_time

MINUTE_MS = 60_000


class Server(msgspec.Struct, frozen=True):
    """A worker session, as far as an explanation needs it."""

    worker: str
    queues: list[str]
    slots: int
    busy: int
    draining: bool
    cordoned: bool = False
    offered: int = 0
    """Slots that it offers to the job's partition."""


class Facts(msgspec.Struct, frozen=True):
    """Everything that an explanation is made from."""

    queue: str
    job: Job
    now: int
    """Wall clock, ms."""
    ahead: int
    """Number of READY jobs of the queue that are served before this one."""
    ahead_max: int
    """The number at which counting `ahead` stopped."""
    owned: bool
    """Whether a live scheduler owns the queue's partition."""
    partition: int
    servers: Sequence[Server]
    """All worker sessions that are within their leases."""
    worker: str = ""
    """Name of the worker that the newest attempt was sent to; empty if there is none."""
    rows: QueueRows = QueueRows(None, None, None, None)
    """What is stored of the queue."""
    share: ShareStanding | None = None
    """How its share stands, if it is READY in a queue with shares. Then `ahead` counts jobs of its share alone."""
    starts_per_minute: int = 0
    """Attempts of the queue that its owner has dispatched in the last minute, by its newest report."""
    report_age_ms: int = 0
    """Age of that report."""
    having_key: Sequence[str] = ()
    """The first of the jobs that have the concurrency key for which this one waits, in words."""


class Standing(NamedTuple):
    """What the projection knows of a job's queue."""

    ahead: int | None
    """How many jobs of the queue are served before this one; None for a job that is not READY."""
    rows: QueueRows
    """What is stored of the queue."""
    at_key: AtKey | None = None
    """How a job stands that waits for its concurrency key."""
    cordoned: frozenset[str] = frozenset()
    """Names of the workers that are cordoned."""
    share: ShareStanding | None = None
    """How the share of a READY job stands; None in a queue without shares."""


class Explanation(msgspec.Struct, frozen=True):
    """The reason why a job is not running: a code for programs; for people, the situation and what to do about it."""

    reason: Reason
    text: str
    todo: str = ""


def standing_of(reader: Reader, found: StoredJob) -> Standing:
    """How a job stands in its queue."""
    queue, job = found.listed.queue, found.listed.job
    if job.state is JobState.PENDING:
        at_key = reader.at_key(queue, job)
        return Standing(at_key.ahead, reader.queue_rows(queue), at_key)
    rows, ahead, share = reader.queue_rows(queue), None, None
    if job.state is JobState.READY:
        share = share_standing(reader, queue, job, rows, wall_ms())
        ahead = reader.ahead(queue, job, job.share if share else None)
    return Standing(ahead, rows, cordoned=frozenset(reader.known_to(queue, ResourceKind.CORDON)), share=share)


def gather_facts(found: StoredJob, standing: Standing, presence: Presence) -> Facts:
    """Collect what explains the state of a job now."""
    partition, _ = submission_place(found.listed.id)
    owner = presence.owners().get(partition)
    reported = [one for one in owner.demand if one.queue == found.listed.queue] if owner else []
    return Facts(
        queue=found.listed.queue,
        job=found.listed.job,
        now=wall_ms(),
        ahead=standing.ahead or 0,
        ahead_max=AHEAD_MAX,
        owned=owner is not None,
        partition=partition,
        servers=[
            _server(one.heartbeat, standing.cordoned, partition) for one in presence.workers() if one.within_lease
        ],
        worker=found.listed.worker,
        rows=standing.rows,
        share=standing.share,
        starts_per_minute=reported[0].starts_per_minute if reported else 0,
        report_age_ms=owner.silent_ms if owner else 0,
        having_key=[_having(one) for one in standing.at_key.having] if standing.at_key else (),
    )


def explanation_document(found: StoredJob, standing: Standing, presence: Presence) -> ExplanationDocument:
    """Explain a job, as the document that users see."""
    facts = gather_facts(found, standing, presence)
    explanation = explain(facts)
    own = facts.share.own if facts.share else None
    return ExplanationDocument(
        job=found.listed.key,
        state=found.listed.job.state.name,
        reason=explanation.reason,
        text=explanation.text,
        todo=explanation.todo or None,
        ahead=standing.ahead,
        share=ShareDocument(identifier=own.identifier, weight=own.weight, usage=round(own.seconds, 3), running=own.live)
        if own
        else None,
        may_start_at=format_time(may_start_at(facts)) or None,
        starts_per_minute=facts.starts_per_minute or None,
    )


def may_start_at(facts: Facts) -> int:
    """An estimate of when a READY job may start, ms; 0 if nothing tells.

    It is made of the job's place and of the starts of its queue in the last minute. Of these, its share has a part by
    its weight.
    """
    if facts.job.state is not JobState.READY or not facts.starts_per_minute or facts.ahead >= facts.ahead_max:
        return 0
    place = facts.ahead + 1
    if facts.share:
        place = place * facts.share.weights // facts.share.own.weight
    return facts.now - facts.report_age_ms + place * MINUTE_MS // facts.starts_per_minute


def _server(heartbeat: WorkerHeartbeat, cordoned: Collection[str], partition: int) -> Server:
    draining, name = heartbeat.state is not SessionState.OPEN, heartbeat.worker
    offered = sum(offer.slots for offer in heartbeat.offers if offer.partition == partition)
    return Server(name, heartbeat.queues, heartbeat.slots, heartbeat.busy, draining, name in cordoned, offered)


def explain(facts: Facts) -> Explanation:
    """Explain why the job is not running. For a job that runs or has ended, the explanation states that."""
    job = facts.job
    if job.state in TERMINAL:
        because = f" ({job.reason})" if job.reason else ""
        text = f"run {job.run} ended as {job.state.name} at {format_time(job.ended_at)}{because}"
        return Explanation(Reason.NONE, text, "run it once more: ftjm rerun")
    if job.state in LIVE:
        return _live(facts)
    if not facts.owned:
        text = f"no live scheduler owns partition {facts.partition}, which decides about the queue"
        return Explanation(Reason.NO_SCHEDULER, text, "start one: ftjm scheduler; see `ftjm inspect partitions`")
    match job.state:
        case JobState.HELD:
            because = f": {job.reason}" if job.reason else ""
            return Explanation(Reason.HELD, f"it is held{because}", "release it: ftjm release")
        case JobState.SCHEDULED:
            return Explanation(Reason.START_TIME, f"it starts at {_at(job.due_at, facts.now)}")
        case JobState.RETRY_WAIT:
            text = f"attempt {job.attempt} ended with {job.reason}; the next one may start at"
            return Explanation(Reason.BACKOFF, f"{text} {_at(job.due_at, facts.now)}")
        case JobState.PENDING:
            return _waits_for_key(facts)
        case _:
            return _ready(facts)


def _having(one: ListedJob) -> str:
    """A job that has a concurrency key, in words."""
    job = one.job
    if job.state is JobState.READY:
        return f"{one.key} (waits for a slot since {format_time(job.ready_at)})"
    return f"{one.key} ({job.state.name} since {format_time(job.started_at or job.dispatched_at)})"


def _waits_for_key(facts: Facts) -> Explanation:
    job, limit = facts.job, key_limit(facts.rows.declaration)
    text = f"{limit} job(s) of queue {facts.queue} with the concurrency key {job.concurrency_key} may run at a time"
    if facts.having_key:
        text += f", and the key is taken by {', '.join(facts.having_key)}"
    count = f"at least {facts.ahead}" if facts.ahead >= facts.ahead_max else str(facts.ahead)
    text += f"; it waits since {format_time(job.pending_at)}, and {count} job(s) get the key before it"
    todo = "wait for the end of a job that has the key, cancel it, or raise the queue's concurrency_keys.limit"
    return Explanation(Reason.CONCURRENCY_LIMIT, text, f"{todo}: ftjm apply")


def _live(facts: Facts) -> Explanation:
    job = facts.job
    where = f"on worker {facts.worker}" if facts.worker else "on a worker"
    stopping = f", and is being stopped ({job.stopping})" if job.stopping else ""
    if job.state is JobState.DISPATCHED:
        since = format_time(job.dispatched_at)
        text = f"attempt {job.attempt} was sent to run {where} at {since}, and has not started there yet{stopping}"
        return Explanation(Reason.NONE, text)
    since = format_time(job.started_at)
    return Explanation(Reason.NONE, f"attempt {job.attempt} has been running {where} since {since}{stopping}")


def _paused(facts: Facts, _gate: Opening) -> Explanation:
    status = facts.rows.status
    assert status is not None
    by = f" by {status.actor}" if status.actor else ""
    because = f": {status.reason}" if status.reason else ""
    text = f"queue {facts.queue} has been paused since {format_time(status.paused_at)}{by}{because}"
    return Explanation(Reason.QUEUE_PAUSED, text, f"resume it: ftjm queue resume {facts.queue}")


def _outside_window(facts: Facts, gate: Opening) -> Explanation:
    closed = closing(facts.rows.windows)
    names = ", ".join(one.name for one in closed)
    if closed[0].open:
        text = f"queue {facts.queue} starts no jobs while a window that denies is open: {names}"
    else:
        text = f"queue {facts.queue} starts jobs only in its windows, and all are closed: {names}"
    until = f"; it may start at {_at(gate.more_at, facts.now)}" if gate.more_at else ""
    return Explanation(Reason.WINDOW, f"{text}{until}", f"wait, or change it: ftjm window describe {closed[0].name}")


def _limited(facts: Facts, _gate: Opening) -> Explanation:
    declaration = facts.rows.declaration
    assert declaration is not None
    text = f"{live_jobs(facts.rows.counts)} job(s) of queue {facts.queue} have a worker, and its concurrency is"
    todo = "wait for one of them to end, or raise the queue's concurrency: ftjm apply"
    return Explanation(Reason.QUEUE_LIMIT, f"{text} {declaration.spec.concurrency}", todo)


def _rate_used(facts: Facts, gate: Opening) -> Explanation:
    declaration = facts.rows.declaration
    assert declaration is not None
    spec = declaration.spec
    rate = f"{spec.rate_limit} start(s) in {format_duration(spec.rate_per_ms)}"
    text = (
        f"queue {facts.queue} has used up its rate of {rate}; the next job may start at {_at(gate.more_at, facts.now)}"
    )
    return Explanation(Reason.RATE_LIMIT, text, "wait, or raise the queue's rate: ftjm apply")


CLOSED_GATES: dict[str, Callable[[Facts, Opening], Explanation]] = {
    Reason.QUEUE_PAUSED: _paused,
    Reason.WINDOW: _outside_window,
    Reason.QUEUE_LIMIT: _limited,
    Reason.RATE_LIMIT: _rate_used,
}
"""How a closed gate of a queue is explained. Each gate of `ftjm.core.queue_gates` has a row."""


def _ready(facts: Facts) -> Explanation:
    if (closed := closed_gate(facts.rows, facts.now)) is not None:
        gate, opening = closed
        return CLOSED_GATES[gate](facts, opening)
    serving = [server for server in facts.servers if facts.queue in server.queues]
    staying = [server for server in serving if not server.draining]
    free = [server for server in staying if not server.cordoned]
    taking = [server for server in free if may_start_on(facts.rows.windows, server.worker)]
    if free and not taking:
        names = ", ".join(one.name for one in facts.rows.windows)
        text = (
            f"no window of queue {facts.queue} ({names}) lets it start on the {len(free)} worker(s) that serve it now"
        )
        return Explanation(Reason.WINDOW, text, "wait, or start a worker that a window allows")
    if staying and not free:
        text = f"all {len(staying)} worker(s) that serve queue {facts.queue} are cordoned"
        return Explanation(Reason.NO_WORKER, text, f"uncordon one: ftjm worker uncordon {staying[0].worker}")
    if not taking:
        others = f"{len(facts.servers)} worker(s) serve other queues" if facts.servers else "there is no worker at all"
        text = f"all {len(serving)} worker(s) that serve queue {facts.queue} are leaving"
        if not serving:
            text = f"no worker serves queue {facts.queue}; {others}"
        return Explanation(Reason.NO_WORKER, text, f"start one: ftjm worker --queue {facts.queue}")
    slots, busy = sum(server.slots for server in taking), sum(min(server.busy, server.slots) for server in taking)
    if facts.share is not None:
        offered = sum(server.offered for server in taking)
        if (behind := behind_shares(facts.share, facts.queue, facts.rows, offered)) is not None:
            reason, text, todo = behind
            text = f"{text}; {facts.ahead} job(s) of its share are before it{_estimate(facts)}"
            return Explanation(reason, text, todo)
    if facts.ahead:
        count = f"at least {facts.ahead}" if facts.ahead >= facts.ahead_max else str(facts.ahead)
        of = f"share {facts.job.share or 'without a name'} of queue" if facts.share else "queue"
        text = f"{count} job(s) of {of} {facts.queue} are served first: of a higher priority, or older"
        return Explanation(
            Reason.PRIORITY,
            f"{text}; {busy} of {slots} slot(s) of {len(taking)} worker(s) are busy{_estimate(facts)}",
            "wait, add workers or slots, or submit with a higher --priority",
        )
    if busy >= slots:
        text = f"it is next, but all {slots} slot(s) of the {len(taking)} worker(s) that serve its queue are busy"
        return Explanation(Reason.RESOURCES, f"{text}{_estimate(facts)}", "wait, or add workers or slots")
    text = f"it is next; {slots - busy} slot(s) are free, and one is about to be offered to its partition"
    return Explanation(Reason.RESOURCES, text)


def _estimate(facts: Facts) -> str:
    """When a READY job may start, in words; empty if nothing tells."""
    if not (at := may_start_at(facts)):
        return ""
    starts = f"{facts.starts_per_minute} start(s) of the queue in the last minute"
    return f"; it may start at about {_at(at, facts.now)} (estimated by {starts}, {facts.report_age_ms} ms ago)"


def _at(due: int, now: int) -> str:
    left = f", in {format_duration((due - now) // 1000 * 1000)}" if due - now >= 1000 else ""
    return f"{format_time(due)}{left}"
