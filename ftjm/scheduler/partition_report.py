"""The report on a partition that heartbeats carry, and the statistics of its queues, which `/metrics` shows, too.

An owner looks in every turn of its loop whether its report may have changed, and a partition may have a hundred
thousand queues. So only the rows that were written since are read, and a heartbeat lists a bounded number of queues:
first those with jobs that wait for a slot, since workers offer their slots by that; then those whose limits let no more
of their jobs start; then some others, for people: those that are paused before the rest.

    rows written ─► counts, waiting ─► at most so many queues that wait, and one entry for the rest ─► demand
                    limited, paused ├─► some queues that are limited, some that are paused ────────────┤
                                    └─► some queues where nothing waits, chosen once a second ─────────┘
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice

import msgspec

from ftjm.core.queue_gates import QueueRows, is_limited, queue_rows, weight_of
from ftjm.core.records.levels import SHARING_LEVEL
from ftjm.core.records.messages import OfferTaken, PartitionReport, QueueDemand
from ftjm.core.state.model import JobState, Position, job_key
from ftjm.core.state.resources import KnownResource, ResourceKind, resource_key
from ftjm.core.state.view import StateView
from ftjm.engine.liveness import Liveness
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.queue_starts import QueueStarts

READY = JobState.READY
NO_JOBS = [0] * (max(JobState) + 1)
SELDOM_MS = 1_000
"""Pause between two looks at the jobs that are served next; of many queues also between two copies of their counts, and
two choices of those without waiting jobs."""
OLDEST_QUEUES_MAX = 200
"""Queues of one partition whose next job is looked for."""
UNCHANGED_MS = 100
"""Pause between two reports while nothing has changed but the time."""
FEW_QUEUES = 1_000
"""A partition with at most this many queues copies all their counts at every change."""
WAITING_QUEUES_MAX = 1_000
"""Queues of one partition with waiting jobs that one heartbeat lists."""
ALL_WAITING_QUEUES_MAX = 16_000
"""The same of all partitions. With the longest names that is 3 MB; a record may have 4 MB."""
ALL_OTHER_QUEUES_MAX = 2_000
"""Queues of all partitions without waiting jobs that one heartbeat lists. They only inform people, and each costs 30
bytes or more in every heartbeat."""


class QueueStatistics(msgspec.Struct, frozen=True):
    """The queues of a partition at one moment. It is replaced as a whole, so any thread may read it."""

    counts: dict[str, list[int]] = {}
    """For each queue, the number of jobs in each state, indexed by `JobState`. Of many queues it is up to a
    second old."""
    oldest_at: dict[str, int] = {}
    """For each queue, since when the job waits that is served next, ms since the Unix epoch; 0 if none waits. Others
    may wait longer, by their priority: at most 100 times the queue's ageing."""
    demand: list[QueueDemand] = []
    """The queues that heartbeats list."""
    waiting_jobs: int = 0
    """How many jobs of all queues wait for a slot, and for no limit or pause of their queue."""
    paused: frozenset[str] = frozenset()
    """The queues that are paused, with and without jobs."""
    cordoned: list[str] = []
    """The workers that are cordoned, if the partition is the home of cordons."""


