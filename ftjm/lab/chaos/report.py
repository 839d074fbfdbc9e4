"""The report of a chaos run: counts, measured takeovers, violations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ftjm.lab.bench.report import percentile
from ftjm.lab.chaos.faults import InjectedFault
from ftjm.lab.chaos.plan import FaultKind

KILLS = (FaultKind.KILL_SCHEDULER, FaultKind.CORRUPT_STORE, FaultKind.WIPE_STORE, FaultKind.CORRUPT_SNAPSHOT)


class Takeover(msgspec.Struct, frozen=True):
    """The takeover of one partition of a killed scheduler."""

    partition: int
    killed_ms: int
    """Wall clock."""
    seconds: float
    """Time from the kill to the next owner's first batch, by the brokers' clock."""
    alone: bool
    """Whether no other scheduler and no broker was broken during the takeover."""


class ChaosReport(msgspec.Struct, kw_only=True):
    """The document that `ftjm chaos -o json` prints. Scripts depend on its names; times are in seconds."""

    seed: int
    duration_s: float
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    faults: int
    """Faults that had an effect, were healed, and were survived."""
    faults_by_kind: Mapping[str, int]
    lost: int
    """Acknowledged jobs without a trace or an end, and commands without an answer."""
    doubled: int
    overlapped: int
    takeovers: int
    """Takeovers of partitions of killed schedulers."""
    takeover_p50_s: float
    takeover_p99_s: float
    takeover_max_s: float
    takeovers_alone: int
    """Takeovers during which no other scheduler and no broker was broken."""
    takeover_alone_p50_s: float
    takeover_alone_p99_s: float
    jobs: int
    scheduled_jobs: int
    """How many of the jobs were made by schedules."""
    task_jobs: int
    """How many of the jobs were submitted as Python tasks."""
    succeeded: int
    failed: int
    cancelled: int
    attempts: int
    attempts_lost: int
    attempts_ahead: int
    """Attempts that were sent ahead of a free slot."""
    attempts_declined: int
    executions: int
    """Executions that attempts recorded."""
    task_executions: int
    """How many of the executions are of Python tasks."""
    events: int
    batches: int
    stores: int
    """Stores that were compared with the log."""
    timers_judged: int
    """Delays, deadlines and other timers whose lateness no fault would have excused."""
    settle_s: float
    """Time from the end of the last fault to the end of the last job."""
    violations: list[str]
    crashes: list[str]
    """Processes that ended by themselves, and were started again."""

    @property
    def passed(self) -> bool:
        """Whether there are no violations."""
        return not self.violations


def takeovers(owners: Mapping[int, Sequence[tuple[int, str]]], injected: Sequence[InjectedFault]) -> list[Takeover]:
    """Return the takeover of each partition of each killed scheduler.

    Args:
        owners: by partition, time of the first batch of each owner (ms), and the owner (`name@host:pid`).
    """
    found = []
    for kill in injected:
        if kill.fault.kind not in KILLS or not kill.pid:
            continue
        for partition, changes in owners.items():
            before = [owner for at, owner in changes if at <= kill.began_ms]
            after = [at for at, owner in changes if at > kill.began_ms and owner != (before or [""])[-1]]
            if before and after and before[-1].rpartition(":")[2] == str(kill.pid):
                alone = not any(_overlaps(other, kill, after[0]) for other in injected)
                found.append(Takeover(partition, kill.began_ms, (after[0] - kill.began_ms) / 1000, alone))
    return found


def _overlaps(other: InjectedFault, kill: InjectedFault, until_ms: int) -> bool:
    is_relevant = "broker" in other.fault.kind or other.member.startswith("scheduler")
    lasted = other.healed_ms >= kill.began_ms and other.began_ms <= until_ms
    return other is not kill and is_relevant and lasted


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p99 and the maximum; zeros for no values."""
    if not seconds:
        return 0.0, 0.0, 0.0
    return round(percentile(seconds, 50), 3), round(percentile(seconds, 99), 3), round(max(seconds), 3)


def count_by_kind(injected: Sequence[InjectedFault]) -> Counter[str]:
    """Return the number of faults of each kind. Faults that had no effect do not count."""
    return Counter(str(each.fault.kind) for each in injected if not each.problem)
