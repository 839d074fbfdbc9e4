"""The attempts of one session: those that run, and those that it has at hand and has not started. Pure.

Owners send more attempts than a worker has slots, so that a slot that becomes free has its next attempt at hand
(`ftjm/core/placement.py` has the owner's side). The worker starts them by priority, then by age, over all partitions.
Age is the order of their arrival, since each owner sends its oldest first. It starts an attempt only if

- a slot of the attempt's partition is free: each partition has the slots that were offered to it, also the worker's
  last one, so that an attempt that its owner meant for a free slot never waits for another partition's;
- its session is within its lease, and its job's deadline has not passed.

What cannot start soon goes back to its owner, and is not charged: another worker may have a free slot.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple

import msgspec

from ftjm.core.records.messages import RunAttempt
from ftjm.worker.attempts.protocol import Checkpointed


class HeldAttempt(msgspec.Struct):
    """An attempt that runs, or that the guard was ordered to start."""

    key: str
    """`queue/job_id/attempt`: no two attempts share one."""
    dispatch: RunAttempt
    ordered_boot: int = 0
    """CLOCK_BOOTTIME at which the guard was ordered to start it, ms."""
    started_at: int = 0
    """Wall clock, ms; 0 until the guard has started it."""
    started_boot: int = 0
    """CLOCK_BOOTTIME of the start, ms; 0 until the guard has started it."""
    start_reported: bool = False
    """Whether `StartAttempt` was sent."""
    expired: bool = False
    """Whether it was stopped because its session's deadline, or its own beyond that, has passed."""
    past_deadline: bool = False
    """Whether it was stopped because its job's deadline has passed."""
    progress: Checkpointed | None = None
    """Its newest checkpoint and progress, if that is not reported yet."""

    @property
    def continue_for_ms(self) -> int:
        """How much longer than the session's deadline it may run."""
        return self.dispatch.spec.continue_for_ms


