"""Divides this worker's slots among the partitions that it serves. Pure: time comes as an argument.

A worker serves the partitions of its queues, and each partition has an owner of its own. So that no slot is given to
two owners, the worker offers each of them a number of slots, in its heartbeats:

    worker with 4 slots ──► owner of partition 0: offer number 7, 3 slots
                        └─► owner of partition 5: offer number 2, 1 slot

An offer is an absolute credit: at most this many attempts of the partition may be live in the session at a time. When
an attempt ends, its slot is offered again to the same owner without any message.

Beside its slots, an offer has how many more attempts the worker holds ahead of them (`prefetch.py`). They take no slot
until they start, so they need no such care: what cannot be started goes back.

Offers move to where jobs wait. Raising one is safe at once if slots are spare. A lowered one counts at its old size
until the owner has published that it has read it (`OfferTaken`), since the owner may be using it at this moment. The
sum of what owners may act on never exceeds the slots. Where fewer slots than waiting partitions exist, partitions take
turns. Where the weights of waiting partitions differ, slots are divided in proportion to them, and what is left of a
slot goes round (`weighted_slots.py`). A partition whose waiting jobs are kept back by the limits of their queues keeps
the slots that it uses, and leaves the others to partitions that can use them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from ftjm.core.records.messages import SlotOffer
from ftjm.worker.rules.weighted_slots import TURN_MS, OddSlots, exact_parts, whole_slots


class Offers:
    """The offers of one session, by partition."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._credits = {partition: _Credit(partition) for partition in sorted(set(partitions))}
        self._odd_slots = OddSlots()
        self._settled: tuple[int, Collection[int], Collection[int], Mapping[int, int]] | None = None
        """Slots, demand, limited partitions and weights for which no offer moves, whatever the time is; None if they
        are not known."""

    def update(
        self,
        slots: int,
        live: Mapping[int, int],
        demand: Collection[int],
        now_ms: int,
        ahead: Callable[[int, int], int] = lambda _partition, _slots: 0,
        limited: Collection[int] = frozenset(),
        weights: Mapping[int, int] | None = None,
    ) -> bool:
        """Move offers to where jobs wait.

        Args:
            slots: How many slots this session may use.
            live: Its attempts that have a slot, by partition.
            demand: The partitions in which jobs of our queues wait for a slot.
            now_ms: The time.
            ahead: Tells how many attempts of a partition are wanted at hand while it has so many slots.
            limited: The partitions in which jobs wait, and none may start but for one that ends.
            weights: In proportion to which partitions with demand have slots; 1 where it is left out.

        Returns:
            Whether an offer changed, so that a heartbeat is due.
        """
        for partition, credit in self._credits.items():
            credit.note_live(live.get(partition, 0), now_ms)
        weights = weights or {}
        known = self._settled == (slots, demand, limited, weights)
        changed = not known and self._move(slots, demand, limited, weights, now_ms)
        for credit in self._credits.values():
            if (wanted_ahead := ahead(credit.partition, credit.slots)) != credit.ahead:
                credit.ahead = wanted_ahead
                credit.set(credit.slots, now_ms)
                changed = True
        return changed

    def _move(
        self, slots: int, demand: Collection[int], limited: Collection[int], weights: Mapping[int, int], now_ms: int
    ) -> bool:
        """Lower and raise offers, as far as slots are spare. Returns whether one changed."""
        order = self._turn_order(now_ms)
        kept: dict[int, int] = {}
        if demand and limited:  # without demand, no other partition could use slots: they stay for the next start
            # A limited partition has its share like any other, but gives away what it does not use of it.
            shares = allocate(slots, order, {*demand, *limited}, weights)
            kept = {p: min(self._credits[p].in_use, shares[p]) for p in limited if p in order and p not in demand}
        rest = {p: place for p, place in order.items() if p not in kept}
        left = slots - sum(kept.values())
        sharing = {p: weights.get(p, 1) for p in rest if p in (demand or limited)}
        if len({*sharing.values()}) > 1:
            committed = {p: self._credits[p].committed for p in sharing}
            wanted = dict.fromkeys(rest, 0) | self._odd_slots.divide(left, sharing, committed, now_ms) | kept
        else:
            self._odd_slots.forget()
            wanted = allocate(left, rest, demand or limited) | kept
        changed = False
        for partition, credit in self._credits.items():
            if wanted[partition] < credit.slots:
                credit.set(wanted[partition], now_ms)
                changed = True
        spare = slots - sum(credit.committed for credit in self._credits.values())
        # The partition that has least gets spare slots first: none waits for another's second slot.
        for credit in sorted(self._credits.values(), key=lambda credit: (credit.slots, credit.since)):
            room = max(0, credit.committed + spare)
            raised = min(wanted[credit.partition], room)
            if raised > credit.slots:
                spare -= max(0, raised - credit.committed)
                credit.set(raised, now_ms)
                changed = True
        # Where every partition has what it should, nothing moves until slots or demand change. Turns, which time ends,
        # are taken only where partitions outnumber slots.
        is_settled = slots >= len(wanted) and all(wanted[p] == credit.slots for p, credit in self._credits.items())
        is_settled = is_settled and not kept and not self._odd_slots.go_round
        self._settled = (slots, frozenset(demand), frozenset(limited), dict(weights)) if is_settled else None
        return changed

    def granted(self, partition: int) -> int:
        """How many slots the owner of the partition may count on: its newest offer, or an older one that is larger."""
        credit = self._credits.get(partition)
        return 0 if credit is None else credit.granted

    def places(self, partition: int) -> int:
        """How many attempts the newest offer to a partition has room for, in slots and ahead of them."""
        credit = self._credits.get(partition)
        return 0 if credit is None else credit.slots + credit.ahead

    def taken(self, partition: int, number: int) -> None:
        """The owner of `partition` has read the offer of this number, and will not use more than it gives."""
        if credit := self._credits.get(partition):
            credit.taken(number)

    @property
    def committed(self) -> int:
        """How many attempts of all partitions run or may yet be started by owners.

        At most the slots, except where the slots were lowered since.
        """
        return sum(credit.committed for credit in self._credits.values())

    def messages(self) -> list[SlotOffer]:
        """The newest offer of every partition that ever had one, for a heartbeat."""
        return [
            SlotOffer(partition=credit.partition, number=credit.number, slots=credit.slots, ahead=credit.ahead)
            for credit in self._credits.values()
            if credit.number
        ]

    def _turn_order(self, now_ms: int) -> "dict[int, TurnOrder]":
        return {partition: credit.turn_order(now_ms) for partition, credit in self._credits.items()}


