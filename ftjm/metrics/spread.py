"""Histograms for the hot path: several are fed for each job, and the library's own cost six times as much to feed."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class Spread:
    """How many observations fell into each bucket. Not locked: see `Spreads`."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Each bucket's upper bound, and how many were not above it."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(names, accumulate(map(float, self._counts)), strict=True))

    @property
    def sum(self) -> float:
        return self._sum


class Spreads:
    """One metric: a spread for each set of labels. Whoever feeds any of them holds `lock` meanwhile."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], lock: threading.Lock, labels: Sequence[str] = ()
    ) -> None:
        self._name, self._text, self._bounds, self._labels = name, text, bounds, labels
        self._lock = lock
        self._of: dict[tuple[str, ...], Spread] = {} if labels else {(): Spread(bounds)}

    def of(self, *labels: str) -> Spread:
        """The spread of these labels' values."""
        found = self._of.get(labels)
        if found is None:
            found = self._of[labels] = Spread(self._bounds)
        return found

    def collect(self) -> Iterable[Metric]:
        """As the library wants it of a collector."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        with self._lock:
            for labels, spread in self._of.items():
                family.add_metric(labels, spread.buckets(), spread.sum)
        yield family
