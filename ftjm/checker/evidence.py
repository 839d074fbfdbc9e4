"""What a judge may be given beside the events; whatever is left out is not judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ftjm.checker.report import Name
from ftjm.checker.spans import Span
from ftjm.core import commands as c
from ftjm.core.messages import WorkerHeartbeat
from ftjm.core.model import JobState


class Execution(msgspec.Struct, frozen=True):
    """What one process that ran an attempt wrote down of itself; times are ms of CLOCK_BOOTTIME."""

    queue: str
    job_id: str
    attempt: int
    spans: Sequence[Span]
    """When it ran; it did not while its whole host was stopped."""
    finished: bool
    """Whether it came to its own end, and was not killed on the way."""
    worker: str = ""
    """Whose it was; empty where that is not known."""

    @property
    def name(self) -> Name:
        return self.queue, self.job_id


class Heard(msgspec.Struct):
    """What workers offered, as their heartbeats tell."""

    offers: dict[tuple[str, int, int], int] = {}
    """Slots, by session, partition and number of the offer."""
    slots: dict[str, int] = {}
    """By session: the most that it ever had."""
    queues: dict[str, set[str]] = {}
    """By session: which it serves."""

    def hear(self, heartbeat: WorkerHeartbeat) -> None:
        """Take one heartbeat in."""
        # One that leaves has none any more, and may still run what it has.
        self.slots[heartbeat.session] = max(heartbeat.slots, self.slots.get(heartbeat.session, 0))
        self.queues.setdefault(heartbeat.session, set()).update(heartbeat.queues)
        for offer in heartbeat.offers:
            self.offers[heartbeat.session, offer.partition, offer.number] = offer.slots


Asked = Mapping[int, c.Command | None]
"""What each record of a partition's `commands` holds, by its offset; None where that cannot be read."""


class Evidence(msgspec.Struct, kw_only=True):
    """All that may be known of a history beside its events."""

    ends: Mapping[Name, frozenset[JobState]] = {}
    """How a job may end, by what was asked for."""
    partitions: int = 0
    """How many there are; 0 where that is not known."""
    commands: Mapping[int, Asked] | None = None
    """All records of `commands`, by partition; not where it has lost some: others lie in their place."""
    heard: Heard | None = None
    executions: Sequence[Execution] | None = None
    """Of all jobs."""
    woken: Mapping[str, Sequence[Span]] = {}
    """By worker: the time for which its host may run old attempts after it was frozen and woken (CLOCK_BOOTTIME)."""
    pauses: Mapping[int, Sequence[Span]] = {}
    """By partition, when its owner could not decide: broken brokers, stopped processes (wall clock)."""
    slack_ms: int | None = None
    """How much later than it is due a timer may fire beyond all pauses; None where that is not to be judged."""
