"""Divides slots among partitions in proportion to weights. Pure: time comes as an argument.

Weights of 1 and 3 divide 8 slots into 2 and 6. They divide 2 slots into 0.5 and 1.5: each partition has the whole part,
and the odd slot goes round. It is with the partition to which most slot time is owed, for a turn:

    owed += time * (slots * weight / sum of weights - slots that the partition had)

So over some turns each has what its weight says, however few slots a worker has, and no slot moves within a turn.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

TURN_MS = 1_000
"""How long a partition keeps its slot while others wait for a turn: long enough that not every short job costs a round
trip."""

OWED_MAX_MS = 60_000.0
"""So much slot time is owed at most: what long attempts took is not all made up for."""


class Quota(NamedTuple):
    """What a partition should have of the slots."""

    whole: int
    remainder: int
    """The part of one slot beyond that, in units that are the same for all partitions."""


def exact_parts(slots: int, weights: Mapping[int, int]) -> dict[int, Quota]:
    """What each partition should have of the slots, in proportion to its weight."""
    total = sum(weights.values())
    return {partition: Quota(*divmod(slots * weight, total)) for partition, weight in weights.items()}


def whole_slots(parts: Mapping[int, Quota], odd: Iterable[int], slots: int) -> dict[int, int]:
    """Round the parts to whole slots. The slots that are left go to `odd` in this order, but not to a partition that
    has what it should."""
    found = {partition: part.whole for partition, part in parts.items()}
    left = slots - sum(found.values())
    for partition in [partition for partition in odd if parts[partition].remainder][:left]:
        found[partition] += 1
    return found


class OddSlots:
    """Remembers to which partitions slot time is owed, and which have the odd slots in this turn."""

    def __init__(self) -> None:
        self._owed: dict[int, float] = {}
        """Slot time, ms."""
        self._holders: list[int] = []
        self._turn_at = 0
        """When the turn began."""
        self._seen_at = 0
        self.go_round = False
        """Whether time alone will move a slot."""

    def forget(self) -> None:
        """Nothing is owed: the weights are equal."""
        self._owed = {}
        self._holders = []
        self.go_round = False

    def divide(
        self, slots: int, weights: Mapping[int, int], committed: Mapping[int, int], now_ms: int
    ) -> dict[int, int]:
        """How many slots each partition should have now.

        Args:
            slots: how many there are.
            weights: of the partitions that share them.
            committed: how many slots each has had since the last call.
            now_ms: the time.
        """
        parts = exact_parts(slots, weights)
        total, passed_ms = sum(weights.values()), now_ms - self._seen_at if self._owed else 0
        self._owed = {
            partition: max(-OWED_MAX_MS, min(owed, OWED_MAX_MS))
            for partition, weight in weights.items()
            for owed in (self._owed.get(partition, 0.0) + passed_ms * (slots * weight / total - committed[partition]),)
        }
        self._seen_at = now_ms
        odd = slots - sum(part.whole for part in parts.values())
        self.go_round = odd > 0
        if now_ms - self._turn_at >= TURN_MS or not self._may_stay(parts, odd):
            waiting = [partition for partition in weights if parts[partition].remainder]
            waiting.sort(key=lambda one: (-self._owed[one], -parts[one].remainder, one))
            self._holders, self._turn_at = waiting[:odd], now_ms
        return whole_slots(parts, self._holders, slots)

    def _may_stay(self, parts: Mapping[int, Quota], odd: int) -> bool:
        holders: Collection[int] = self._holders
        return len(holders) == odd and all(one in parts and parts[one].remainder for one in holders)
