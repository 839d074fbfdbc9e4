"""The plan of a run: which fault hits which target when. A pure function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from random import Random

import msgspec


class TargetRole(StrEnum):
    """Parts of the cluster that a fault can hit."""

    SCHEDULER = "scheduler"
    WORKER = "worker"
    API = "api"
    BROKER = "broker"


class FaultKind(StrEnum):
    """Kinds of faults."""

    KILL_SCHEDULER = "kill-scheduler"
    STOP_SCHEDULER = "stop-scheduler"
    CUT_SCHEDULER = "cut-scheduler"
    SKEW_CLOCK = "skew-clock"
    """The wall clock of a scheduler jumps, and jumps back."""
    FILL_DISK = "fill-disk"
    """No file of a scheduler can grow."""
    CORRUPT_STORE = "corrupt-store"
    """A scheduler is killed, and a file of one of its stores is damaged before it comes back."""
    WIPE_STORE = "wipe-store"
    """A scheduler is killed, and one of its stores is removed before it comes back, as with a new disk."""
    CORRUPT_SNAPSHOT = "corrupt-snapshot"
    """As WIPE_STORE; also, a chunk of the newest snapshot is damaged, from which the store would be restored."""
    KILL_SUPERVISOR = "kill-supervisor"
    STOP_SUPERVISOR = "stop-supervisor"
    KILL_GUARD = "kill-guard"
    STOP_GUARD = "stop-guard"
    KILL_ZYGOTE = "kill-zygote"
    """The process that forks the kept processes of Python tasks."""
    STOP_ZYGOTE = "stop-zygote"
    KILL_TASK_PROCESS = "kill-task-process"
    """A kept process of Python tasks, which may run a task or wait for one."""
    STOP_TASK_PROCESS = "stop-task-process"
    FREEZE_WORKER = "freeze-worker"
    """All processes of a worker are stopped, as when its host sleeps."""
    CUT_WORKER = "cut-worker"
    KILL_API = "kill-api"
    STOP_API = "stop-api"
    CUT_API = "cut-api"
    KILL_BROKER = "kill-broker"
    STOP_BROKER = "stop-broker"
    CUT_BROKER = "cut-broker"
    """No process except the other brokers reaches the broker."""
    FILL_BROKER_DISK = "fill-broker-disk"


class PlannedFault(msgspec.Struct, frozen=True):
    """One fault of the plan."""

    number: int
    at_seconds: float
    """Time since the beginning of the load."""
    kind: FaultKind
    target: int
    """Number of the target among those of its role."""
    seconds: float
    draw: int
    """Seed for the choices that are made when the fault is injected."""


class ClusterShape(msgspec.Struct, frozen=True):
    """Number of processes of each role."""

    brokers: int = 1
    schedulers: int = 3
    workers: int = 2

    def count(self, role: TargetRole) -> int:
        """Return the number of processes of a role."""
        return {
            TargetRole.API: 1,
            TargetRole.BROKER: self.brokers,
            TargetRole.SCHEDULER: self.schedulers,
            TargetRole.WORKER: self.workers,
        }[role]


class FaultRule(msgspec.Struct, frozen=True):
    """How often a kind of fault is drawn, which role it hits, and how long it lasts (seconds)."""

    role: TargetRole
    weight: int
    shortest: float
    longest: float
    rest_seconds: float = 1.0
    """Time after the fault in which its target is not hit again."""


FAULT_RULES: dict[FaultKind, FaultRule] = {
    FaultKind.KILL_SCHEDULER: FaultRule(TargetRole.SCHEDULER, 8, 0.0, 1.5),
    FaultKind.STOP_SCHEDULER: FaultRule(TargetRole.SCHEDULER, 6, 0.2, 4.0),
    FaultKind.CUT_SCHEDULER: FaultRule(TargetRole.SCHEDULER, 4, 0.3, 4.0),
    FaultKind.SKEW_CLOCK: FaultRule(TargetRole.SCHEDULER, 4, 1.0, 4.0),
    FaultKind.FILL_DISK: FaultRule(TargetRole.SCHEDULER, 3, 0.5, 3.0),
    FaultKind.CORRUPT_STORE: FaultRule(TargetRole.SCHEDULER, 3, 0.0, 0.5, 3.0),
    FaultKind.WIPE_STORE: FaultRule(TargetRole.SCHEDULER, 2, 0.0, 0.5, 3.0),
    FaultKind.CORRUPT_SNAPSHOT: FaultRule(TargetRole.SCHEDULER, 2, 0.0, 0.5, 3.0),
    FaultKind.KILL_SUPERVISOR: FaultRule(TargetRole.WORKER, 5, 0.0, 1.5),
    FaultKind.STOP_SUPERVISOR: FaultRule(TargetRole.WORKER, 4, 0.2, 4.0),
    FaultKind.KILL_GUARD: FaultRule(TargetRole.WORKER, 6, 0.0, 0.2),
    FaultKind.STOP_GUARD: FaultRule(TargetRole.WORKER, 4, 0.2, 4.0),
    FaultKind.KILL_ZYGOTE: FaultRule(TargetRole.WORKER, 3, 0.0, 0.2),
    # Longer than the guard waits for its zygote.
    FaultKind.STOP_ZYGOTE: FaultRule(TargetRole.WORKER, 3, 0.2, 8.0),
    FaultKind.KILL_TASK_PROCESS: FaultRule(TargetRole.WORKER, 6, 0.0, 0.2),
    FaultKind.STOP_TASK_PROCESS: FaultRule(TargetRole.WORKER, 5, 0.2, 4.0),
    FaultKind.FREEZE_WORKER: FaultRule(TargetRole.WORKER, 4, 0.2, 4.0),
    FaultKind.CUT_WORKER: FaultRule(TargetRole.WORKER, 5, 0.3, 4.0),
    FaultKind.KILL_API: FaultRule(TargetRole.API, 3, 0.0, 1.0),
    FaultKind.STOP_API: FaultRule(TargetRole.API, 2, 0.2, 3.0),
    FaultKind.CUT_API: FaultRule(TargetRole.API, 2, 0.3, 3.0),
    FaultKind.KILL_BROKER: FaultRule(TargetRole.BROKER, 1, 0.0, 1.0, 10.0),
    FaultKind.STOP_BROKER: FaultRule(TargetRole.BROKER, 3, 0.2, 3.0, 2.0),
    FaultKind.CUT_BROKER: FaultRule(TargetRole.BROKER, 3, 0.2, 3.0, 2.0),
    FaultKind.FILL_BROKER_DISK: FaultRule(TargetRole.BROKER, 1, 0.5, 1.5, 10.0),
}
KINDS = list(FAULT_RULES)
START_SECONDS = 2.0
GAP_SECONDS = (0.2, 0.8)
REFUSED_SECONDS = 0.02
"""Time between a drawn fault that the rules exclude and the next draw."""
QUIET_SECONDS = 2.0
"""Time at the end of the run in which no fault begins."""


def plan(seed: int, duration_seconds: float, shape: ClusterShape) -> list[PlannedFault]:
    """Return the faults of a run in the order in which they begin.

    At most one fault at a time hits a target, at most one broker is broken, and at least one scheduler is well: the
    promise under test is that of a cluster that still has working parts. (The drills in `integration/` stop everything
    at once: that loses time, but no jobs.)
    """
    return list(_drawn(Random(seed), duration_seconds, shape))  # noqa: S311  (a seed is meant to be repeated)


def _drawn(draw: Random, duration_seconds: float, shape: ClusterShape) -> Iterator[PlannedFault]:
    busy: dict[tuple[TargetRole, int], float] = {}
    at, number = START_SECONDS, 0
    while at < duration_seconds - QUIET_SECONDS:
        kind = draw.choices(KINDS, [FAULT_RULES[kind].weight for kind in KINDS])[0]
        way = FAULT_RULES[kind]
        # Every draw is made even if it is not used, so that a change of one rule changes few other faults.
        target, length, further = draw.randrange(shape.count(way.role)), draw.random(), draw.getrandbits(32)
        gap = draw.uniform(*GAP_SECONDS)
        seconds = round(way.shortest + (way.longest - way.shortest) * length**2, 3)
        if _is_allowed(busy, way.role, target, at, shape):
            number += 1
            busy[way.role, target] = at + seconds + way.rest_seconds
            yield PlannedFault(number, round(at, 3), kind, target, seconds, further)
            at += gap
        else:
            at += REFUSED_SECONDS


def _is_allowed(
    busy: dict[tuple[TargetRole, int], float], role: TargetRole, target: int, at: float, shape: ClusterShape
) -> bool:
    broken = {index for (kind, index), until in busy.items() if kind is role and until > at}
    most = {TargetRole.BROKER: 1, TargetRole.SCHEDULER: max(1, shape.schedulers - 1)}.get(role, shape.count(role))
    return target not in broken and len(broken) < most