class QueueStatisticsReader:
    """Follows one partition's queues. Only the partition's thread uses it."""

    def __init__(self, partitions: int, starts: QueueStarts | None = None) -> None:
        """Begin with nothing.

        Args:
            partitions: how many the cluster has: they share the room in heartbeats.
            starts: the attempts that the partition's owner has dispatched lately.
        """
        self._starts = starts or QueueStarts()
        self._tells_starts = False
        """Whether all who read heartbeats can read how many attempts were dispatched."""
        self._weights: dict[str, int] = {}
        """The weights of queues that have another one than 1."""
        self._waiting_max = min(WAITING_QUEUES_MAX, ALL_WAITING_QUEUES_MAX // partitions)
        self._others_max = max(1, ALL_OTHER_QUEUES_MAX // partitions)
        self._counts: dict[str, list[int]] = {}
        self._waiting: dict[str, int] = {}
        """How many jobs of a queue wait for a slot, for each with such jobs that is neither limited nor paused."""
        self._limited: dict[str, int] = {}
        """The same for each queue whose limits let no more of its jobs start."""
        self._paused: dict[str, int] = {}
        """Queues that are paused, in a steady order. They need not have a job."""
        self._windows: Mapping[str, KnownResource] = {}
        self._waiting_jobs = 0
        self._others: list[str] = []
        self._searched_at = 0
        self._statistics = QueueStatistics()

    def read(self, state: StateView, now: int, time_ms: int) -> QueueStatistics:
        """Count the jobs of each queue whose row has changed. Once a second, look for those that are served next, too.

        Args:
            state: the partition's state.
            now: ms of any steady clock.
            time_ms: the time of the partition, ms since the Unix epoch.
        """
        changed = state.changed_queues()
        seldom = changed is None or now - self._searched_at >= SELDOM_MS
        if changed is None:
            self._counts, self._waiting, self._limited, self._waiting_jobs = {}, {}, {}, 0
            self._paused = dict.fromkeys(state.paused_queues(), 1)
            # Nothing more is stored of most queues, and there may be a hundred thousand: these are not looked up.
            set_up = {*self._paused, *state.declared_queues()}
            for name, row in state.queues():
                rows = QueueRows(None, None, row, None)
                if name in set_up or state.windows():
                    rows = queue_rows(state, name)
                self._note(name, rows, time_ms)
        # Time alone opens the gate of a rate. Windows that have turned are read anew, as another mapping.
        turned = state.windows() is not self._windows
        self._windows = state.windows()
        for name in {
            *(changed or ()),
            *(self._limited if seldom or turned else ()),
            *(self._waiting if turned else ()),
        }:
            self._note(name, queue_rows(state, name), time_ms)
        if not changed and not seldom and not turned:
            return self._statistics
        counts, oldest_at = self._statistics.counts, self._statistics.oldest_at
        if seldom or len(self._counts) <= FEW_QUEUES:
            counts = dict(self._counts)
            others = (name for name in self._counts if not self._is_listed(name))
            self._others = list(islice(others, self._others_max))
        if seldom:
            self._searched_at = now
            names = islice(chain(self._waiting, self._limited, self._paused), OLDEST_QUEUES_MAX)
            oldest_at = {name: _oldest_at(state, name) for name in names}
        paused = frozenset(self._paused)
        self._tells_starts = state.finalized.level >= SHARING_LEVEL
        demand = self._demand(oldest_at, now)
        cordoned = [name for name in state.cordons() if state.adoption(resource_key(ResourceKind.CORDON, name))]
        self._statistics = QueueStatistics(counts, oldest_at, demand, self._waiting_jobs, paused, cordoned)
        return self._statistics

    def _note(self, name: str, rows: QueueRows, time_ms: int) -> None:
        row = rows.counts
        self._waiting_jobs -= self._waiting.get(name, 0)
        ready = row.counts[READY] if row else 0
        is_paused = rows.status is not None
        limited = ready > 0 and not is_paused and is_limited(rows, time_ms)
        # A name that stays keeps its place, since a report with other places counts as another one.
        _keep(self._waiting, name, ready if not is_paused and not limited else 0)
        _keep(self._limited, name, ready if limited else 0)
        _keep(self._paused, name, is_paused)
        _keep(self._weights, name, weight if (weight := weight_of(rows.declaration)) > 1 else 0)
        self._waiting_jobs += self._waiting.get(name, 0)
        if row is None:
            self._counts.pop(name, None)
        else:
            # A copy: the next batch changes the row in place, and other threads read the statistics.
            self._counts[name] = list(row.counts)

    def _is_listed(self, name: str) -> bool:
        return name in self._waiting or name in self._limited or name in self._paused

    def _demand(self, oldest_at: dict[str, int], now: int) -> list[QueueDemand]:
        listed = list(islice(self._waiting, self._waiting_max))
        limited = list(islice(self._limited, self._waiting_max - len(listed)))
        paused = list(islice(self._paused, self._others_max))
        idle = (name for name in self._others if name in self._counts and not self._is_listed(name))
        others = islice(idle, self._others_max - len(paused))
        demand = [
            QueueDemand(
                queue=name,
                ready=counts[READY],
                counts=counts,
                oldest_at=oldest_at.get(name, 0),
                paused=name in self._paused,
                limited=name in self._limited,
                weight=self._weights.get(name, 1),
                starts_per_minute=self._starts.per_minute(name, now) if self._tells_starts else 0,
            )
            for name in (*listed, *limited, *paused, *others)
            for counts in (self._counts.get(name, NO_JOBS),)
        ]
        if len(self._waiting) > len(listed):
            unlisted = self._waiting_jobs - sum(self._waiting[name] for name in listed)
            demand.append(QueueDemand(queue="", ready=unlisted))
        return demand


def _keep(values: dict[str, int], name: str, value: int) -> None:
    """Set a value, or drop its name if there is none."""
    if value:
        values[name] = value
    else:
        values.pop(name, None)


def _oldest_at(state: StateView, queue: str) -> int:
    counts = state.queue(queue)
    shared = counts is not None and counts.shared
    first = min(state.first_jobs(queue).values(), default=None) if shared else next(state.ready(queue), None)
    job = None if first is None else state.job(job_key(queue, first[2]))
    return 0 if job is None else job.ready_at


def partition_report(
    partition: int,
    role: str,
    state: StateView,
    queues: QueueStatistics,
    liveness: Liveness | None,
    now: int,
) -> PartitionReport:
    """Return the report on a partition that is followed or owned here.

    Args:
        partition: the partition.
        role: the role of this instance in it.
        state: its state.
        queues: the statistics of its queues.
        liveness: the sessions whose offers are reported as seen; None if the partition is not owned here.
        now: ms of the clock of `liveness`.
    """
    taken = sorted(liveness.taken(partition, now).items()) if liveness else []
    return PartitionReport(
        partition=partition,
        role=role,
        owner_epoch=state.position.owner_epoch,
        applied_offset=state.position.applied_offset,
        next_command=state.position.next_command,
        demand=queues.demand,
        taken=[OfferTaken(session=session, number=number) for session, number in taken],
        cordoned=queues.cordoned,
    )


class Reporter:
    """Makes the reports on one partition that is followed or owned here. Only the partition's thread uses it."""

    def __init__(self, partition: int, partitions: int, liveness: Liveness, starts: QueueStarts | None = None) -> None:
        """`partitions` is the number of partitions of the cluster; `liveness` knows the sessions of workers; `starts`
        counts what the partition's owner dispatches."""
        self._partition = partition
        self._liveness = liveness
        self._reader = QueueStatisticsReader(partitions, starts)
        self._role: Role | None = None
        self._position: Position | None = None
        self._position_at = 0
        """When `_position` was seen first."""
        self._offers_changed = 0
        self._reported_at = 0

    def changes(self, role: Role, state: StateView, now: int) -> tuple[QueueStatistics, PartitionReport] | None:
        """The statistics and the report, if they may differ from the last ones; else None.

        They follow from the role, from the rows (each batch sets a new position), and from the offers of workers. Time
        alone changes little (a session falls silent, a rate lets jobs start), and is looked at every `UNCHANGED_MS`.

        Args:
            role: the role of this instance in the partition. An owner counts the jobs of queues.
            state: the partition's state.
            now: ms of the clock of `liveness`.
        """
        owns, changed = role is Role.OWNER, self._liveness.changed
        same = state.position is self._position and role is self._role
        if same and changed == self._offers_changed and now - self._reported_at < UNCHANGED_MS:
            return None
        if state.position is not self._position:
            self._position, self._position_at = state.position, now
        self._role, self._offers_changed, self._reported_at = role, changed, now
        time_ms = state.position.now + now - self._position_at
        queues = self._reader.read(state, now, time_ms) if owns else QueueStatistics()
        return queues, partition_report(self._partition, role, state, queues, self._liveness if owns else None, now)


def role_report(partition: int, role: str) -> PartitionReport:
    """Return the report on a partition of which this instance has no state: only its role."""
    return PartitionReport(
        partition=partition, role=role, owner_epoch=0, applied_offset=-1, next_command=0, demand=[], taken=[]
    )


def must_report_soon(reported: PartitionReport, report: PartitionReport) -> bool:
    """Whether a new report should be sent at once: the role, the seen offers or the queues that have waiting jobs have
    changed since the one that was reported."""
    if (reported.role, reported.taken) != (report.role, report.taken):
        return True
    return reported.demand is not report.demand and _waiting(reported) != _waiting(report)


def _waiting(report: PartitionReport) -> list[str]:
    """The queues that have waiting jobs. If they are too many to list, workers offer slots to all of them, so it does
    not matter which are listed."""
    waiting = [d.queue for d in report.demand if d.ready and not d.paused and not d.limited]
    return [""] if "" in waiting else waiting
