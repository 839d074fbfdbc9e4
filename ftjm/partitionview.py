"""Each partition at a glance: from the ends of its logs, and from what schedulers said in the last seconds."""

from __future__ import annotations

import time
from typing import Any

from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.config import Settings
from ftjm.core.errors import UndecodableError
from ftjm.core.events import BatchClosed
from ftjm.core.messages import PartitionReport, SchedulerHeartbeat
from ftjm.durations import age_of, format_time
from ftjm.jobhistory import open_scan

HEARD_WITHIN_MS = 5_000
"""An instance that said nothing for this long is not counted as there."""
OWNER = "owner"


def overview(settings: Settings) -> list[dict[str, Any]]:
    """A row for each partition. Raises Unreachable, FtjmError."""
    with open_scan(settings, "commands", committed=False) as scan:
        ends = {partition: scan.bounds(partition)[1] for partition in range(scan.partitions)}
    reports = _reports(settings)
    with open_scan(settings, "events") as scan:
        return [_row(p, end, last_batch(scan, p), scan.bounds(p)[1], reports.get(p, {})) for p, end in ends.items()]


def _row(
    partition: int,
    commands_end: int,
    closed: BatchClosed | None,
    events_end: int,
    reports: dict[str, PartitionReport],
) -> dict[str, Any]:
    owner = closed.owner if closed else ""
    said = reports.get(owner)
    others = [f"{instance} {report.role}" for instance, report in reports.items() if instance != owner]
    return {
        "partition": partition,
        "owner": owner or None,
        "alive": said is not None and said.role == OWNER,
        "epoch": closed.owner_epoch if closed else 0,
        "lag": max(0, commands_end - (closed.next_command if closed else 0)),
        "commands": commands_end,
        "events": events_end,
        "batch": closed.batch_no if closed else 0,
        "decided": format_time(closed.now) if closed else None,
        "idle": age_of(closed.now) if closed else None,
        "others": ", ".join(sorted(others)) or None,
    }


def last_batch(scan: Scan, partition: int, within: tuple[int, int] | None = None) -> BatchClosed | None:
    """The newest batch of a partition, or of a part of its log; None if there is none."""
    low, end = within or scan.bounds(partition)
    span = 16
    while True:
        start = max(low, end - span)
        found = None
        for record in scan.read({partition: start}, ends={partition: end}, whole=within is not None):
            if codec.type_of(record.value) is BatchClosed:
                found = record.value
        if found is not None:
            closed: BatchClosed = codec.decode(found)
            return closed
        if start == low:
            return None
        span *= 16


def _reports(settings: Settings) -> dict[int, dict[str, PartitionReport]]:
    """What each instance that was heard lately says of each partition."""
    found: dict[int, dict[str, PartitionReport]] = {}
    since = time.time_ns() // 1_000_000 - HEARD_WITHIN_MS
    newest: dict[str, SchedulerHeartbeat] = {}
    with open_scan(settings, "heartbeats", committed=False) as scan:
        for record in scan.read({lane: scan.offset_at(lane, since) for lane in range(scan.partitions)}):
            if codec.type_of(record.value) is SchedulerHeartbeat:
                try:
                    heartbeat = codec.decode(record.value)
                except UndecodableError:
                    continue
                newest[heartbeat.instance] = heartbeat
    for heartbeat in newest.values():
        for report in heartbeat.partitions:
            found.setdefault(report.partition, {})[heartbeat.instance] = report
    return found
