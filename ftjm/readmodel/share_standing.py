"""How the share of a waiting job stands among those of its queue, for explanations."""

from __future__ import annotations

from typing import NamedTuple

from ftjm.core.queue_gates import QueueRows, live_jobs
from ftjm.core.shares import half_life_of, rank, slots_allowed, usage_at, weights_of
from ftjm.core.state.model import Job
from ftjm.core.state.queues import ShareUsage
from ftjm.readmodel.documents.explanation import Reason
from ftjm.readmodel.queries import Reader
from ftjm.runtime.durations import format_duration

US_OF_SECOND = 1_000_000


class ShareFacts(NamedTuple):
    """A share of a queue, and what it has used."""

    identifier: str
    weight: int
    usage: int
    """Microseconds."""
    live: int

    @property
    def rank(self) -> int:
        """Its place among the shares of its queue, lower first."""
        return rank(self.usage, self.weight)

    @property
    def seconds(self) -> float:
        """What it has used, in seconds."""
        return self.usage / US_OF_SECOND

    def described(self) -> str:
        """Its name, usage and weight, in words."""
        name = f"share {self.identifier}" if self.identifier else "the share without a name"
        return f"{name} has used {format_duration(round(self.seconds) * 1000)} for a weight of {self.weight}"


class ShareStanding(NamedTuple):
    """The share of a READY job."""

    own: ShareFacts
    first: ShareFacts | None
    """The share with waiting jobs that has used least for its weight, if that is less than the job's own."""
    weights: int
    """The sum of the weights of the queue's shares that have jobs."""


def share_standing(reader: Reader, queue: str, job: Job, rows: QueueRows, now: int) -> ShareStanding | None:
    """How the share of a READY job stands at the time `now`, ms; None in a queue without shares."""
    if rows.counts is None or not rows.counts.shared:
        return None
    weights, half_life = weights_of(rows.declaration), half_life_of(rows.declaration)
    used = reader.shares(queue)
    used.setdefault(job.share, ShareUsage())
    shares = [
        ShareFacts(name, weights.get(name, 1), usage_at(row, half_life, now), row.live) for name, row in used.items()
    ]
    (own,) = [share for share in shares if share.identifier == job.share]
    before = sorted((share for share in shares if share.rank < own.rank), key=lambda share: share.rank)
    first = next((share for share in before if reader.waits_in_share(queue, share.identifier)), None)
    return ShareStanding(own, first, sum(share.weight for share in shares))


def behind_shares(share: ShareStanding, queue: str, rows: QueueRows, capacity: int) -> tuple[Reason, str, str] | None:
    """Why jobs of other shares are served before those of this one: the reason, the situation, and what to do about it.
    None if they are not.

    Args:
        share: the share of the job.
        queue: the job's queue.
        rows: what is stored of the queue.
        capacity: how many slots are offered to the queue.
    """
    reservation = rows.declaration.spec.compute_reservation if rows.declaration else 0
    if reservation and rows.counts is not None:
        allowed = slots_allowed(capacity, reservation, rows.counts.active_shares + (not share.own.live))
        if live_jobs(rows.counts) >= allowed:
            text = f"the shares of queue {queue} may use {allowed} of {capacity} slot(s), by its compute_reservation"
            todo = "wait for the end of a job, add slots, or lower the queue's compute_reservation: ftjm apply"
            return Reason.COMPUTE_RESERVATION, f"{text} of {reservation}, and all are taken", todo
    if share.first is None:
        return None
    text = f"{share.own.described()}; {share.first.described()}, which is less, and goes first"
    return Reason.SHARE, text, "wait, add workers or slots, or give its share a higher weight: ftjm apply"
