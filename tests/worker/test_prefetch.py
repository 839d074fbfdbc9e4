"""How many attempts a worker wants at hand, in a model of a worker and an owner between which messages take time.

The model is deterministic: time is a number, attempts take times that a seed decides, and the owner decides in batches,
one after the other. It has none of the rules of `worker_life.py` but those that are said here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from ftjm.worker.rules.prefetch import PATIENCE, SPARE, TIMES, Prefetch

REPORT_MS, DISPATCH_MS, OFFER_MS = 3, 4, 10
"""How long a message takes to the owner, to the worker, and an offer to the owner."""
MEASURED_FROM_MS = 2_000
END_MS = 10_000


class Model:
    """A worker whose partition always has jobs that wait."""

    def __init__(self, slots: int, attempt_ms: float, batch_ms: float, pauses: float, seed: int) -> None:
        """`pauses` is the part of the owner's batches that take 80 ms longer."""
        self._random = Random(seed)
        self._slots, self._attempt_ms, self._batch_ms, self._pauses = slots, attempt_ms, batch_ms, pauses
        self.prefetch = Prefetch(slots, None)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._events = 0
        self.now = 0.0
        self._hand: list[float] = []
        self._started: dict[int, float] = {}
        self._offered = self._known = 0
        self._sent = self._reports = 0
        self._deciding = False
        self.ended = self.declined = 0
        self.busy_ms = 0.0

    def run(self) -> Model:
        self._decide()
        self._look()
        while self._due[0][0] < END_MS:
            time, _, do = heapq.heappop(self._due)
            if time >= MEASURED_FROM_MS:
                self.busy_ms += len(self._started) * (time - max(self.now, MEASURED_FROM_MS))
            self.now = time
            do()
        return self

    @property
    def busy(self) -> float:
        return self.busy_ms / (END_MS - MEASURED_FROM_MS) / self._slots

    def _after(self, ms: float, do: Callable[[], None]) -> None:
        self._events += 1
        heapq.heappush(self._due, (self.now + ms, self._events, do))

    # The owner.

    def _decide(self) -> None:
        if self._deciding:
            return
        self._sent -= self._reports
        self._reports = 0
        count = max(0, self._slots + self._known - self._sent)
        self._sent += count
        self._deciding = True
        pause = 80 if self._random.random() < self._pauses else 0
        self._after(self._batch_ms * self._random.uniform(1, 1.3) + 0.1 * count + pause, lambda: self._committed(count))

    def _committed(self, count: int) -> None:
        self._deciding = False
        self._after(DISPATCH_MS, lambda: self._arrived(count))
        if self._reports or self._sent < self._slots + self._known:
            self._decide()

    def _reported(self) -> None:
        self._reports += 1
        self._decide()

    def _heard_offer(self, ahead: int) -> None:
        self._known = ahead
        self._decide()

    # The worker.

    def _arrived(self, count: int) -> None:
        for _ in range(count):
            self._hand.append(self.now)
            self._start()
            places = self._slots + self._offered - len(self._started) - len(self._hand)
            self.prefetch.dispatch_arrived(0, int(self.now), max(0, places))

    def _start(self) -> None:
        while self._hand and len(self._started) < self._slots:
            self._hand.pop(0)
            self._events += 1
            number = self._events
            self._started[number] = self.now
            self._after(max(0.3, self._random.expovariate(1 / self._attempt_ms)), partial(self._end, number))

    def _end(self, number: int) -> None:
        self.ended += 1
        self.prefetch.attempt_ended(int(self.now) - int(self._started.pop(number)))
        self.prefetch.place_freed(0, int(self.now))
        self._after(REPORT_MS, self._reported)
        self._start()

    def _look(self) -> None:
        wait_ms = self.prefetch.wait_ms
        stuck = sum(self.now - since > wait_ms / 2 for since in self._started.values())
        soon = self.prefetch.starts_soon(self._slots - stuck)
        late = [since for since in self._hand if self.now - since > wait_ms]
        for place, since in enumerate(late):
            if place >= soon or self.now - since > PATIENCE * wait_ms:
                self._hand.remove(since)
                self.declined += 1
                self._after(REPORT_MS, self._reported)
        held_long = sum(self.now - since >= self.prefetch.wait_ms for since in self._started.values())
        wanted = self.prefetch.wanted(0, self._slots, self._slots - held_long, int(self.now))
        if wanted != self._offered:
            self._offered = wanted
            self._after(OFFER_MS, lambda: self._heard_offer(wanted))
        self._after(5, self._look)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("slots", "attempt_ms", "batch_ms"), [(8, 5, 6), (8, 2, 6), (8, 20, 6), (2, 3, 6), (1, 5, 6), (32, 20, 10)]
)
def test_slots_are_busy_and_almost_nothing_goes_back(slots: int, attempt_ms: int, batch_ms: int, seed: int) -> None:
    model = Model(slots, attempt_ms, batch_ms, pauses=0, seed=seed).run()
    assert model.busy > 0.85
    assert model.declined <= model.ended / 100


@pytest.mark.parametrize("seed", range(3))
def test_an_owner_that_pauses_makes_little_go_back(seed: int) -> None:
    """What it sends after a pause arrives at once. A worker that wants more than it can start then sends it all back,
    and the next round trip is longer still: that once sent back every second attempt."""
    model = Model(8, 5, 6, pauses=0.02, seed=seed).run()
    assert model.busy > 0.7
    assert model.declined <= model.ended / 20


def test_long_attempts_want_nothing_at_hand() -> None:
    model = Model(8, 2_000, 6, pauses=0, seed=1).run()
    assert model.declined == 0


def test_a_place_that_was_given_up_is_not_waited_for() -> None:
    prefetch = Prefetch(1, None)
    for now in range(10):
        prefetch.place_freed(0, now)
    prefetch.dispatch_arrived(0, 100, open_places=0)
    for now in range(1_000, 1_064):
        prefetch.place_freed(0, now)
        prefetch.dispatch_arrived(0, now + 5, open_places=0)
    for _ in range(TIMES):
        prefetch.attempt_ended(1)
    assert prefetch.wanted(0, 1, 1, 10_000) == int(SPARE * 5)