TurnOrder = tuple[int, int, int]
"""A partition's place in the line for a slot (the first two numbers, lower first), and how many slots it has now."""


def allocate(
    slots: int, order: Mapping[int, TurnOrder], demand: Collection[int], weights: Mapping[int, int] | None = None
) -> dict[int, int]:
    """How many slots each partition should have once all owners have read their offers.

    Slots are spread evenly over the partitions with demand, or over all if none has demand. Where there are fewer slots
    than such partitions, those that are first in line get one each. Where their weights differ, they have slots in
    proportion to them, and odd slots go to the largest remainders.

    Args:
        slots: How many there are.
        order: The place of every partition in the line.
        demand: The partitions in which jobs wait.
        weights: Their weights; 1 where it is left out.
    """
    sharing = [partition for partition in order if partition in demand] or list(order)
    shares = dict.fromkeys(order, 0)
    if not sharing:
        return shares
    weighted = {partition: (weights or {}).get(partition, 1) for partition in sharing}
    if len({*weighted.values()}) > 1:
        parts = exact_parts(slots, weighted)
        odd = sorted(sharing, key=lambda partition: (-parts[partition].remainder, partition))
        return shares | whole_slots(parts, odd, slots)
    each, rest = divmod(slots, len(sharing))
    if each:
        # A partition that has more than its even share keeps the odd slot: moving it would gain nothing.
        first = sorted(sharing, key=lambda partition: (-min(order[partition][2], each + 1), partition))
    elif len(sharing) == len(order) and not demand:
        # No partition has ready jobs, so the slots stay where they are.
        first = sorted(sharing, key=lambda partition: (-order[partition][2], partition))
    else:
        first = sorted(sharing, key=lambda partition: (*order[partition][:2], partition))
    for partition in sharing:
        shares[partition] = each
    for partition in first[:rest]:
        shares[partition] += 1
    return shares


class _Credit:
    """One partition's offer: its newest size, and the larger ones that its owner may still act on."""

    __slots__ = ("ahead", "live", "most_at", "most_live", "number", "older", "partition", "since", "slots")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.number = 0
        self.slots = 0
        self.ahead = 0
        self.live = 0
        self.most_live = 0
        self.most_at = 0
        """When the most attempts of the last `TURN_MS` were live, and how many they were."""
        self.since = 0
        """Time at which the partition last got its first slot or lost its last one, ms."""
        self.older: list[tuple[int, int]] = []
        """(number, slots) of earlier offers that the owner may still take for the newest, oldest first. Each is larger
        than
        all that follow: a smaller one adds nothing, so at most `slots` are kept."""

    def note_live(self, live: int, now_ms: int) -> None:
        """So many attempts of the partition have a slot now."""
        self.live = live
        if live >= self.most_live or now_ms - self.most_at >= TURN_MS:
            self.most_live, self.most_at = live, now_ms

    @property
    def in_use(self) -> int:
        """How many of its slots the partition uses. One that an attempt has just left counts: the next one comes."""
        return min(self.slots, self.most_live)

    @property
    def committed(self) -> int:
        """How many slots the owner's attempts may take at this moment."""
        return max(self.live, self.granted)

    @property
    def granted(self) -> int:
        """How many slots the owner may count on."""
        return self.older[0][1] if self.older else self.slots  # each of `older` is larger than all that follow

    def turn_order(self, now_ms: int) -> TurnOrder:
        """The order is: partitions within their turn; then those without a slot, longest without first; then those
        whose turn has ended, longest with a slot last."""
        if not self.slots:
            return 1, self.since, 0
        return (0 if now_ms - self.since < TURN_MS else 2), -self.since, self.slots

    def set(self, slots: int, now_ms: int) -> None:
        """Make a new offer."""
        if bool(slots) != bool(self.slots):
            self.since = now_ms
        self.older.append((self.number, self.slots))
        while self.older and self.older[-1][1] <= slots:
            self.older.pop()
        self.number += 1
        self.slots = slots

    def taken(self, number: int) -> None:
        """The owner has read the offer of this number."""
        if number > self.number:
            return  # an offer of another session: numbers count from 1 in each
        # An offer that was smaller than its successors is not listed, so the owner may hold one between two listed
        # ones; dropping those before `number` is right for it too.
        while self.older and self.older[0][0] < number:
            self.older.pop(0)
