"""One scheduler process as its metrics and its health show it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from ftjm.core.messages import SchedulerHeartbeat
from ftjm.scheduler.context import Context
from ftjm.scheduler.runner import Role, Runner

ANSWERED_SECONDS = 3.0
SILENT_SECONDS = 10.0
"""Without a heartbeat of ours that reached the log for this long, Kafka is away."""


class Inside:
    """Empty until the process has met Kafka. Read by the threads of the metrics' server."""

    def __init__(self) -> None:
        self.partitions: Mapping[int, Runner] = {}
        self.context: Context | None = None
        self.placed = False
        """Whether it is known what this process is to stand by for."""
        self._owners_at: dict[int, int] = {}
        self._told_at: float | None = None

    def told(self) -> None:
        """The log has a heartbeat of ours."""
        self._told_at = time.monotonic()

    @property
    def answered(self) -> bool:
        """Whether Kafka has taken a heartbeat of ours lately."""
        return self._told_at is not None and time.monotonic() - self._told_at < ANSWERED_SECONDS

    def heard(self, heartbeat: SchedulerHeartbeat) -> None:
        """A scheduler, perhaps this one, told how far its partitions are."""
        for report in heartbeat.partitions:
            if report.role == Role.OWNER:
                self._owners_at[report.partition] = report.applied_offset

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
            max(0, self._owners_at.get(number, 0) - runner.report.applied_offset)
            for number, runner in self.partitions.items()
            if runner.role not in (Role.OWNER, Role.COLD)
        )

    @property
    def refusing(self) -> Mapping[str, bool]:
        return dict(self.context.pressure.reasons) if self.context else {}

    @property
    def damaged_snapshots(self) -> int:
        return self.context.repository.damaged if self.context else 0

    def why_not_ready(self) -> str:
        """Empty once every partition here has been folded to its log's end, and while Kafka answers."""
        if not self.partitions:
            return "Kafka has not been reached yet"
        if not self.placed:
            return "it has not heard yet what to stand by for, or folds it"
        behind = [n for n, runner in self.partitions.items() if runner.opening or runner.role is Role.BROKEN]
        if behind:
            return f"partitions {', '.join(map(str, behind))} are not caught up"
        if self._told_at is None or time.monotonic() - self._told_at > SILENT_SECONDS:
            return f"no heartbeat has reached the log for {SILENT_SECONDS:.0f} s"
        return ""
