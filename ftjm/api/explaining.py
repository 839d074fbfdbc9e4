"""The facts that explain why a job is not running, put together from the projection and from who was heard."""

from __future__ import annotations

from typing import NamedTuple

from ftjm.api.presence import Presence
from ftjm.api.queries import AHEAD_MAX, Found, Reader
from ftjm.api.tables import place_of
from ftjm.clock import wall_ms
from ftjm.core.model import JobState
from ftjm.explain import Explanation, Facts, explain, server

OWNER = "owner"


class Explained(NamedTuple):
    """Why, and how many jobs go first (None where the job does not wait in line)."""

    why: Explanation
    ahead: int | None


def ahead_of(reader: Reader, found: Found) -> int | None:
    """How many jobs go first; None for a job that does not wait in line."""
    row = found.listed.job
    return reader.ahead(found.listed.key.partition("/")[0], row) if row.state is JobState.READY else None


def explained(found: Found, ahead: int | None, presence: Presence) -> Explained:
    """Why the job is not running."""
    partition, _ = place_of(found.listed.id)
    owned = any(
        report.partition == partition and report.role == OWNER
        for one in presence.schedulers()
        if one.alive
        for report in one.heartbeat.partitions
    )
    facts = Facts(
        queue=found.listed.key.partition("/")[0],
        job=found.listed.job,
        now=wall_ms(),
        ahead=ahead or 0,
        ahead_max=AHEAD_MAX,
        owned=owned,
        partition=partition,
        servers=[server(one.heartbeat) for one in presence.workers() if one.silent_ms < one.heartbeat.lease_ms],
        worker=found.listed.worker,
    )
    return Explained(explain(facts), ahead)
