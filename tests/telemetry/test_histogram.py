"""The histogram of ftjm shows the same as the one of the Prometheus client library."""

from __future__ import annotations

import threading

import prometheus_client as prometheus
from hypothesis import given
from hypothesis import strategies as st

from ftjm.telemetry.histogram import HistogramFamily
from ftjm.telemetry.labels import SECONDS


@given(st.lists(st.one_of(st.floats(0, 1e6), st.sampled_from(SECONDS)), max_size=50))
def test_the_same_observations_give_the_same_text(values):
    theirs, ours = prometheus.CollectorRegistry(), prometheus.CollectorRegistry()
    library = prometheus.Histogram("h", "text", ["a", "b"], buckets=SECONDS, registry=theirs).labels("x", "y")
    histograms = HistogramFamily("h", "text", SECONDS, threading.Lock(), ["a", "b"])
    ours.register(histograms)
    spread = histograms.of("x", "y")
    for value in values:
        library.observe(value)
        spread.observe(value)
    prometheus.disable_created_metrics()
    assert prometheus.generate_latest(ours) == prometheus.generate_latest(theirs)
