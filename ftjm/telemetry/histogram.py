"""Histograms for the hot path. Each job feeds several, and feeding the library's own takes five times as long."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class Histogram:
    """How many observations fell into each bucket. Not locked: see `HistogramFamily`."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """The upper bound of each bucket, and how many observations were at most that."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(names, accumulate(map(float, self._counts)), strict=True))

    @property
    def sum(self) -> float:
        """The sum of all observations."""
        return self._sum


class HistogramFamily:
    """One metric: a histogram for each set of label values. A caller holds `lock` while it feeds one of them."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], lock: threading.Lock, labels: Sequence[str] = ()
    ) -> None:
        self._name, self._text, self._bounds, self._labels = name, text, bounds, labels
        self._lock = lock
        self._of: dict[tuple[str, ...], Histogram] = {} if labels else {(): Histogram(bounds)}

    def of(self, *labels: str) -> Histogram:
        """The histogram of these label values."""
        found = self._of.get(labels)
        if found is None:
            found = self._of[labels] = Histogram(self._bounds)
        return found

    def collect(self) -> Iterable[Metric]:
        """The metric in the library's form, as it asks a collector for it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        with self._lock:
            for labels, histogram in self._of.items():
                family.add_metric(labels, histogram.buckets(), histogram.sum)
        yield family
