"""Snapshots for who operates: what there is, asking for one, and proving that it is what the log makes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from ftjm.adapters import codec
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.adapters.kafka_scan import Scan
from ftjm.config import Settings
from ftjm.core.messages import TakeSnapshot
from ftjm.durations import format_time
from ftjm.engine.lineage import lineage
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import DamagedSnapshot, Manifest
from ftjm.errors import FtjmError
from ftjm.jobhistory import open_scan
from ftjm.partitionview import last_batch
from ftjm.past import Past, repository
from ftjm.patience import QUIET, patiently
from ftjm.replay import Progress, Until, difference, replayed
from ftjm.repository import Repository

PATIENCE_SECONDS = 15.0
ASK_AGAIN_SECONDS = 3.0
LOOK_AGAIN_SECONDS = 0.5


class Verdict(msgspec.Struct, frozen=True):
    """What became of proving one snapshot."""

    manifest: Manifest
    problem: str = ""
    """Empty if there is none."""
    folded: bool = True
    """Whether the log was folded to compare, which needs its beginning or an older snapshot."""


def row(manifest: Manifest) -> dict[str, Any]:
    """A snapshot for printing."""
    return {
        "partition": manifest.partition,
        "batch": manifest.batch_no,
        "offset": manifest.applied_offset,
        "next_command": manifest.next_command,
        "taken": format_time(manifest.taken_at),
        "bytes": manifest.size,
        "files": len(manifest.files),
        "chunks": len({chunk.name for chunk in manifest.chunks}),
        "new_chunks": len({chunk.name for chunk in manifest.chunks if chunk.birth == manifest.birth}),
        "place": manifest.place or "topic",
        "epoch": manifest.owner_epoch,
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
    """Ask the owners for snapshots that hold all that is decided by now, and wait for them.

    The wish is repeated, since nothing guarantees that it is heard, and harmless when it is.
    Raises FtjmError if they do not come in time; Unreachable.
    """
    with open_scan(settings, "events") as scan:
        batches = {p: last_batch(scan, p) for p in partitions}
    wanted = {p: closed.batch_no for p, closed in batches.items() if closed is not None}
    ask_at = 0.0
    deadline = time.monotonic() + within_seconds
    kafka = QUIET | settings.kafka_settings("snapshots")
    outlet = Outlet(kafka)
    done: dict[int, Manifest] = {}
    try:
        lanes = patiently(lambda: outlet.warm(settings.topic("heartbeats")), settings, PATIENCE_SECONDS)
        with repository(settings) as found:
            # A full one that is there already mends nothing, whenever our clock and the owner's say that it was taken.
            ends = {p: found.end(p) for p in wanted}
            if not full:
                done = {p: m for p in wanted for m in found.manifests(p)[:1] if m.batch_no >= wanted[p]}
            while missing := sorted(set(wanted) - set(done)):
                progress(f"partitions {', '.join(map(str, missing))}")
                if time.monotonic() > deadline:
                    todo = "see `ftjm inspect partitions` for owners, and their logs for snapshot_failed"
                    raise FtjmError(f"snapshots of partitions {missing}", f"none within {within_seconds:g} s", todo)
                if time.monotonic() >= ask_at:
                    ask_at = time.monotonic() + ASK_AGAIN_SECONDS
                    wish = codec.encode(TakeSnapshot(partitions=missing, full=full, actor=actor))
                    outlet.send(settings.topic("heartbeats"), wish, partition=missing[0] % lanes)
                time.sleep(LOOK_AGAIN_SECONDS)
                for p in missing:
                    manifests, ends[p] = found.since(p, ends[p])
                    for manifest in manifests:
                        if manifest.batch_no >= wanted[p] and (manifest.full or not full):
                            done[p] = manifest
    finally:
        outlet.close(1.0)
    return [done[p] for p in sorted(done)]


def verify(
    settings: Settings, found: Repository, scan: Scan, manifests: list[Manifest], progress: Progress
) -> list[Verdict]:
    """Fetch the snapshots of one partition, and compare each with the fold of the log to its place.

    Where the log does not begin at its beginning, it is folded from a snapshot that is older; the oldest of them is
    then compared with nothing but the log's record at its place. One that is dropped meanwhile has no verdict.
    """
    with tempfile.TemporaryDirectory(prefix="ftjm-verify-") as directory:
        verdicts = [
            _proved(settings, found, scan, manifest, Path(directory) / str(number), progress)
            for number, manifest in enumerate(manifests)
        ]
    return [one for one in verdicts if not one.problem or one.manifest in found.manifests(one.manifest.partition)]


def _proved(
    settings: Settings, found: Repository, scan: Scan, manifest: Manifest, directory: Path, progress: Progress
) -> Verdict:
    partition, at = manifest.partition, manifest.applied_offset
    try:
        with found.opened(manifest, directory, progress) as store:
            with closing(scan.read({partition: at}, whole=True)) as records:
                events = (EventRecord(record.offset, record.value) for record in records)
                if (why := lineage(store, found.log_id, events, codec)) is not None:
                    return Verdict(manifest, why)
            whole = scan.bounds(partition)[0] == 0
            if not whole and not any(one.batch_no < manifest.batch_no for one in found.manifests(partition)):
                return Verdict(manifest, folded=False)
            with replayed(
                scan,
                partition,
                Until(offset=at),
                log_id=found.log_id,
                progress=progress,
                past=Past(settings),
                usable=lambda one: one.batch_no < manifest.batch_no,
            ) as folded:
                differs = difference(folded.store, store)
    except DamagedSnapshot as error:
        return Verdict(manifest, str(error))
    if differs is None:
        return Verdict(manifest)
    either = differs.replayed or differs.found
    assert either is not None
    return Verdict(manifest, f"{either.kind} {either.key} is not what the log makes")
