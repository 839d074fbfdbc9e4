"""The order in which the waiting jobs of one queue start, and which of them are gone past.

Without shares, a queue has one line, and its jobs start in the order of their scores. With shares, the next job is of
the share that has used least for its weight (`ftjm.core.shares`).

A job whose deadline has passed is gone past: its timer, which may be late, ends it. So is one whose share has used more
than another, or whose share may not use what the queue's compute reservation keeps for others. Each dispatch names the
waiting job of its queue with the lowest score if that is another one, and why, so that every dispatch can be judged
from the history alone.
"""

from collections.abc import Callable, Generator, Iterator
from heapq import heapify, heappop, heappush

from ftjm.core.queue_gates import live_jobs
from ftjm.core.shares import half_life_of, rank, slots_allowed, usage_at, weights_of
from ftjm.core.state.queues import Queue, ShareUsage
from ftjm.core.state.ready_lines import ReadyJob
from ftjm.core.state.view import StateView

SHARE, COMPUTE_RESERVATION, DEADLINE = "Share", "ComputeReservation", "Deadline"
"""The reasons why the job with the lowest score is gone past."""


Candidate = tuple[int, str, str, str]
"""The job that is next: its order and its id; and of the queue's waiting job with the lowest score, if that is another
one, the id, and why it is gone past."""
Candidates = Generator[Candidate, bool | None, None]
"""The jobs of a queue in their order. It is told of each with `send` if its deadline has passed: if not, it starts."""


def candidates(state: StateView, queue: str, now: int, capacity: Callable[[], int]) -> Candidates:
    """The waiting jobs of a queue in the order in which they start, at the time `now`, ms.

    Args:
        capacity: tells how many slots are offered to the queue, busy and free.
    """
    counts = state.queue(queue)
    if counts is None or not counts.shared:
        return _one_line(state, queue)
    return _Lines(state, queue, counts, now, capacity).in_order()


def _one_line(state: StateView, queue: str) -> Candidates:
    passed = reason = ""
    for _, order, job_id in state.ready(queue):
        if (yield order, job_id, passed, reason) and not passed:
            passed, reason = job_id, DEADLINE


class _Line:
    """The waiting jobs of one share."""

    def __init__(self, share: str, first: ReadyJob, used: ShareUsage, usage: int, weight: int) -> None:
        self.share = share
        self.first: ReadyJob | None = first
        """The one that is next. None if there is none."""
        self.lowest: ReadyJob | None = first
        """The one with the lowest score: `first`, or one before it whose deadline has passed."""
        self.rest: Iterator[ReadyJob] | None = None
        """Those behind `first`; None if they were not asked for yet."""
        self.live = used.live
        self._usage = usage
        self._mean = used.mean
        self._weight = weight

    @property
    def rank(self) -> int:
        return rank(self._usage, self._weight)

    def start(self) -> None:
        """Its first job is dispatched: charge it, as `evolve` will."""
        self._usage += self._mean
        self.live += 1


class _Lines:
    """The lines of a queue with shares."""

    def __init__(self, state: StateView, queue: str, counts: Queue, now: int, capacity: Callable[[], int]) -> None:
        self._state = state
        self._queue = queue
        declaration = state.declaration(queue)
        half_life, weights = half_life_of(declaration), weights_of(declaration)
        self._lines: dict[str, _Line] = {}
        for share, first in state.first_jobs(queue).items():
            used = state.share(queue, share) or ShareUsage()
            self._lines[share] = _Line(share, first, used, usage_at(used, half_life, now), weights.get(share, 1))
        self._by_score = [(line.lowest, share) for share, line in self._lines.items()]
        heapify(self._by_score)
        self._live = live_jobs(counts)
        self._active = counts.active_shares
        self._reservation = declaration.spec.compute_reservation if declaration else 0
        self._capacity = capacity() if self._reservation else 0

    def in_order(self) -> Candidates:
        """The jobs in their order."""
        by_rank = [(line.rank, line.first, share) for share, line in self._lines.items()]
        heapify(by_rank)
        kept_back: list[tuple[int, ReadyJob | None, str]] = []
        while by_rank:
            entry = heappop(by_rank)
            line = self._lines[entry[2]]
            if not self._may_start(line):
                kept_back.append(entry)
                continue
            is_overdue = bool((yield self._candidate(line)))
            if not is_overdue:
                if not line.live:
                    # One share more is active, so the others may use more of the slots.
                    self._active += 1
                    by_rank += kept_back
                    heapify(by_rank)
                    kept_back = []
                self._live += 1
                line.start()
            self._advance(line, is_overdue)
            if line.first is not None:
                heappush(by_rank, (line.rank, line.first, line.share))

    def _may_start(self, line: _Line) -> bool:
        if not self._reservation:
            return True
        return self._live < slots_allowed(self._capacity, self._reservation, self._active + (not line.live))

    def _candidate(self, line: _Line) -> Candidate:
        assert line.first is not None
        _, order, job_id = line.first
        while True:
            lowest, share = self._by_score[0]
            other = self._lines[share]
            if lowest is other.lowest:
                break
            heappop(self._by_score)  # it was started
        if lowest is line.first or lowest is None:
            return order, job_id, "", ""
        reason = SHARE if self._may_start(other) else COMPUTE_RESERVATION
        return order, job_id, lowest[2], reason if lowest is other.first else DEADLINE

    def _advance(self, line: _Line, is_overdue: bool) -> None:
        """The first job of the line is started, or gone past."""
        if line.rest is None:
            line.rest = self._state.ready(self._queue, line.share)
            next(line.rest)
        started, line.first = line.first, next(line.rest, None)
        if line.lowest is started and not is_overdue:
            line.lowest = line.first
            if line.lowest is not None:
                heappush(self._by_score, (line.lowest, line.share))
