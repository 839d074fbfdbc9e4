"""The suite `replay`: folds the whole log of a partition into an empty store, as a scheduler without a store does.

The folding process keeps all its threads on one core.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.partition_reader import PartitionReader
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide.decision import Policy
from ftjm.engine.partition import Partition
from ftjm.lab.bench import synthetic_log
from ftjm.lab.bench.cluster import TIMEOUT_SECONDS, BenchCluster
from ftjm.lab.bench.report import Figure, rate, significant
from ftjm.runtime.config import Settings
from ftjm.scheduler.follower import TAKE_MAX

PARTITION = 0
WAIT_SECONDS = 0.1


class Replayed(msgspec.Struct, frozen=True):
    """The times that the process measured, s."""

    events: int
    seconds: float
    cpu_seconds: float
    """Processor time of all its threads."""
    decode_seconds: float
    memory_seconds: float
    """Time to fold records that are in memory already."""


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    options = cluster.options
    cluster.progress.step("making events")
    queue = options.queues[PARTITION]
    synthetic_log.write(cluster.settings, PARTITION, queue, options.jobs, cluster.folder, cluster.progress)
    cluster.progress.step("replaying")
    folder = str(cluster.folder / "replay")
    [found] = cluster.group.results([cluster.group.start_role("replay", "replay", folder)], Replayed, TIMEOUT_SECONDS)
    assert isinstance(found, Replayed)
    return {
        "events": found.events,
        "events_per_s": rate(found.events, found.seconds),
        "cpu_us": significant(found.cpu_seconds / found.events * 1e6),
        "decode_us": significant(found.decode_seconds / found.events * 1e6),
        "memory_events_per_s": rate(found.events, found.memory_seconds),
    }


def measure(settings: Settings, folder: str) -> Replayed:
    """Fold the log with stores in `folder`, and return the times. Runs in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    store = RocksStore(Path(folder) / "kafka")
    cpu = time.process_time()
    seconds = _from_kafka(settings, store)
    cpu_seconds = time.process_time() - cpu
    store.close()
    log = synthetic_log.log_of(settings)
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
    """Fold the log from Kafka into an empty store, to the end of the log. Return the time, s."""
    began = time.perf_counter()
    partition = Partition(Policy(PARTITION, settings.partitions), store, codec, "bench")
    arrived = threading.Event()
    feed = PartitionReader(settings.kafka_settings("bench"), settings.cluster)
    events = feed.follow("events", PARTITION, 0, arrived.set)
    while not events.ended or len(events):
        records = events.take(TAKE_MAX)
        for record in records:
            partition.fold(record)
        if not records:
            arrived.wait(WAIT_SECONDS)
            arrived.clear()
    seconds = time.perf_counter() - began
    feed.close()
    return seconds
