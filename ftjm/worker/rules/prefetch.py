"""How many attempts a worker wants at hand beside those that run. Pure: time comes as an argument.

A slot that becomes free stays so until its partition's owner has read the report, has decided, and has sent the next
attempt: a round trip. With short attempts, a slot would be idle for most of the time. By Little's law, it is never idle
if as many attempts are on their way to it as end in it during a round trip:

    at hand for a slot = round trip / time that an attempt holds the slot

Owners send many attempts at once, one transaction after the other, and some attempts are shorter than others. So twice
as many are wanted (`SPARE`), and half of them wait at hand. Attempts that hold their slot for much longer than a round
trip need none: the quotient is below 1 for all slots of a partition together.

**What is measured.** The time that attempts hold their slot: the mean of the newest. The round trip: from a report that
frees a place in a partition to the dispatch that takes the place, while jobs wait there; the median of the newest. A
place that was given up is not waited for: there are never more measurements under way than places that are open.

**What waits too long goes back.** An attempt that waits at hand for two round trips, and at least `WAIT_MS_MIN`, is
sent back to its owner, since another worker may have a free slot; but not one that will start within that time again,
by the times of the newest attempts, unless it has waited for `PATIENCE` times as long. What goes back has its owner
send nothing ahead until each of it has got a free slot. All that is wanted may arrive at once, after a transaction that
took long. So no more is wanted than starts within `BURST_PART` of that time: without this bound, an owner's pause made
half of what was at hand go back, which made the next round trip longer, and so on. If all slots of a partition are
taken by attempts that hold them for so long already, nothing more is wanted at hand for it.
"""

from collections import deque

ROUND_TRIP_MS = 25
"""The round trip before it is measured."""
ROUND_TRIP_MS_MAX = 250
"""A longer one is no round trip: no job was waiting, or the log was out of reach."""
ROUND_TRIPS = 63
"""How many of the newest measured round trips are kept. Their median is the round trip."""
TIMES = 64
"""How many of the newest attempts the mean of their times is taken of."""
TIMES_MIN = 8
"""No mean is taken of fewer attempts than this, nor of fewer than two for each slot: the shortest end first."""
SPARE = 2.5
WAIT_MS_MIN = 75
PATIENCE = 4
BURST_PART = 0.7
TIME_MS_MIN = 0.25
"""Attempts count as at least so long. Times are whole milliseconds."""
PER_SLOT_MAX = 32
AHEAD_MAX = 256
"""Most attempts at hand, of a slot and of a worker. Each may have a payload of 256 KiB."""
CHANGE_MS = 250
"""Time between two changes of what is wanted at hand: each needs a heartbeat."""
CHANGE_PART = 0.25
"""A smaller change, as a part of what is wanted, needs none."""


class Prefetch:
    """What a worker measures, and how many attempts it wants at hand."""

    def __init__(self, slots: int, ahead: int | None) -> None:
        """`ahead` is the most that the worker holds ahead of its slots; None if that follows from what is measured."""
        self._slots = slots
        self._fixed = ahead
        self._times: deque[int] = deque(maxlen=TIMES)
        self._trips: deque[int] = deque(maxlen=ROUND_TRIPS)
        self._round_trip_ms = ROUND_TRIP_MS
        self._freed: dict[int, deque[int]] = {}
        """When reports were sent that free a place, by partition, and that no dispatch has followed yet."""
        self._wanted: dict[int, tuple[int, int]] = {}
        """How many are wanted for each partition, and since when."""

    @property
    def wait_ms(self) -> int:
        """How long an attempt may wait at hand."""
        return max(WAIT_MS_MIN, 2 * self._round_trip_ms)

    def starts_soon(self, moving: int) -> int:
        """How many attempts at hand start within `wait_ms`.

        Args:
            moving: how many slots are free, or taken by an attempt that has not held its slot for half of that time.
        """
        mean_ms = self._mean_ms()
        return int(max(0, moving) * self.wait_ms / mean_ms) if mean_ms else 0

    def attempt_ended(self, time_ms: int) -> None:
        """An attempt has held its slot for so long."""
        self._times.append(time_ms)

    def place_freed(self, partition: int, now: int) -> None:
        """A report is sent after which the owner, who has jobs that wait, will send another attempt."""
        self._freed.setdefault(partition, deque()).append(now)

    def dispatch_arrived(self, partition: int, now: int, open_places: int) -> None:
        """An owner has sent an attempt. So many more may arrive before another attempt of the partition ends."""
        freed = self._freed.get(partition)
        if not freed:
            return
        trip = now - freed.popleft()
        if trip <= ROUND_TRIP_MS_MAX:
            self._trips.append(trip)
            self._round_trip_ms = sorted(self._trips)[len(self._trips) // 2]
        while freed and len(freed) > open_places:
            freed.popleft()

    def wanted(self, partition: int, slots: int, moving: int, now: int) -> int:
        """How many attempts of a partition are wanted at hand.

        Args:
            slots: how many slots the partition has.
            moving: of these, how many are free, or taken by an attempt that has not held its slot for long. Negative if
                more attempts hold slots for long than the partition has now.
        """
        before, since = self._wanted.get(partition, (0, now - CHANGE_MS))
        wanted = self._for_slots(max(0, min(slots, moving)))
        # A mean moves all the time. Only a change that matters is worth a heartbeat, unless nothing may wait any more.
        if wanted and (now - since < CHANGE_MS or abs(wanted - before) <= CHANGE_PART * before):
            return before
        if wanted != before:
            self._wanted[partition] = wanted, now
        return wanted

    def _for_slots(self, slots: int) -> int:
        if self._fixed is not None:
            return int(self._fixed * slots / self._slots)
        mean_ms = self._mean_ms()
        if not mean_ms:
            return 0
        needed = min(SPARE * self._round_trip_ms, BURST_PART * self.wait_ms) / mean_ms
        return int(min(needed, PER_SLOT_MAX, AHEAD_MAX / self._slots) * slots)

    def _mean_ms(self) -> float:
        """How long attempts hold their slots; 0 if too few were measured."""
        if len(self._times) < min(TIMES, max(TIMES_MIN, 2 * self._slots)):
            return 0
        return max(TIME_MS_MIN, sum(self._times) / len(self._times))
