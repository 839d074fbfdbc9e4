"""The gates of a queue: what may keep its ready jobs from starting, all of them alike.

A job that is READY has passed every gate of its own: it is not held, and its start time has come. What is left are the
gates of its queue, and a free slot. A gate of a queue is a function of the queue's rows and of the time. It is asked
for each queue and not for each job, so it costs the same with one waiting job and with a million.

`GATES` lists them in the order in which they are asked. Placement starts no more jobs than the narrowest lets through;
`explain` names the first that is closed. To add a gate, add a row to the table, and its reason to
`ftjm.readmodel.explain`.

**The rate** is the generic cell rate algorithm (ITU-T I.371, annex A), with one integer for each queue. Each start uses
up the time `interval = per / limit`, one interval behind the other:

    used_until = max(now, used_until) + interval

The next start is allowed while no more than `burst` intervals are used up ahead of the time. So in any span of time W,
at most burst + W / interval attempts start, whichever owners decide them: the integer is a row of the partition.
Intervals are whole nanoseconds, rounded up.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ftjm.core.state.model import JobState
from ftjm.core.state.queues import Queue, QueueDeclaration, QueueRate, QueueSpec, QueueStatus
from ftjm.core.state.view import StateView
from ftjm.core.windows import QueueWindow, closing, windows_of

DISPATCHED, RUNNING = JobState.DISPATCHED, JobState.RUNNING
UNLIMITED = 1 << 60
SOON_MS = 1_000
NS_OF_MS = 1_000_000
BURST_NS_MAX = 3_650 * 86_400_000 * NS_OF_MS
"""The longest time that a burst may use up: ten years."""


class QueueRows(NamedTuple):
    """The stored rows of one queue. A field is None if the queue has no such row."""

    status: QueueStatus | None
    declaration: QueueDeclaration | None
    counts: Queue | None
    rate: QueueRate | None
    windows: tuple[QueueWindow, ...] = ()
    """The windows that are about the queue."""


class Opening(NamedTuple):
    """How far a gate is open."""

    jobs: int
    """So many more jobs may start now; `UNLIMITED` where it does not matter how many."""
    more_at: int = 0
    """When one job more may start, ms, if time alone opens the gate further; else 0."""


OPEN = Opening(UNLIMITED)
Gate = Callable[[QueueRows, int], Opening]


def _pause(rows: QueueRows, _now: int) -> Opening:
    return OPEN if rows.status is None else Opening(0)


def _window(rows: QueueRows, _now: int) -> Opening:
    if not (closed := closing(rows.windows)):
        return OPEN
    turns = [one.turns_at for one in closed if one.turns_at]
    if not turns:
        return Opening(0)
    # All that deny must close, and one that allows must open.
    return Opening(0, max(turns) if closed[0].open else min(turns))


def _limit(rows: QueueRows, _now: int) -> Opening:
    declaration = rows.declaration
    if declaration is None or not declaration.spec.concurrency:
        return OPEN
    return Opening(max(0, declaration.spec.concurrency - live_jobs(rows.counts)))


def _rate(rows: QueueRows, now: int) -> Opening:
    declaration = rows.declaration
    if declaration is None or not declaration.spec.rate_limit:
        return OPEN
    spec, now_ns = declaration.spec, now * NS_OF_MS
    interval = interval_ns(spec)
    used = max(0, rows.rate.used_until_ns - now_ns) if rows.rate else 0
    jobs = max(0, spec.rate_burst - -(-used // interval))
    more_ns = now_ns + used + (jobs + 1 - spec.rate_burst) * interval
    return Opening(jobs, -(-more_ns // NS_OF_MS))


GATES: Mapping[str, Gate] = {"QueuePaused": _pause, "Window": _window, "QueueLimit": _limit, "RateLimit": _rate}
"""The gates by the reason that `explain` gives for a closed one, in the order in which a job passes them."""


def opening(rows: QueueRows, now: int) -> Opening:
    """How far all gates of a queue are open at the time `now`, ms."""
    if rows.status is None and rows.declaration is None and not rows.windows:
        return OPEN
    narrowest = OPEN
    for gate in GATES.values():
        found = gate(rows, now)
        if found.jobs < narrowest.jobs:
            narrowest = found
            if not found.jobs:
                break
    return narrowest


def closed_gate(rows: QueueRows, now: int) -> tuple[str, Opening] | None:
    """The first gate that is closed, and how it opens; None if a job may start."""
    for name, gate in GATES.items():
        if not (found := gate(rows, now)).jobs:
            return name, found
    return None


def is_limited(rows: QueueRows, now: int) -> bool:
    """Whether the limits of a queue let no more of its jobs start at the time `now` (ms), and not within `SOON_MS`.

    Slots that wait for such a queue would be missing elsewhere. One that starts jobs every moment keeps its slots.
    """
    found = opening(rows, now)
    return not found.jobs and not 0 < found.more_at < now + SOON_MS


def queue_rows(state: StateView, queue: str) -> QueueRows:
    """The rows of the queue of this name."""
    declaration = state.declaration(queue)
    rate = state.queue_rate(queue) if declaration is not None else None  # without a declaration there is none
    windows = windows_of(known, queue) if (known := state.windows()) else ()
    return QueueRows(state.queue_status(queue), declaration, state.queue(queue), rate, windows)


def live_jobs(row: Queue | None) -> int:
    """How many jobs of a queue have a worker."""
    return row.counts[DISPATCHED] + row.counts[RUNNING] if row else 0


def weight_of(declaration: QueueDeclaration | None) -> int:
    """The weight of a queue among those that share its workers."""
    return 1 if declaration is None else declaration.spec.weight


def interval_ns(spec: QueueSpec) -> int:
    """The least mean time between two starts that the rate allows, nanoseconds, rounded up."""
    return -(-spec.rate_per_ms * NS_OF_MS // spec.rate_limit)


def rate_fault(spec: QueueSpec) -> str:
    """The reason, as text, why a rate cannot be kept; empty if it can. The time that a burst uses up is bounded, since
    a row holds its end."""
    if spec.rate_limit and spec.rate_burst * interval_ns(spec) > BURST_NS_MAX:
        return (
            f"expected a burst that the rate makes up for within ten years, but found {spec.rate_burst} at "
            f"{spec.rate_limit} in {spec.rate_per_ms} ms"
        )
    return ""


def under_new_rate(before: QueueSpec, spec: QueueSpec, rate: QueueRate, now: int) -> QueueRate:
    """What a queue has used of its rate when the rate is changed at the time `now`, ms.

    The starts that are not made up for yet count on, each for as long as the new rate gives it.
    """
    ahead = max(0, rate.used_until_ns - now * NS_OF_MS)
    starts = min(-(-ahead // interval_ns(before)), spec.rate_burst)
    return QueueRate(now * NS_OF_MS + starts * interval_ns(spec))


def used_by_start(spec: QueueSpec, rate: QueueRate | None, now: int) -> QueueRate:
    """The rate's row when one more attempt has started at the time `now`, ms."""
    used_until = max(now * NS_OF_MS, rate.used_until_ns if rate else 0)
    return QueueRate(used_until + interval_ns(spec))
