"""Our histogram shows what the library's own would."""

from __future__ import annotations

import threading

import prometheus_client as prometheus
from hypothesis import given
from hypothesis import strategies as st

from ftjm.metrics.labels import SECONDS
from ftjm.metrics.spread import Spreads


@given(st.lists(st.one_of(st.floats(0, 1e6), st.sampled_from(SECONDS)), max_size=50))
def test_the_same_observations_are_shown_alike(values):
    theirs, ours = prometheus.CollectorRegistry(), prometheus.CollectorRegistry()
    library = prometheus.Histogram("h", "text", ["a", "b"], buckets=SECONDS, registry=theirs).labels("x", "y")
    spreads = Spreads("h", "text", SECONDS, threading.Lock(), ["a", "b"])
    ours.register(spreads)
    spread = spreads.of("x", "y")
    for value in values:
        library.observe(value)
        spread.observe(value)
    prometheus.disable_created_metrics()
    assert prometheus.generate_latest(ours) == prometheus.generate_latest(theirs)