class HeldAttempts(dict[str, HeldAttempt]):
    """The attempts of a session that run, by their keys, in the order in which they were ordered.

    Attempts are added by `hold` and removed by `release`, which keep what the rules ask for at every turn: so the cost
    of a turn does not grow with the number of slots.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: Counter[int] = Counter()
        """How many there are, by partition."""
        self.unreported: dict[str, HeldAttempt] = {}
        """Those that have started, and whose start was not reported. The oldest start is first."""
        self.progressed: dict[str, HeldAttempt] = {}
        """Those that have a checkpoint or progress that was not reported."""
        self._jobs: Counter[tuple[str, str]] = Counter()
        """How many there are of each job: queue and job id."""

    def hold(self, held: HeldAttempt) -> None:
        """Add an attempt that the guard is ordered to start."""
        dispatch = held.dispatch
        self[held.key] = held
        self.live[dispatch.partition] += 1
        self._jobs[dispatch.queue, dispatch.job_id] += 1

    def release(self, key: str) -> HeldAttempt | None:
        """Remove an attempt that has ended. Returns it; None if there is none."""
        held = self.pop(key, None)
        if held is not None:
            self.unreported.pop(key, None)
            self.progressed.pop(key, None)
            dispatch = held.dispatch
            _subtract(self.live, dispatch.partition)
            _subtract(self._jobs, (dispatch.queue, dispatch.job_id))
        return held

    def has_job(self, queue: str, job_id: str) -> bool:
        """Whether an attempt of the job runs."""
        return (queue, job_id) in self._jobs

    def started(self, held: HeldAttempt, started_at: int, now: int) -> None:
        """The guard has started an attempt, at `started_at` by the wall clock, ms. It may start it again."""
        held.started_at, held.started_boot = started_at, now
        self.unreported.pop(held.key, None)
        if not held.start_reported:
            self.unreported[held.key] = held

    def take_started(self, before: int) -> Iterator[HeldAttempt]:
        """Remove and return the attempts that have started by then, and whose start was not reported."""
        while self.unreported:
            held = next(iter(self.unreported.values()))
            if held.started_boot > before:
                return
            del self.unreported[held.key]
            yield held

    def oldest_start(self) -> int | None:
        """The earliest start that was not reported; None if there is none."""
        return next(iter(self.unreported.values())).started_boot if self.unreported else None


def _subtract(counts: Counter[Any], name: Any) -> None:
    if counts[name] > 1:
        counts[name] -= 1
    else:
        del counts[name]


def attempt_key(queue: str, job_id: str, attempt: int) -> str:
    """The key of an attempt: `queue/job_id/attempt`."""
    return f"{queue}/{job_id}/{attempt}"


def key_of(dispatch: RunAttempt) -> str:
    """The key of the attempt that a message is about."""
    return attempt_key(dispatch.queue, dispatch.job_id, dispatch.attempt)


class _Place(NamedTuple):
    """The place of an attempt in the line of its partition: the smallest is first."""

    urgency: int
    arrival: int
    key: str


class AtHand:
    """Attempts that a session was sent and has not started."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, RunAttempt]] = {}
        """When each arrived, CLOCK_BOOTTIME ms, and its message, by its key. The oldest is first."""
        self._lines: dict[int, list[_Place]] = {}
        """A heap for each partition. It may hold keys that were taken out."""
        self._arrivals = 0
        self._counts: Counter[int] = Counter()
        """How many there are, by partition."""

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, key: str) -> bool:
        return key in self._since

    def add(self, dispatch: RunAttempt, now: int) -> None:
        """Keep an attempt that has arrived."""
        key = key_of(dispatch)
        self._arrivals += 1
        if key not in self._since:
            self._counts[dispatch.partition] += 1
        self._since[key] = now, dispatch
        heappush(self._lines.setdefault(dispatch.partition, []), _Place(-dispatch.spec.priority, self._arrivals, key))

    def take(self, key: str) -> RunAttempt | None:
        """Remove an attempt. Returns its message; None if it is not at hand."""
        found = self._since.pop(key, None)
        if found is None:
            return None
        _subtract(self._counts, found[1].partition)
        return found[1]

    def take_first(self, has_slot: Callable[[int], bool]) -> RunAttempt | None:
        """Remove the attempt that starts next: of the highest priority, and of these the oldest.

        Args:
            has_slot: tells whether a partition has a free slot.

        Returns:
            Its message; None if no partition that has attempts at hand has a free slot.
        """
        first: _Place | None = None
        for partition, line in list(self._lines.items()):
            while line and line[0].key not in self._since:
                heappop(line)
            if not line:
                del self._lines[partition]
            elif (first is None or line[0] < first) and has_slot(partition):
                first = line[0]
        return None if first is None else self.take(first.key)

    def take_late(self, before: int, too_late: int, starts_soon: Callable[[int], int]) -> list[RunAttempt]:
        """Remove the attempts that have waited for too long. Returns their messages, oldest first.

        Args:
            before: those that arrived by this time, ms, but as many of each partition as start soon.
            too_late: those that arrived by this time, ms, in any case.
            starts_soon: tells how many attempts of a partition start soon.
        """
        kept: dict[int, int] = {}
        late: list[RunAttempt] = []
        for since, dispatch in self._since.values():
            if since > before:
                break
            partition = dispatch.partition
            if partition not in kept:
                kept[partition] = starts_soon(partition)
            kept[partition] -= 1
            if since <= too_late or kept[partition] < 0:
                late.append(dispatch)
        for dispatch in late:
            self.take(key_of(dispatch))
        return late

    def take_all(self) -> list[RunAttempt]:
        """Remove all attempts. Returns their messages, oldest first."""
        found = [dispatch for _, dispatch in self._since.values()]
        self._since.clear()
        self._lines.clear()
        self._counts.clear()
        return found

    def partitions(self) -> set[int]:
        """The partitions of which attempts are at hand."""
        return set(self._counts)

    def count(self, partition: int) -> int:
        """How many attempts of a partition are at hand."""
        return self._counts[partition]

    def oldest_since(self) -> int | None:
        """When the attempt that waits longest arrived; None if none waits."""
        return next(iter(self._since.values()))[0] if self._since else None
