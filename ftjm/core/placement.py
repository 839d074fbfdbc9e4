"""Placement: which ready job goes to which worker: to a free slot, or ahead of one.

An offer is two numbers for each partition:

    slots   so many attempts of the partition run in the session at a time
    ahead   so many more it holds meanwhile, and starts as soon as one of these slots is free

Without the second number, a slot would stand idle between two attempts for a whole round trip: the report of the first,
a transaction, the dispatch of the next. With it, the worker has the next attempt at hand.

The session's live attempts decide which of the two an attempt is. If they are fewer than the slots, each of them has a
slot, and so has the next one: it starts at once. If they are not, the next one is sent ahead, marked so in
`AttemptDispatched` and in the job's row. The owner does not need to know which of its attempts run at the moment.

What is sent ahead may be lost or sent back unstarted, and is then not charged: see `ftjm.core.evolve.attempts`. Some
jobs are sent to free slots only: those whose loss is not simply tried again (`on_worker_loss`, `worker_losses_max` of
0, `continue_for`), those of which an attempt of this run came back unstarted, and those of a queue with a rate, which
an attempt that comes back would have used up. While such a job is first in its queue and no slot is free,
the emptiest worker of the queue gets nothing ahead, so that its next free slot is for that job.

A worker that is cordoned gets nothing new, and one gets jobs of a queue only while that queue's windows let them start
there.

The same state and the same offers give the same placement, so that a decision can be repeated in a test.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from heapq import heapify, heappop, heappush, heapreplace
from math import lcm
from typing import NamedTuple

import msgspec

from ftjm.core.queue_gates import UNLIMITED, live_jobs, opening, queue_rows, weight_of
from ftjm.core.queue_order import Candidate, Candidates, candidates
from ftjm.core.records import events as e
from ftjm.core.records.levels import AHEAD_LEVEL, SHARING_LEVEL
from ftjm.core.state.model import Ahead, Job, OnWorkerLoss, job_key
from ftjm.core.state.view import StateView
from ftjm.core.windows import QueueWindow, may_start_on, windows_of


class Offer(msgspec.Struct, frozen=True, gc=False):
    """The slots that a worker's session offers this partition."""

    session: str
    worker: str
    lane: int
    lease_ms: int
    queues: tuple[str, ...]
    number: int
    """The newest of the session's offers has the highest number."""
    slots: int
    """How many of the partition's attempts run in the session at a time."""
    ahead: int = 0
    """How many more of them it holds while these slots are taken."""


_Room = tuple[int, int, Offer]
"""Free slots of an offer's session, as a negative number; place of the session's name, from the last on; the offer."""


class Placement(NamedTuple):
    """What a look at the free slots has led to."""

    dispatches: list[e.AttemptDispatched]
    more_at: int | None
    """When time alone lets more jobs start, ms; None if it does not."""


def match(state: StateView, offers: Sequence[Offer], limit: int, now: int) -> Placement:
    """Find jobs for free slots and places ahead of them, at the time `now` (ms): at most `limit`.

    An offer's free slots are the slots that it offers, less the attempts that the session holds. So no slot can leak: a
    slot is free when its attempt has ended, and not before.

    Queues that share workers take turns: the next job is of the queue that has the fewest jobs with a worker for its
    weight, of all queues that a session with room serves, and whose gates let it through (`ftjm.core.queue_gates`); of
    equal queues, of the one whose job came first. Within a queue it is the one that `ftjm.core.queue_order` gives. It
    goes to the session with the most free slots, or where no slot is free to the one that has least ahead; if several
    are equal, to the one whose name sorts last. A job whose deadline has passed is left out: its timer, which may be
    late, ends it.
    """
    may_send_ahead = state.finalized.level >= AHEAD_LEVEL
    free: dict[str, int] = {}
    """Free slots of each session; below 0 for what it holds ahead."""
    least: dict[str, int] = {}
    """The number of free slots at which the session has no room any more."""
    cordons, windows = state.cordons(), _Windows(state)
    for offer in offers:
        session = state.session(offer.session)
        if (session is None or not session.lost) and offer.worker not in cordons:
            free[offer.session] = offer.slots - (session.live if session else 0)
            least[offer.session] = -offer.ahead if may_send_ahead else 0
    serving: dict[str, list[_Room]] = {}
    for place, offer in enumerate(sorted(offers, key=lambda offer: offer.session, reverse=True)):
        if offer.session in free and free[offer.session] > least[offer.session]:
            for queue in windows.open_on(offer):
                serving.setdefault(queue, []).append((-free[offer.session], place, offer))
    for rooms in serving.values():
        heapify(rooms)

    def capacity(queue: str) -> int:
        return sum(offer.slots for offer in offers if offer.session in free and queue in offer.queues)

    says_passed = state.finalized.level >= SHARING_LEVEL
    lines = {queue: candidates(state, queue, now, partial(capacity, queue)) for queue in serving}
    first = {queue: one for queue, line in lines.items() if (one := next(line, None)) is not None}
    steps = _steps(state, first)
    # One entry for each queue with its next job. The first number is its jobs with a worker, divided by its weight.
    heads = [(live_jobs(state.queue(name)) * steps[name], one[0], name, one) for name, one in first.items()]
    heapify(heads)
    gates = _Gates(state, now)
    found: list[e.AttemptDispatched] = []
    while heads and limit > 0:
        live, _, queue, one = heappop(heads)
        best = _emptiest(serving[queue], free, least)
        if best is None or not gates.let_through(queue):
            continue
        _, job_id, passed, passed_reason = one
        key = job_key(queue, job_id)
        job = state.job(key)
        assert job is not None
        is_overdue = 0 < job.deadline_at <= now
        if not is_overdue:
            ahead = free[best.session] <= 0
            if ahead and not _may_go_ahead(state, key, job):
                least[best.session] = 0
                continue
            free[best.session] -= 1
            limit -= 1
            live += steps[queue]
            gates.passed(queue)
            dispatch = _dispatch(job, queue, job_id, best, ahead=ahead)
            if passed and says_passed:
                dispatch.passed, dispatch.passed_reason = passed, passed_reason
            found.append(dispatch)
        line = lines[queue]
        if (following := _past_overdue(line) if is_overdue else next(line, None)) is not None:
            heappush(heads, (live, following[0], queue, following))
    return Placement(found, gates.more_at)


