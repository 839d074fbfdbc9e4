"""Offers: never more than the slots, and no partition starves."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ftjm.core.records.messages import SlotOffer
from ftjm.worker.rules.slot_offers import Offers
from ftjm.worker.rules.weighted_slots import TURN_MS


def sizes(offers: Offers) -> dict[int, int]:
    return {offer.partition: offer.slots for offer in offers.messages()}


def answer(offers: Offers) -> None:
    for offer in offers.messages():
        offers.taken(offer.partition, offer.number)


def test_the_only_partition_gets_all_slots() -> None:
    offers = Offers([3])
    assert offers.update(8, {}, set(), 0)
    assert offers.messages() == [SlotOffer(partition=3, number=1, slots=8)]
    assert not offers.update(8, {3: 8}, {3}, 10)


def test_without_demand_slots_are_spread_evenly() -> None:
    offers = Offers([0, 1, 2])
    offers.update(8, {}, set(), 0)
    assert sorted(sizes(offers).values()) == [2, 3, 3]


def test_an_unused_offer_moves_only_after_its_owner_has_read_it() -> None:
    offers = Offers([0, 1])
    offers.update(4, {}, set(), 0)
    assert sizes(offers) == {0: 2, 1: 2}
    offers.update(4, {}, {1}, 10)
    assert sizes(offers) == {0: 0, 1: 2}
    offers.update(4, {}, {1}, 20)
    assert sizes(offers) == {0: 0, 1: 2}
    offers.taken(0, 1)
    assert not offers.update(4, {}, {1}, 30)
    offers.taken(0, 2)
    offers.update(4, {}, {1}, 40)
    assert sizes(offers) == {0: 0, 1: 4}


def test_a_lowered_offer_counts_running_attempts() -> None:
    offers = Offers([0, 1])
    offers.update(4, {0: 2}, {1}, 0)
    answer(offers)
    offers.update(4, {0: 2}, {1}, 10)
    assert sizes(offers).get(1) == 2
    offers.update(4, {0: 1}, {1}, 20)
    assert sizes(offers).get(1) == 3


def test_an_answer_to_an_offer_that_was_never_made_is_ignored() -> None:
    offers = Offers([0, 1])
    offers.update(2, {}, {0}, 0)
    offers.update(2, {}, {1}, 1)
    offers.taken(0, 99)
    offers.taken(7, 1)
    offers.update(2, {}, {1}, 2)
    assert sizes(offers).get(1, 0) == 0


def test_a_limited_partition_keeps_the_slots_that_it_uses_and_no_others() -> None:
    offers = Offers([0, 1])
    offers.update(8, {}, {0, 1}, 0)
    assert sizes(offers) == {0: 4, 1: 4}
    answer(offers)
    offers.update(8, {0: 2, 1: 4}, {1}, 10, limited={0})
    answer(offers)
    offers.update(8, {0: 2, 1: 4}, {1}, 20, limited={0})
    assert sizes(offers) == {0: 2, 1: 6}


def test_a_slot_of_a_limited_partition_waits_for_the_attempt_that_comes_next() -> None:
    offers = Offers([0, 1])
    for now, live in ((0, 0), (10, 2), (20, 1)):
        offers.update(4, {0: live}, {1} if live else {0, 1}, now, limited={0} if live else set())
        answer(offers)
    assert sizes(offers)[0] == 2
    offers.update(4, {0: 1}, {1}, 20 + TURN_MS, limited={0})
    assert sizes(offers)[0] == 1


def test_where_no_other_partition_waits_a_limited_one_has_all_slots() -> None:
    offers = Offers([0, 1])
    offers.update(4, {}, {0}, 0)
    answer(offers)
    offers.update(4, {0: 1}, set(), 10, limited={0})
    assert sizes(offers) == {0: 4}


class Owner:
    """An owner that reads offers late, and dispatches by the newest that it has read."""

    def __init__(self) -> None:
        self.number = 0
        self.slots = 0
        self.live = 0
        self.ready = 0

    def read_offer(self, offer: SlotOffer) -> None:
        if offer.number > self.number:
            self.number, self.slots = offer.number, offer.slots


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_owners_that_read_offers_late_never_exceed_the_slots(data: st.DataObject) -> None:
    slots = data.draw(st.integers(1, 9))
    partitions = data.draw(st.integers(1, 5))
    offers = Offers(range(partitions))
    owners = [Owner() for _ in range(partitions)]
    wire: list[list[SlotOffer]] = [[] for _ in range(partitions)]
    answers: list[list[int]] = [[] for _ in range(partitions)]
    now = 0
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from(["update", "read_offer", "answer", "dispatch", "end", "submit", "wait"]))
        p = data.draw(st.integers(0, partitions - 1))
        owner = owners[p]
        if step == "update":
            limited = set(data.draw(st.lists(st.integers(0, partitions - 1), max_size=2)))
            demand = {q for q in range(partitions) if owners[q].ready} - limited
            live = {q: owners[q].live for q in range(partitions)}
            if offers.update(slots, live, demand, now, limited=limited):
                for offer in offers.messages():
                    wire[offer.partition].append(offer)
        elif step == "read_offer" and wire[p]:
            # The newest offer may arrive first: an older one is dropped by its number.
            owner.read_offer(wire[p].pop(data.draw(st.integers(0, len(wire[p]) - 1))))
            answers[p].append(owner.number)
        elif step == "answer" and answers[p]:
            offers.taken(p, answers[p].pop(0))
        elif step == "dispatch" and owner.live < owner.slots:
            owner.live += 1
            owner.ready = max(0, owner.ready - 1)
        elif step == "end" and owner.live:
            owner.live -= 1
        elif step == "submit":
            owner.ready += 1
        elif step == "wait":
            now += data.draw(st.integers(1, 2 * TURN_MS))
        assert sum(owner.live for owner in owners) <= slots
        assert sum(offer.slots for offer in offers.messages()) <= slots


@settings(max_examples=25, deadline=None)
@given(slots=st.integers(1, 6), partitions=st.integers(1, 16), lasts_ms=st.sampled_from([1, 100, 5_000]))
def test_every_partition_with_demand_gets_its_turn(slots: int, partitions: int, lasts_ms: int) -> None:
    """Owners dispatch whenever they may, attempts take `lasts_ms`, and every partition always has ready jobs."""
    offers = Offers(range(partitions))
    credit = [0] * partitions
    running: list[list[int]] = [[] for _ in range(partitions)]
    served = [0] * partitions
    demand = set(range(partitions))
    tick_ms = 100
    for now in range(0, (partitions // slots + 2) * (TURN_MS + lasts_ms) * 2, tick_ms):
        for p in range(partitions):
            running[p] = [end for end in running[p] if end > now]
            while len(running[p]) < credit[p]:
                running[p].append(now + lasts_ms)
                served[p] += 1
        offers.update(slots, {p: len(running[p]) for p in range(partitions)}, demand, now)
        for offer in offers.messages():
            credit[offer.partition] = offer.slots
        answer(offers)
        assert sum(map(len, running)) <= slots
    assert all(served)


def test_a_limited_partition_keeps_no_more_than_its_share_from_one_that_waits() -> None:
    offers = Offers([0, 1])
    offers.update(8, {}, {0}, 0)
    answer(offers)
    assert sizes(offers)[0] == 8
    for now in (10, 20, 30):
        offers.update(8, {0: 8}, {1}, now, limited={0})
        answer(offers)
    assert sizes(offers)[0] == 4
    offers.update(8, {0: 4}, {1}, 40, limited={0})
    assert sizes(offers) == {0: 4, 1: 4}


def test_limited_partitions_take_turns_with_others_where_slots_are_few() -> None:
    offers = Offers([0, 1, 2])
    served: set[int] = set()
    live: dict[int, int] = {}
    for now in range(0, 12 * TURN_MS, 100):
        offers.update(1, live, {1, 2} if 0 in live else {0, 1, 2}, now, limited={0} if 0 in live else set())
        answer(offers)
        live = {partition: 1 for partition, slots in sizes(offers).items() if slots and partition == 0}
        served |= {partition for partition, slots in sizes(offers).items() if slots}
    assert served == {0, 1, 2}
