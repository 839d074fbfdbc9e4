"""The suite `cold-takeover`: a process without a store takes over a partition with many live jobs.

The process fences the old owner, restores the newest snapshot, proves it by the log, folds the events behind it, and
commits its first decision. A new process is started for this, so that nothing is cached.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec.structs import asdict

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.snapshot_topic import manifest_records
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide.decision import Policy
from ftjm.core.state.tables import load_position
from ftjm.engine.lineage import lineage
from ftjm.engine.partition import Partition
from ftjm.engine.snapshot import Manifest
from ftjm.lab.bench import synthetic_log
from ftjm.lab.bench.cluster import TIMEOUT_SECONDS, BenchCluster
from ftjm.lab.bench.report import Figure, significant
from ftjm.runtime.config import Settings
from ftjm.snapshots.repository import open_repository
from ftjm.snapshots.upload import send

PARTITION = 0
TAIL_SHARE = 0.02
"""Share of the jobs that are submitted after the snapshot."""


class ColdTakeover(msgspec.Struct, frozen=True):
    """The times that the process measured, s."""

    seconds: float
    """Time from the beginning of the fencing to the commit of the first decision."""
    restore_seconds: float
    fold_seconds: float
    tail_events: int


def run(cluster: BenchCluster) -> dict[str, Figure]:
    """Run the suite and return its figures; docs/benchmarks.md describes them."""
    options, settings = cluster.options, cluster.settings
    queue, folder = options.queues[PARTITION], cluster.folder
    cluster.progress.step("submitting jobs")
    with synthetic_log.owning(settings, PARTITION, folder) as owned:
        synthetic_log.submit(owned, queue, options.jobs, cluster.progress)
        cluster.progress.step("taking a snapshot")
        began = time.perf_counter()
        manifest = _published(settings, owned, folder)
        snapshot_seconds = time.perf_counter() - began
        synthetic_log.submit(owned, queue, int(options.jobs * TAIL_SHARE), cluster.progress, prefix="later")
    cluster.progress.step("taking over")
    [found] = cluster.group.results(
        [cluster.group.start_role("cold", "cold", str(folder / "cold"))], ColdTakeover, TIMEOUT_SECONDS
    )
    figures = {name: significant(value) for name, value in asdict(found).items()}
    return {
        "live_jobs": options.jobs,
        "cold_takeover_s": figures["seconds"],
        "restore_s": figures["restore_seconds"],
        "fold_s": figures["fold_seconds"],
        "tail_events": found.tail_events,
        "snapshot_s": significant(snapshot_seconds),
        "snapshot_mb": significant(manifest.size / 1e6),
    }


def _published(settings: Settings, owned: synthetic_log.Owned, folder: Path) -> Manifest:
    store = owned.partition.store
    assert isinstance(store, RocksStore)
    store.checkpoint(folder / "checkpoint")
    with open_repository(settings) as found:
        sent = send(found.place, PARTITION, folder / "checkpoint")
    owned.writer.publish(settings.topic("snapshots"), manifest_records(sent.manifest, [], []))
    return sent.manifest


def measure(settings: Settings, folder: str) -> ColdTakeover:
    """Take over the partition, with the store in `folder`, and return the times. Runs in a process of its own."""
    log, path = synthetic_log.log_of(settings), Path(folder) / "store"
    path.parent.mkdir(parents=True)
    with open_repository(settings) as found:
        began = time.perf_counter()
        writer = log.fence(PARTITION)
        end = log.end(PARTITION)
        manifest = found.restore(
            PARTITION,
            path,
            lambda rows: lineage(rows, log.log_id, log.events(PARTITION, load_position(rows).applied_offset), codec),
        )
        assert manifest is not None
        restored = time.perf_counter()
        with closing(RocksStore(path)) as store:
            partition = Partition(Policy(PARTITION, settings.partitions), store, codec, log.log_id)
            tail = list(log.events(PARTITION, partition.position.applied_offset + 1, end))
            for record in tail:
                partition.fold(record)
            folded = time.perf_counter()
            synthetic_log.own(partition, writer).step([])
            decided = time.perf_counter()
            writer.close()
    return ColdTakeover(decided - began, restored - began, folded - restored, len(tail))
