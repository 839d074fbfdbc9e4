"""Evidence beside the events. Rules that need a piece of evidence are skipped where it is not given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ftjm.core.records import commands as c
from ftjm.core.records.messages import SlotOffer, WorkerHeartbeat
from ftjm.core.state.model import JobState
from ftjm.lab.checker.intervals import Span
from ftjm.lab.checker.verdict import JobName


class Execution(msgspec.Struct, frozen=True):
    """Times at which one process ran an attempt, as the process recorded them: ms of CLOCK_BOOTTIME."""

    queue: str
    job_id: str
    attempt: int
    spans: Sequence[Span]
    """When the process ran. There is a gap where its whole host was stopped."""
    finished: bool
    """Whether the process ended without being killed."""
    worker: str = ""
    """The worker that ran it; empty where that is not known."""

    @property
    def name(self) -> JobName:
        """Queue and id of the job."""
        return self.queue, self.job_id


class WorkerOffers(msgspec.Struct):
    """The slots that workers offered, collected from their heartbeats."""

    by_number: dict[tuple[str, int, int], SlotOffer] = {}
    """Each offer, by session, partition and number."""
    slots: dict[str, int] = {}
    """The largest number of slots that each session has offered."""
    queues: dict[str, set[str]] = {}
    """The queues that each session serves."""

    def add(self, heartbeat: WorkerHeartbeat) -> None:
        """Add the offers of one heartbeat."""
        # A worker that leaves reports no slots, but its attempts still run.
        self.slots[heartbeat.session] = max(heartbeat.slots, self.slots.get(heartbeat.session, 0))
        self.queues.setdefault(heartbeat.session, set()).update(heartbeat.queues)
        for offer in heartbeat.offers:
            self.by_number[heartbeat.session, offer.partition, offer.number] = offer


CommandsByOffset = Mapping[int, c.Command | None]
"""The commands of one partition, by offset; `None` where a record cannot be decoded."""


class Evidence(msgspec.Struct, kw_only=True):
    """Knowledge about a history beside its events; every part is optional."""

    ends: Mapping[JobName, frozenset[JobState]] = {}
    """The states in which each job may end, by what was requested of it."""
    partitions: int = 0
    """Number of partitions; 0 where that is not known."""
    commands: Mapping[int, CommandsByOffset] | None = None
    """All records of `commands`, by partition. Not to be given where the topic has lost records: others lie at their
    offsets."""
    offers: WorkerOffers | None = None
    executions: Sequence[Execution] | None = None
    """Executions of all jobs."""
    woken: Mapping[str, Sequence[Span]] = {}
    """Intervals of each worker after a freeze of its host in which old attempts may still run (CLOCK_BOOTTIME, ms)."""
    pauses: Mapping[int, Sequence[Span]] = {}
    """Intervals in which a partition's owner could not decide, for broken brokers or processes (wall clock, ms)."""
    slack_ms: int | None = None
    """How late a timer may fire, pauses not counted, ms; `None` where lateness is not to be judged."""
