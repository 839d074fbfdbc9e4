"""What excuses a timer that comes late: that the partition's owner, or a broker, was broken."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from ftjm.chaos.breaking import Happened
from ftjm.chaos.plan import WAYS, Kind, Role

Span = tuple[float, float]

BROKER_MS, COLD_BROKER_MS = 5_000, 20_000
"""After a broker is there again, clients need so long to find it; one that was started anew warms up for so long."""
COLD = (Kind.KILL_BROKER, Kind.FILL_BROKER_DISK)
OWNER_MS = 1_000
"""After an owner is well again, it needs so long for what waits."""


def pauses(owners: Mapping[int, Sequence[tuple[int, str]]], happened: Sequence[Happened]) -> dict[int, list[Span]]:
    """By partition, when nobody could decide about it although somebody owned it: ms of the wall clock.

    A scheduler's fault excuses only what it owned then. The time between two owners the log tells by itself.

    Args:
        owners: by partition, when the log took the first batch of each owner (ms), and who it is (`name@host:pid`).
    """
    found: dict[int, list[Span]] = defaultdict(list)
    for fault in happened:
        role = WAYS[fault.fault.kind].role
        for partition, changes in owners.items():
            if role is Role.BROKER:
                after = COLD_BROKER_MS if fault.fault.kind in COLD else BROKER_MS
                found[partition].append((fault.began_ms, fault.healed_ms + after))
            elif role is Role.SCHEDULER:
                found[partition] += _owned(changes, fault)
    return found


def _owned(changes: Sequence[tuple[int, str]], fault: Happened) -> Iterator[Span]:
    for (since, owner), (until, _) in pairwise([*changes, (math.inf, "")]):
        start, end = max(since, fault.began_ms), min(until, fault.healed_ms)
        if owner.partition("@")[0] == fault.member and start <= end:
            yield start, end + OWNER_MS
