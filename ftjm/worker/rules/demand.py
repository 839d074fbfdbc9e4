"""Which partitions have jobs of a worker's queues that wait for a slot, as the partitions' owners publish it. Pure."""

from collections.abc import Collection

from ftjm.core.records.messages import PartitionReport

DEMAND_KEPT_MS = 5_000
"""The demand that an owner has published counts for this long if no newer heartbeat arrives."""


class Demand:
    """The demand of the partitions of one worker."""

    def __init__(self, queues: Collection[str]) -> None:
        """`queues` are those that the worker serves."""
        self._queues = queues
        self._waiting: dict[int, int] = {}
        """When the owner of a partition last published that jobs wait which a slot would start."""
        self._limited: dict[int, int] = {}
        """The same for jobs that wait for the limits of their queues."""
        self._weights: dict[int, int] = {}
        """The sum of the weights of our queues that wait in a partition, when some waited last."""

    def published(self, report: PartitionReport, now: int) -> None:
        """An owner has published which queues wait in its partition."""
        # An entry without a name stands for queues that are not listed: one of them may be ours.
        ours = [one for one in report.demand if one.ready > 0 and (not one.queue or one.queue in self._queues)]
        waiting = [one.weight for one in ours if not one.paused and not one.limited]
        limited = [] if waiting else [one.weight for one in ours if one.limited and not one.paused]
        if waiting or limited:
            self._weights[report.partition] = sum(waiting or limited)
        for seen, holds in ((self._waiting, waiting), (self._limited, limited)):
            if holds:
                seen[report.partition] = now
            else:
                seen.pop(report.partition, None)

    def waiting(self, now: int) -> set[int]:
        """Partitions in which a slot would start a job."""
        return {partition for partition, seen in self._waiting.items() if now - seen < DEMAND_KEPT_MS}

    def limited(self, now: int) -> set[int]:
        """Partitions in which jobs wait, and no more of them may start than have a slot."""
        return {partition for partition, seen in self._limited.items() if now - seen < DEMAND_KEPT_MS}

    def weights(self) -> dict[int, int]:
        """In proportion to which partitions have slots: the sum of the weights of the queues that wait there."""
        return dict(self._weights)

    def waits(self, partition: int, now: int) -> bool:
        """Whether a slot would start a job of the partition."""
        return now - self._waiting.get(partition, -DEMAND_KEPT_MS) < DEMAND_KEPT_MS
