"""What breaks when: a pure function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from random import Random

import msgspec


class Role(StrEnum):
    """What there is to break."""

    SCHEDULER = "scheduler"
    WORKER = "worker"
    API = "api"
    BROKER = "broker"


class Kind(StrEnum):
    """A way to break it."""

    KILL_SCHEDULER = "kill-scheduler"
    STOP_SCHEDULER = "stop-scheduler"
    CUT_SCHEDULER = "cut-scheduler"
    SKEW_CLOCK = "skew-clock"
    """A scheduler's wall clock jumps, and jumps back."""
    FILL_DISK = "fill-disk"
    """No file of a scheduler can grow any more."""
    CORRUPT_STORE = "corrupt-store"
    """A scheduler is killed, and a file of one of its stores is damaged before it comes back."""
    WIPE_STORE = "wipe-store"
    """The same with a store that is gone, as with a new disk."""
    CORRUPT_SNAPSHOT = "corrupt-snapshot"
    """The same, after a file of the snapshots was damaged, of which the store might be restored."""
    KILL_SUPERVISOR = "kill-supervisor"
    STOP_SUPERVISOR = "stop-supervisor"
    KILL_GUARD = "kill-guard"
    STOP_GUARD = "stop-guard"
    FREEZE_WORKER = "freeze-worker"
    """All processes of a worker stop, as when its host sleeps."""
    CUT_WORKER = "cut-worker"
    KILL_API = "kill-api"
    STOP_API = "stop-api"
    CUT_API = "cut-api"
    KILL_BROKER = "kill-broker"
    STOP_BROKER = "stop-broker"
    CUT_BROKER = "cut-broker"
    """Nobody but the other brokers reaches it."""
    FILL_BROKER_DISK = "fill-broker-disk"


class Fault(msgspec.Struct, frozen=True):
    """One thing that breaks, and for how long."""

    number: int
    at_seconds: float
    """Since the load began."""
    kind: Kind
    target: int
    """Which of its role."""
    seconds: float
    draw: int
    """For what is left to chance when it happens."""


class Shape(msgspec.Struct, frozen=True):
    """How many of each there are."""

    brokers: int = 1
    schedulers: int = 3
    workers: int = 2

    def count(self, role: Role) -> int:
        """How many of a role there are."""
        return {Role.API: 1, Role.BROKER: self.brokers, Role.SCHEDULER: self.schedulers, Role.WORKER: self.workers}[
            role
        ]


class Way(msgspec.Struct, frozen=True):
    """How often a kind is drawn, whom it hits, and how long it lasts."""

    role: Role
    weight: int
    shortest: float
    longest: float
    rest: float = 1.0
    """For how long its target is left alone afterwards, s."""


WAYS: dict[Kind, Way] = {
    Kind.KILL_SCHEDULER: Way(Role.SCHEDULER, 8, 0.0, 1.5),
    Kind.STOP_SCHEDULER: Way(Role.SCHEDULER, 6, 0.2, 4.0),
    Kind.CUT_SCHEDULER: Way(Role.SCHEDULER, 4, 0.3, 4.0),
    Kind.SKEW_CLOCK: Way(Role.SCHEDULER, 4, 1.0, 4.0),
    Kind.FILL_DISK: Way(Role.SCHEDULER, 3, 0.5, 3.0),
    Kind.CORRUPT_STORE: Way(Role.SCHEDULER, 3, 0.0, 0.5, 3.0),
    Kind.WIPE_STORE: Way(Role.SCHEDULER, 2, 0.0, 0.5, 3.0),
    Kind.CORRUPT_SNAPSHOT: Way(Role.SCHEDULER, 2, 0.0, 0.5, 3.0),
    Kind.KILL_SUPERVISOR: Way(Role.WORKER, 5, 0.0, 1.5),
    Kind.STOP_SUPERVISOR: Way(Role.WORKER, 4, 0.2, 4.0),
    Kind.KILL_GUARD: Way(Role.WORKER, 6, 0.0, 0.2),
    Kind.STOP_GUARD: Way(Role.WORKER, 4, 0.2, 4.0),
    Kind.FREEZE_WORKER: Way(Role.WORKER, 4, 0.2, 4.0),
    Kind.CUT_WORKER: Way(Role.WORKER, 5, 0.3, 4.0),
    Kind.KILL_API: Way(Role.API, 3, 0.0, 1.0),
    Kind.STOP_API: Way(Role.API, 2, 0.2, 3.0),
    Kind.CUT_API: Way(Role.API, 2, 0.3, 3.0),
    Kind.KILL_BROKER: Way(Role.BROKER, 1, 0.0, 1.0, 10.0),
    Kind.STOP_BROKER: Way(Role.BROKER, 3, 0.2, 3.0, 2.0),
    Kind.CUT_BROKER: Way(Role.BROKER, 3, 0.2, 3.0, 2.0),
    Kind.FILL_BROKER_DISK: Way(Role.BROKER, 1, 0.5, 1.5, 10.0),
}
KINDS = list(WAYS)
START_SECONDS = 2.0
GAP_SECONDS = (0.2, 0.8)
REFUSED_SECONDS = 0.02
"""After a draw that may not be, time goes on."""
QUIET_SECONDS = 2.0
"""At the end, nothing new breaks."""


def plan(seed: int, duration_seconds: float, shape: Shape) -> list[Fault]:
    """Faults in the order in which they begin.

    One at a time hits a target, a broker, and all schedulers but one: the promise under test is that of a cluster of
    which something is left. (All at once is a drill, and loses time, not jobs.)
    """
    return list(_drawn(Random(seed), duration_seconds, shape))  # noqa: S311  (a seed is meant to be repeated)


def _drawn(draw: Random, duration_seconds: float, shape: Shape) -> Iterator[Fault]:
    busy: dict[tuple[Role, int], float] = {}
    at, number = START_SECONDS, 0
    while at < duration_seconds - QUIET_SECONDS:
        kind = draw.choices(KINDS, [WAYS[kind].weight for kind in KINDS])[0]
        way = WAYS[kind]
        # All draws are made whether they are used or not, so that a change of one rule moves few others.
        target, length, further = draw.randrange(shape.count(way.role)), draw.random(), draw.getrandbits(32)
        gap = draw.uniform(*GAP_SECONDS)
        seconds = round(way.shortest + (way.longest - way.shortest) * length**2, 3)
        if _may_break(busy, way.role, target, at, shape):
            number += 1
            busy[way.role, target] = at + seconds + way.rest
            yield Fault(number, round(at, 3), kind, target, seconds, further)
            at += gap
        else:
            at += REFUSED_SECONDS


def _may_break(busy: dict[tuple[Role, int], float], role: Role, target: int, at: float, shape: Shape) -> bool:
    broken = {index for (kind, index), until in busy.items() if kind is role and until > at}
    most = {Role.BROKER: 1, Role.SCHEDULER: max(1, shape.schedulers - 1)}.get(role, shape.count(role))
    return target not in broken and len(broken) < most
