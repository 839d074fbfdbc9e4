"""Upgrades, for operators of a cluster: the state of an upgrade, the needs of going back, and finalising.

An upgrade has two steps. First the members are restarted, one after the other, with the new build. Until then, and
after it, the cluster can go back to the older build: nothing is written that the older build cannot read, and each
partition keeps the newest snapshot of the older version of rows with the log behind it. Then `finalize` ends that: what
the new build adds may be used, and the snapshots that were kept for the older build are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.patience import QUIET, open_scan, patiently
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.core.bounds import confine
from ftjm.core.errors import UndecodableError
from ftjm.core.records.levels import LEVEL
from ftjm.core.records.messages import FinalizeUpgrade, MemberVersion, SchedulerHeartbeat, WorkerHeartbeat
from ftjm.core.state.model import STATE_VERSION, Finalized
from ftjm.engine.member_versions import SILENT_MS, WORKER, MemberVersions, described
from ftjm.engine.snapshot import Manifest, retained
from ftjm.runtime.clock import wall_ms
from ftjm.runtime.config import Settings
from ftjm.runtime.durations import format_time
from ftjm.runtime.errors import FtjmError
from ftjm.runtime.plain_values import present
from ftjm.runtime.version import __version__
from ftjm.snapshots.repository import open_repository

PATIENCE_SECONDS = 15.0
ASK_AGAIN_SECONDS = 3.0
LOOK_AGAIN_SECONDS = 1.0
WITHIN_SECONDS = 60.0
TARGET = Finalized(LEVEL, STATE_VERSION)
"""What this build finalises."""


class PartitionUpgrade(msgspec.Struct, frozen=True):
    """One partition in an upgrade."""

    partition: int
    owner: str
    """Name of the scheduler that announced that it owns the partition; empty without such an announcement."""
    final: Finalized | None
    """The versions that are final in the partition; None if no owner has announced them."""
    manifests: list[Manifest]
    """Its snapshots, newest first."""

    @property
    def is_final(self) -> bool:
        """Whether the upgrade to this build is final here."""
        return self.final is not None and not self.final.before(TARGET)

    @property
    def for_older_build(self) -> list[Manifest]:
        """The snapshots that finalising drops, or leaves to the next snapshot to drop."""
        kept_then = retained(self.manifests, STATE_VERSION)
        return [one for one in self.manifests if one.state_version < STATE_VERSION or one not in kept_then]


class UpgradeStatus(msgspec.Struct, frozen=True):
    """The state of the upgrade to this build."""

    members: list[MemberVersion]
    partitions: list[PartitionUpgrade]

    @property
    def is_final(self) -> bool:
        """Whether the upgrade is final, so that no way back to an older build exists, in every partition."""
        return all(one.is_final for one in self.partitions)

    @property
    def obstacles(self) -> list[str]:
        """The reasons why the upgrade cannot be finalised now; empty if it can."""
        found = []
        for member in self.members:
            older_rows = member.role != WORKER and member.state_version < STATE_VERSION
            if member.level < LEVEL or older_rows:
                found.append(f"{described(member)} is of an older build: upgrade it")
            elif member.level > LEVEL or member.state_version > STATE_VERSION:
                found.append(f"{described(member)} is of a newer build than this command: run that build's `ftjm`")
        for one in self.partitions:
            if one.final is None:
                found.append(f"no owner of partition {one.partition} is known: see `ftjm inspect partitions`")
            elif not one.is_final and all(m.state_version != STATE_VERSION for m in one.manifests):
                rows = f"rows of version {STATE_VERSION}"
                found.append(f"partition {one.partition} has no snapshot with {rows}: run `ftjm snapshot create`")
        return found

    def document(self) -> dict[str, Any]:
        """The status for printing."""
        return {
            "release": __version__,
            "level": LEVEL,
            "state_version": STATE_VERSION,
            "final": self.is_final,
            "obstacles": self.obstacles,
            "members": [member_row(member) for member in self.members],
            "partitions": [partition_row(one) for one in self.partitions],
        }


def member_row(member: MemberVersion) -> dict[str, Any]:
    """A member for printing."""
    return present(
        {
            "role": member.role,
            "member": member.name,
            "release": member.release,
            "level": member.level,
            "state_version": member.state_version or None,
        }
    )


def partition_row(one: PartitionUpgrade) -> dict[str, Any]:
    """A partition for printing."""
    kept = [] if one.is_final else one.for_older_build
    return present(
        {
            "partition": one.partition,
            "owner": one.owner,
            "final_level": one.final.level if one.final else None,
            "final_state_version": one.final.state_version if one.final else None,
            "snapshots": [_snapshot_row(manifest) for manifest in one.manifests],
            "kept_for_older_build": [_snapshot_row(manifest) for manifest in kept],
        }
    )


def _snapshot_row(manifest: Manifest) -> dict[str, Any]:
    return {
        "state_version": manifest.state_version,
        "batch": manifest.batch_no,
        "offset": manifest.applied_offset,
        "taken": format_time(manifest.taken_at),
        "bytes": manifest.size,
    }


def status(settings: Settings) -> UpgradeStatus:
    """Read the members' recent announcements, and the snapshots. Raises Unreachable, FtjmError."""
    members = _members(settings)
    owners = _finalized(members)
    with open_scan(settings, "events") as scan:
        partitions = scan.partitions
    found = []
    with open_repository(settings) as snapshots:
        for number in range(partitions):
            owner, final = owners.get(number, ("", None))
            found.append(PartitionUpgrade(number, owner, final, snapshots.manifests(number)))
    return UpgradeStatus(members, found)


