"""Which partition may use how many of this worker's slots. Pure: time comes as an argument.

An offer is an absolute credit: at most so many attempts of that partition may be live in the session at a time, so
that a completion offers its slot again without a word. A lowered offer counts at its old size until the owner has
answered it, since the owner may be using it at this moment; the sum over all partitions never exceeds the slots.
"""

from collections.abc import Collection, Iterable, Mapping

from ftjm.core.messages import SlotOffer

TURN_MS = 1_000
"""How long a partition keeps its slot while others wait for a turn: long enough that short jobs do not pay a round
trip each."""


class Offers:
    """The offers of one session. `update` changes them; a caller that sees True should tell the owners at once."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._credits = {partition: _Credit(partition) for partition in sorted(set(partitions))}

    def update(self, slots: int, live: Mapping[int, int], demand: Collection[int], now_ms: int) -> bool:
        """Move offers to where jobs wait; whether any changed.

        `slots` are those that this session may use, `live` its attempts by partition, `demand` the partitions in
        which jobs of our queues wait for a slot.
        """
        for partition, credit in self._credits.items():
            credit.live = live.get(partition, 0)
        wanted = allocate(slots, self._standing(now_ms), demand)
        changed = False
        for partition, credit in self._credits.items():
            if wanted[partition] < credit.slots:
                credit.set(wanted[partition], now_ms)
                changed = True
        spare = slots - sum(credit.committed for credit in self._credits.values())
        # Who has least gets what is spare first, so that nobody waits for another's second slot.
        for credit in sorted(self._credits.values(), key=lambda credit: (credit.slots, credit.since)):
            room = max(0, credit.committed + spare)
            raised = min(wanted[credit.partition], room)
            if raised > credit.slots:
                spare -= max(0, raised - credit.committed)
                credit.set(raised, now_ms)
                changed = True
        return changed

    def taken(self, partition: int, number: int) -> None:
        """The owner of `partition` has seen the offer of this number, and will not use more than it gives."""
        if credit := self._credits.get(partition):
            credit.taken(number)

    @property
    def committed(self) -> int:
        """Attempts that owners may yet start or are running, all partitions together; at most the slots, except
        where the slots were lowered since."""
        return sum(credit.committed for credit in self._credits.values())

    def messages(self) -> list[SlotOffer]:
        """What a heartbeat says: the newest offer of every partition that ever had one."""
        return [
            SlotOffer(partition=credit.partition, number=credit.number, slots=credit.slots)
            for credit in self._credits.values()
            if credit.number
        ]

    def _standing(self, now_ms: int) -> "dict[int, Standing]":
        return {partition: credit.standing(now_ms) for partition, credit in self._credits.items()}


Standing = tuple[int, int, int]
"""Where a partition stands in the line for a slot (first two, lower first), and how many slots it has now."""


def allocate(slots: int, standing: Mapping[int, Standing], demand: Collection[int]) -> dict[int, int]:
    """How many slots each partition should have, were there nothing to wait for.

    They are spread evenly over the partitions with demand, or over all where nobody has any. Where there are fewer
    slots than such partitions, those that are first in line get one each.
    """
    sharing = [partition for partition in standing if partition in demand] or list(standing)
    shares = dict.fromkeys(standing, 0)
    if not sharing:
        return shares
    each, rest = divmod(slots, len(sharing))
    if each:
        # Who has more than its even share keeps the odd slot: moving it would gain nothing.
        first = sorted(sharing, key=lambda partition: (-min(standing[partition][2], each + 1), partition))
    elif len(sharing) == len(standing) and not demand:
        # Nobody waits, so nothing turns.
        first = sorted(sharing, key=lambda partition: (-standing[partition][2], partition))
    else:
        first = sorted(sharing, key=lambda partition: (*standing[partition][:2], partition))
    for partition in sharing:
        shares[partition] = each
    for partition in first[:rest]:
        shares[partition] += 1
    return shares


class _Credit:
    """One partition's offer: its newest size, and the larger ones that its owner may still act on."""

    __slots__ = ("live", "number", "older", "partition", "since", "slots")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.number = 0
        self.slots = 0
        self.live = 0
        self.since = 0
        """When it last went from no slot to some or back, ms."""
        self.older: list[tuple[int, int]] = []
        """(number, slots) of offers that the owner may hold to be the newest, each larger than all that follow:
        a smaller one adds nothing, so at most `slots` are kept."""

    @property
    def committed(self) -> int:
        return max(self.live, self.slots, self.older[0][1] if self.older else 0)

    def standing(self, now_ms: int) -> Standing:
        """Within its turn it stays. Then come those without a slot, longest without first; then those whose turn is
        over, longest with last."""
        if not self.slots:
            return 1, self.since, 0
        return (0 if now_ms - self.since < TURN_MS else 2), -self.since, self.slots

    def set(self, slots: int, now_ms: int) -> None:
        if bool(slots) != bool(self.slots):
            self.since = now_ms
        self.older.append((self.number, self.slots))
        while self.older and self.older[-1][1] <= slots:
            self.older.pop()
        self.number += 1
        self.slots = slots

    def taken(self, number: int) -> None:
        if number > self.number:
            return  # not ours: numbers count from 1 in each session
        # An offer that was smaller than its successors is not listed, so the owner may hold one between two listed
        # ones; dropping those before `number` is right for it too.
        while self.older and self.older[0][0] < number:
            self.older.pop(0)
