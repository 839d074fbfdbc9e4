"""The suite `replay`: a partition's whole log folded into an empty store, as a scheduler does that starts without one.

In a process that keeps to one core, with all its threads.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec

from ftjm.adapters import codec
from ftjm.adapters.kafka_feed import Feed
from ftjm.adapters.kafka_log import event_record
from ftjm.adapters.rocks import RocksStore
from ftjm.bench import history
from ftjm.bench.cluster import TIMEOUT_SECONDS, Cluster
from ftjm.bench.report import Figure, rate, significant
from ftjm.config import Settings
from ftjm.core.decide import Policy
from ftjm.engine.partition import Partition
from ftjm.scheduler.following import TAKE_MAX

PARTITION = 0
WAIT_SECONDS = 0.1


class Replayed(msgspec.Struct, frozen=True):
    """What the process found: times in s."""

    events: int
    seconds: float
    cpu_seconds: float
    """Of all its threads."""
    decode_seconds: float
    memory_seconds: float
    """Of folding records that were in memory already."""


def run(cluster: Cluster) -> dict[str, Figure]:
    """The figures; docs/benchmarks.md says what each is."""
    options = cluster.options
    cluster.progress.step("making events")
    queue = options.queues[PARTITION]
    history.write(cluster.settings, PARTITION, queue, options.jobs, cluster.folder, cluster.progress)
    cluster.progress.step("replaying")
    folder = str(cluster.folder / "replay")
    [found] = cluster.crew.results([cluster.crew.role("replay", "replay", folder)], Replayed, TIMEOUT_SECONDS)
    assert isinstance(found, Replayed)
    return {
        "events": found.events,
        "events_per_s": rate(found.events, found.seconds),
        "cpu_us": significant(found.cpu_seconds / found.events * 1e6),
        "decode_us": significant(found.decode_seconds / found.events * 1e6),
        "memory_events_per_s": rate(found.events, found.memory_seconds),
    }


def measure(settings: Settings, folder: str) -> Replayed:
    """In a process of its own: keep to one core, and fold."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    store = RocksStore(Path(folder) / "kafka")
    cpu = time.process_time()
    seconds = _from_kafka(settings, store)
    cpu_seconds = time.process_time() - cpu
    store.close()
    log = history.log_of(settings)
    records = list(log.events(PARTITION, 0))
    began = time.perf_counter()
    for record in records:
        codec.decode(record.value)
    decoded = time.perf_counter()
    store = RocksStore(Path(folder) / "memory")
    partition = Partition(Policy(PARTITION, settings.partitions), store, codec, log.log_id)
    for record in records:
        partition.fold(record)
    folded = time.perf_counter()
    store.close()
    return Replayed(len(records), seconds, cpu_seconds, decoded - began, folded - decoded)


def _from_kafka(settings: Settings, store: RocksStore) -> float:
    """From an empty store to having folded the log to its end, s."""
    began = time.perf_counter()
    partition = Partition(Policy(PARTITION, settings.partitions), store, codec, "bench")
    arrived = threading.Event()
    feed = Feed(settings.kafka_settings("bench"), settings.cluster)
    events = feed.follow("events", PARTITION, 0, arrived.set)
    while not events.ended or len(events):
        messages = events.take(TAKE_MAX)
        for message in messages:
            partition.fold(event_record(message))
        if not messages:
            arrived.wait(WAIT_SECONDS)
            arrived.clear()
    seconds = time.perf_counter() - began
    feed.close()
    return seconds
