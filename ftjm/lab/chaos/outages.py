"""Intervals in which a partition could not decide, since its owner or a broker was broken. They excuse late timers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from ftjm.lab.chaos.faults import InjectedFault
from ftjm.lab.chaos.plan import FAULT_RULES, FaultKind, TargetRole

Span = tuple[float, float]

BROKER_MS, COLD_BROKER_MS = 5_000, 20_000
"""Time that clients need to find a broker again after its fault; longer for a broker that was restarted."""
COLD = (FaultKind.KILL_BROKER, FaultKind.FILL_BROKER_DISK)
OWNER_MS = 1_000
"""Time that an owner needs after a fault to decide what has waited."""


def pauses(owners: Mapping[int, Sequence[tuple[int, str]]], injected: Sequence[InjectedFault]) -> dict[int, list[Span]]:
    """Return by partition the intervals in which it had an owner that could not decide (wall clock, ms).

    The fault of a scheduler counts only for the partitions that it owned then. The time between two owners is not
    listed
    here: the checker reads it from the log.

    Args:
        owners: by partition, time of the first batch of each owner (ms), and the owner (`name@host:pid`).
    """
    found: dict[int, list[Span]] = defaultdict(list)
    for fault in injected:
        role = FAULT_RULES[fault.fault.kind].role
        for partition, changes in owners.items():
            if role is TargetRole.BROKER:
                after = COLD_BROKER_MS if fault.fault.kind in COLD else BROKER_MS
                found[partition].append((fault.began_ms, fault.healed_ms + after))
            elif role is TargetRole.SCHEDULER:
                found[partition] += _owned(changes, fault)
    return found


def _owned(changes: Sequence[tuple[int, str]], fault: InjectedFault) -> Iterator[Span]:
    for (since, owner), (until, _) in pairwise([*changes, (math.inf, "")]):
        start, end = max(since, fault.began_ms), min(until, fault.healed_ms)
        if owner.partition("@")[0] == fault.member and start <= end:
            yield start, end + OWNER_MS
