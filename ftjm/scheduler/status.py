"""The state of one scheduler process, for `/metrics` and `/readyz`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from ftjm.core.records.messages import SchedulerHeartbeat
from ftjm.scheduler.context import Context
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.partition_runner import Runner

ANSWERED_SECONDS = 3.0
"""Kafka counts as answering for this long after a heartbeat of this process has reached the log."""
SILENT_SECONDS = 10.0
"""Kafka counts as unreachable if no heartbeat of this process has reached the log for this long."""


class SchedulerStatus:
    """The state that `/metrics` and `/readyz` show, from any thread. Empty until the process has reached Kafka."""

    def __init__(self) -> None:
        self.partitions: Mapping[int, Runner] = {}
        self.context: Context | None = None
        self.placed = False
        """Whether this process knows the partitions for which it should stand by."""
        self._owner_offsets: dict[int, int] = {}
        self._heartbeat_at: float | None = None

    def note_heartbeat(self) -> None:
        """Note that a heartbeat of this process has reached the log."""
        self._heartbeat_at = time.monotonic()

    @property
    def answered(self) -> bool:
        """Whether a heartbeat of this process has reached the log lately."""
        return self._heartbeat_at is not None and time.monotonic() - self._heartbeat_at < ANSWERED_SECONDS

    def receive(self, heartbeat: SchedulerHeartbeat) -> None:
        """Take in the heartbeat of a scheduler, perhaps of this one: the offsets of the partitions that it owns."""
        for report in heartbeat.partitions:
            if report.role == Role.OWNER:
                self._owner_offsets[report.partition] = report.applied_offset

    @property
    def rebalances(self) -> int:
        membership = self.context.membership if self.context else None
        return membership.rebalances if membership else 0

    @property
    def workers(self) -> Mapping[str, int]:
        return self.context.liveness.census() if self.context else Counter()

    @property
    def lag_events(self) -> int:
        return sum(
            max(0, self._owner_offsets.get(number, 0) - runner.report.applied_offset)
            for number, runner in self.partitions.items()
            if runner.role not in (Role.OWNER, Role.COLD)
        )

    @property
    def refusing(self) -> Mapping[str, bool]:
        return dict(self.context.overload.reasons) if self.context else {}

    @property
    def damaged_snapshots(self) -> int:
        return self.context.repository.damaged if self.context else 0

    def why_not_ready(self) -> str:
        """Return why the scheduler is not ready. Empty if every partition here is caught up and Kafka answers."""
        if not self.partitions:
            return "Kafka has not been reached yet"
        if not self.placed:
            return "it does not know yet what to stand by for, or is still folding the logs"
        behind = [n for n, runner in self.partitions.items() if runner.opening or runner.role is Role.BROKEN]
        if behind:
            return f"partitions {', '.join(map(str, behind))} are not caught up"
        if self._heartbeat_at is None or time.monotonic() - self._heartbeat_at > SILENT_SECONDS:
            return f"no heartbeat of this process has reached the log for {SILENT_SECONDS:.0f} s"
        return ""