def finalize(settings: Settings, actor: str, progress: Callable[[str], None]) -> UpgradeStatus:
    """Finalise the upgrade to this build in every partition, and wait until all owners have recorded it.

    The request is repeated, since a heartbeat lane does not guarantee delivery. A repetition does no harm.

    Raises: FtjmError where something is in the way, or an owner does not record it in time; Unreachable.
    """
    before = status(settings)
    if before.obstacles:
        todo = "resolve these, and run `ftjm upgrade finalize` again; nothing was changed"
        raise FtjmError("a cluster that is ready to finalise", "; ".join(before.obstacles), todo)
    missing = [one.partition for one in before.partitions if not one.is_final]
    kafka = QUIET | settings.kafka_settings("upgrade")
    producer = ConfirmingProducer(kafka)
    try:
        topic = settings.topic("heartbeats")
        lanes = patiently(lambda: producer.warm(topic), settings, PATIENCE_SECONDS)
        deadline, ask_at = time.monotonic() + WITHIN_SECONDS, 0.0
        while missing:
            progress(f"partitions {', '.join(map(str, missing))}")
            if time.monotonic() > deadline:
                todo = "see `ftjm upgrade status`; the other partitions are final, and running this again is harmless"
                raise FtjmError(f"partitions {missing} to be final", f"no such record in {WITHIN_SECONDS:g} s", todo)
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + ASK_AGAIN_SECONDS
                request = FinalizeUpgrade(partitions=missing, level=LEVEL, state_version=STATE_VERSION, actor=actor)
                producer.send(topic, codec.encode(request), partition=missing[0] % lanes)
            time.sleep(LOOK_AGAIN_SECONDS)
            final = {p for p, (_, found) in _finalized(_members(settings)).items() if not found.before(TARGET)}
            missing = [partition for partition in missing if partition not in final]
    finally:
        producer.close(1.0)
    return status(settings)


def _finalized(members: Iterable[MemberVersion]) -> dict[int, tuple[str, Finalized]]:
    """Owner of each partition, and the versions that it announced to be final.

    Where two members announced to own a partition, the one with the newer level counts.
    """
    found: dict[int, tuple[str, Finalized]] = {}
    for member in members:
        for one in member.partitions:
            final = Finalized(one.level, one.state_version)
            known = found.get(one.partition)
            if known is None or known[1].before(final):
                found[one.partition] = member.name, final
    return found


def _members(settings: Settings) -> list[MemberVersion]:
    """The members with recent heartbeats or announcements."""
    now, found = wall_ms(), MemberVersions(0)
    with open_scan(settings, "heartbeats", committed=False) as scan:
        lanes = {lane: scan.offset_at(lane, now - SILENT_MS) for lane in range(scan.partitions)}
        for record in scan.read(lanes):
            try:
                beat = codec.decode(record.value)
            except UndecodableError:  # a newer build's: its announcement can be read
                continue
            if confine(beat):
                continue
            if isinstance(beat, MemberVersion):
                found.receive_version(beat, record.time_ms)
            elif isinstance(beat, SchedulerHeartbeat):
                found.receive_scheduler(beat, record.time_ms)
            elif isinstance(beat, WorkerHeartbeat):
                found.receive_worker(beat, record.time_ms)
    return found.present(now)
