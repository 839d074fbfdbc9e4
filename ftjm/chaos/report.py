"""What a run has shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ftjm.bench.report import percentile
from ftjm.chaos.breaking import Happened
from ftjm.chaos.plan import Kind

KILLS = (Kind.KILL_SCHEDULER, Kind.CORRUPT_STORE, Kind.WIPE_STORE, Kind.CORRUPT_SNAPSHOT)


class Takeover(msgspec.Struct, frozen=True):
    """One partition of one scheduler that was killed."""

    partition: int
    killed_ms: int
    """Wall clock."""
    seconds: float
    """From the kill to the next owner's first batch, by the brokers' clock."""
    alone: bool
    """Whether no other scheduler, and no broker, was broken meanwhile."""


class ChaosReport(msgspec.Struct, kw_only=True):
    """Names that scripts may depend on; seconds unless they say otherwise."""

    seed: int
    duration_s: float
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    faults: int
    """That happened, were healed, and were survived."""
    faults_by_kind: Mapping[str, int]
    lost: int
    """Acknowledged jobs without a trace or an end, and commands that nobody answered."""
    doubled: int
    overlapped: int
    takeovers: int
    """Partitions of schedulers that were killed."""
    takeover_p50_s: float
    takeover_p99_s: float
    takeover_max_s: float
    takeovers_alone: int
    """Of these, those during which nothing else of schedulers and brokers was broken."""
    takeover_alone_p50_s: float
    takeover_alone_p99_s: float
    jobs: int
    succeeded: int
    failed: int
    cancelled: int
    attempts: int
    attempts_lost: int
    executions: int
    """That attempts wrote down."""
    events: int
    batches: int
    stores: int
    """That were compared with the folded log."""
    timers_judged: int
    """Delays, deadlines and the like whose lateness no fault excuses."""
    settle_s: float
    """From the last fault's end to the last job's."""
    violations: list[str]
    crashes: list[str]
    """Processes that ended by themselves; they were started again."""

    @property
    def passed(self) -> bool:
        return not self.violations


def takeovers(owners: Mapping[int, Sequence[tuple[int, str]]], happened: Sequence[Happened]) -> list[Takeover]:
    """For each partition of each scheduler that was killed, how long it had nobody.

    Args:
        owners: by partition, when the log took the first batch of each owner (ms), and who it is (`name@host:pid`).
    """
    found = []
    for kill in happened:
        if kill.fault.kind not in KILLS or not kill.pid:
            continue
        for partition, changes in owners.items():
            before = [owner for at, owner in changes if at <= kill.began_ms]
            after = [at for at, owner in changes if at > kill.began_ms and owner != (before or [""])[-1]]
            if before and after and before[-1].rpartition(":")[2] == str(kill.pid):
                alone = not any(_disturbs(other, kill, after[0]) for other in happened)
                found.append(Takeover(partition, kill.began_ms, (after[0] - kill.began_ms) / 1000, alone))
    return found


def _disturbs(other: Happened, kill: Happened, until_ms: int) -> bool:
    concerned = "broker" in other.fault.kind or other.member.startswith("scheduler")
    lasted = other.healed_ms >= kill.began_ms and other.began_ms <= until_ms
    return other is not kill and concerned and lasted


def spread(seconds: Sequence[float]) -> tuple[float, float, float]:
    """p50, p99 and the most; zeros for none."""
    if not seconds:
        return 0.0, 0.0, 0.0
    return round(percentile(seconds, 50), 3), round(percentile(seconds, 99), 3), round(max(seconds), 3)


def by_kind(happened: Sequence[Happened]) -> Counter[str]:
    """How many faults of each kind there were, without those that could not be done."""
    return Counter(str(each.fault.kind) for each in happened if not each.problem)