class _Windows:
    """Which queues may start jobs on which workers, by the windows that the partition knows."""

    def __init__(self, state: StateView) -> None:
        self._known = state.windows()
        self._of_queue: dict[str, tuple[QueueWindow, ...]] = {}

    def open_on(self, offer: Offer) -> Sequence[str]:
        """The queues of an offer whose jobs may start on its worker."""
        if not self._known:
            return offer.queues
        return [queue for queue in offer.queues if may_start_on(self._windows_of(queue), offer.worker)]

    def _windows_of(self, queue: str) -> tuple[QueueWindow, ...]:
        if queue not in self._of_queue:
            self._of_queue[queue] = windows_of(self._known, queue)
        return self._of_queue[queue]


def _steps(state: StateView, queues: Iterable[str]) -> dict[str, int]:
    """For each queue, by how much one job with a worker moves it back: in proportion to one divided by its weight, as a
    whole number."""
    weights = {queue: weight_of(state.declaration(queue)) for queue in queues}
    whole = lcm(*weights.values())
    return {queue: whole // weight for queue, weight in weights.items()}


def _past_overdue(line: Candidates) -> Candidate | None:
    """The next job of a queue behind one whose deadline has passed; None if none is."""
    try:
        return line.send(True)
    except StopIteration:
        return None


class _Gates:
    """How many more jobs of each queue may start in this placement."""

    def __init__(self, state: StateView, now: int) -> None:
        self._state = state
        self._now = now
        self._left: dict[str, int] = {}
        self._more_at: dict[str, int] = {}
        self.more_at: int | None = None
        """When time alone lets a job start that was not let through, ms; None if there is no such job."""

    def let_through(self, queue: str) -> bool:
        """Whether one more job of the queue may start."""
        left = self._left.get(queue)
        if left is None:
            left, self._more_at[queue] = opening(queue_rows(self._state, queue), self._now)
            self._left[queue] = left
        if left:
            return True
        if at := self._more_at[queue]:
            self.more_at = at if self.more_at is None else min(at, self.more_at)
        return False

    def passed(self, queue: str) -> None:
        """A job of the queue starts."""
        if self._left[queue] < UNLIMITED:
            self._left[queue] -= 1


def _emptiest(rooms: list[_Room], free: dict[str, int], least: dict[str, int]) -> Offer | None:
    """The offer of the emptiest session; None if no session has room. Its name breaks a tie, so that the same state and
    offers give the same match.

    Args:
        rooms: a heap. Slots are only taken, so an entry that is out of date shows more of them than there are: only the
            first entry has to be brought up to date.
    """
    while rooms:
        taken, place, offer = rooms[0]
        now_free = free[offer.session]
        if now_free <= least[offer.session]:
            heappop(rooms)
        elif now_free != -taken:
            heapreplace(rooms, (-now_free, place, offer))
        else:
            return offer
    return None


def _may_go_ahead(state: StateView, key: str, job: Job) -> bool:
    if job.ahead is Ahead.NEVER or job.continue_for_ms:
        return False
    declaration = state.declaration(key.partition("/")[0])
    if declaration is not None and declaration.spec.rate_limit:
        return False  # one that comes back unstarted would have used up the rate
    spec = state.spec(key)
    return spec.on_worker_loss is OnWorkerLoss.REQUEUE and spec.worker_losses_max > 0


def _dispatch(job: Job, queue: str, job_id: str, offer: Offer, *, ahead: bool) -> e.AttemptDispatched:
    return e.AttemptDispatched(
        queue=queue,
        job_id=job_id,
        run=job.run,
        shard_key=job.shard_key,
        attempt=job.attempt + 1,
        session=offer.session,
        worker=offer.worker,
        lane=offer.lane,
        lease_ms=offer.lease_ms,
        offer=offer.number,
        ahead=ahead,
    )
