"""The suite `cold-takeover`: a partition of many live jobs is taken over by a process that has no store of it.

In a process of its own: fence, restore the snapshot, prove it by the log, fold what came after it, decide.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec.structs import asdict

from ftjm.adapters import codec
from ftjm.adapters.kafka_snapshots import manifest_records
from ftjm.adapters.rocks import RocksStore
from ftjm.bench import history
from ftjm.bench.cluster import TIMEOUT_SECONDS, Cluster
from ftjm.bench.report import Figure, significant
from ftjm.clock import wall_ms
from ftjm.config import Settings
from ftjm.core.decide import Policy
from ftjm.core.state import load_position
from ftjm.engine.lineage import lineage
from ftjm.engine.partition import Partition
from ftjm.engine.snapshot import Manifest
from ftjm.past import repository
from ftjm.sending import send

PARTITION = 0
TAIL_SHARE = 0.02
"""Of the jobs: submitted after the snapshot."""


class Taken(msgspec.Struct, frozen=True):
    """What the process found: times in s."""

    seconds: float
    """From beginning to fence to the first decision that is committed."""
    restore_seconds: float
    fold_seconds: float
    tail_events: int


def run(cluster: Cluster) -> dict[str, Figure]:
    """The figures; docs/benchmarks.md says what each is."""
    options, settings = cluster.options, cluster.settings
    queue, folder = options.queues[PARTITION], cluster.folder
    cluster.progress.step("submitting jobs")
    with history.owning(settings, PARTITION, folder) as owner:
        history.submit(owner, queue, options.jobs, cluster.progress)
        cluster.progress.step("taking a snapshot")
        began = time.perf_counter()
        manifest = _published(settings, owner, folder)
        snapshot_seconds = time.perf_counter() - began
        history.submit(owner, queue, int(options.jobs * TAIL_SHARE), cluster.progress, prefix="later")
    cluster.progress.step("taking over")
    [found] = cluster.crew.results([cluster.crew.role("cold", "cold", str(folder / "cold"))], Taken, TIMEOUT_SECONDS)
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


def _published(settings: Settings, owner: Partition, folder: Path) -> Manifest:
    assert isinstance(owner.store, RocksStore)
    owner.store.checkpoint(folder / "checkpoint")
    with repository(settings) as found:
        sent = send(found.place, PARTITION, folder / "checkpoint")
    history.writer_of(owner).publish(settings.topic("snapshots"), manifest_records(sent.manifest, [], []))
    return sent.manifest


def measure(settings: Settings, folder: str) -> Taken:
    """In a process of its own."""
    log, path = history.log_of(settings), Path(folder) / "store"
    path.parent.mkdir(parents=True)
    with repository(settings) as found:
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
            partition.lead(writer, "cold")
            partition.work(wall_ms())
            decided = time.perf_counter()
            writer.close()
    return Taken(decided - began, restored - began, folded - restored, len(tail))
