"""Tools for operators to list snapshots, request one, and verify them against the log.

A snapshot is verified in three steps: its chunks have the hashes of its manifest; its lineage continues in the log at
its offset; and the log, folded up to that offset, gives the same rows. The third step needs the beginning of the log,
or an older snapshot to fold from.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.patience import QUIET, open_scan, patiently
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.records.messages import TakeSnapshot
from ftjm.engine.lineage import lineage
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import DamagedSnapshot, Manifest
from ftjm.history.batches import last_batch
from ftjm.history.replay import Progress, Until, difference, replayed
from ftjm.history.trimmed import WholeLog
from ftjm.runtime.config import Settings
from ftjm.runtime.durations import format_time
from ftjm.runtime.errors import FtjmError
from ftjm.snapshots.repository import Repository, open_repository

PATIENCE_SECONDS = 15.0
REQUEST_INTERVAL_SECONDS = 3.0
POLL_SECONDS = 0.5


class SnapshotVerdict(msgspec.Struct, frozen=True):
    """The result of verifying one snapshot."""

    manifest: Manifest
    problem: str = ""
    """The problem of the snapshot; empty if it has none."""
    folded: bool = True
    """Whether it was compared with a fold of the log, which needs the log's beginning or an older snapshot."""


def row(manifest: Manifest) -> dict[str, Any]:
    """A snapshot as a row of a table."""
    return {
        "partition": manifest.partition,
        "batch": manifest.batch_no,
        "offset": manifest.applied_offset,
        "next_command": manifest.next_command,
        "taken": format_time(manifest.taken_at),
        "bytes": manifest.size,
        "files": len(manifest.files),
        "chunks": len({chunk.name for chunk in manifest.chunks}),
        "new_chunks": len({chunk.name for chunk in manifest.chunks if chunk.origin == manifest.origin}),
        "place": manifest.place or "topic",
        "epoch": manifest.owner_epoch,
        "state_version": manifest.state_version,
        "state_hash": manifest.state_hash,
        "log_id": manifest.log_id,
    }


def create(
    settings: Settings,
    partitions: Iterable[int],
    *,
    full: bool,
    actor: str,
    within_seconds: float,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Manifest]:
    """Ask the owners of partitions for snapshots of everything that is decided by now, and wait for them.

    The request is repeated until the snapshots are there, since a heartbeat lane does not guarantee delivery. A second
    request for the same snapshot does no harm.

    Args:
        settings: The settings of the cluster.
        partitions: The partitions to snapshot.
        full: Whether to upload every file again, also those that an earlier snapshot holds.
        actor: The user that requests it, as `user@host`.
        within_seconds: How long to wait.
        progress: Called with the step that is under way.

    Returns:
        The manifests, by partition. One without events has none.

    Raises:
        FtjmError: The snapshots are not there in time.
        Unreachable: Kafka does not answer.
    """
    with open_scan(settings, "events") as scan:
        batches = {p: last_batch(scan, p) for p in partitions}
    wanted = {p: closed.batch_no for p, closed in batches.items() if closed is not None}
    ask_at = 0.0
    deadline = time.monotonic() + within_seconds
    kafka = QUIET | settings.kafka_settings("snapshots")
    producer = ConfirmingProducer(kafka)
    done: dict[int, Manifest] = {}
    try:
        lanes = patiently(lambda: producer.warm(settings.topic("heartbeats")), settings, PATIENCE_SECONDS)
        with open_repository(settings) as found:
            # A full snapshot that exists already may be the damaged one, so with `full` only new ones count.
            ends = {p: found.end(p) for p in wanted}
            if not full:
                done = {p: m for p in wanted for m in found.manifests(p)[:1] if m.batch_no >= wanted[p]}
            while missing := sorted(set(wanted) - set(done)):
                progress(f"partitions {', '.join(map(str, missing))}")
                if time.monotonic() > deadline:
                    todo = "see `ftjm inspect partitions` for owners, and their logs for snapshot_failed"
                    raise FtjmError(f"snapshots of partitions {missing}", f"none within {within_seconds:g} s", todo)
                if time.monotonic() >= ask_at:
                    ask_at = time.monotonic() + REQUEST_INTERVAL_SECONDS
                    request = codec.encode(TakeSnapshot(partitions=missing, full=full, actor=actor))
                    producer.send(settings.topic("heartbeats"), request, partition=missing[0] % lanes)
                time.sleep(POLL_SECONDS)
                for p in missing:
                    manifests, ends[p] = found.since(p, ends[p])
                    for manifest in manifests:
                        if manifest.batch_no >= wanted[p] and (manifest.full or not full):
                            done[p] = manifest
    finally:
        producer.close(1.0)
    return [done[p] for p in sorted(done)]


def verify(
    settings: Settings, found: Repository, scan: Scan, manifests: list[Manifest], progress: Progress
) -> list[SnapshotVerdict]:
    """Fetch the snapshots of one partition, and compare each with the log, folded up to the snapshot's offset.

    A trimmed log is folded from an older snapshot. The oldest snapshot is then compared only with the log's record at
    its offset. A snapshot that is deleted meanwhile has no verdict.

    Args:
        settings: The settings of the cluster.
        found: The repository of the snapshots.
        scan: Reads `events`.
        manifests: The snapshots, of one partition.
        progress: Called with how much is done, and how much there is.
    """
    with tempfile.TemporaryDirectory(prefix="ftjm-verify-") as directory:
        verdicts = [
            _verdict(settings, found, scan, manifest, Path(directory) / str(number), progress)
            for number, manifest in enumerate(manifests)
        ]
    return [one for one in verdicts if not one.problem or one.manifest in found.manifests(one.manifest.partition)]


def _verdict(
    settings: Settings, found: Repository, scan: Scan, manifest: Manifest, directory: Path, progress: Progress
) -> SnapshotVerdict:
    partition, at = manifest.partition, manifest.applied_offset
    try:
        with found.opened(manifest, directory, progress) as store:
            with closing(scan.read({partition: at}, whole=True)) as records:
                events = (EventRecord(record.offset, record.value) for record in records)
                if (why := lineage(store, found.log_id, events, codec)) is not None:
                    return SnapshotVerdict(manifest, why)
            whole = scan.bounds(partition)[0] == 0
            if not whole and not any(one.batch_no < manifest.batch_no for one in found.manifests(partition)):
                return SnapshotVerdict(manifest, folded=False)
            with replayed(
                scan,
                partition,
                Until(offset=at),
                log_id=found.log_id,
                progress=progress,
                whole_log=WholeLog(settings),
                usable=lambda one: one.batch_no < manifest.batch_no,
            ) as folded:
                differs = difference(folded.store, store)
    except DamagedSnapshot as error:
        return SnapshotVerdict(manifest, str(error))
    if differs is None:
        return SnapshotVerdict(manifest)
    either = differs.replayed or differs.found
    assert either is not None
    return SnapshotVerdict(manifest, f"{either.kind} {either.key} differs from the fold of the log")
