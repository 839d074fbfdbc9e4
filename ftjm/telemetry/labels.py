"""Labels and buckets of the metrics. All are bounded in number, and none is a job's id."""

from __future__ import annotations

import threading

QUEUES_MAX = 100
OTHER_QUEUES = "(others)"
"""Label of all queues beyond `QUEUES_MAX`. No queue can have this name."""

SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0),
)
"""Buckets for times of jobs, in seconds: from a millisecond to a day, since jobs take and wait for any time."""
MOMENTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets, in seconds, for what takes moments unless it is broken."""
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class Queues:
    """Queues as label values: the first `QUEUES_MAX` that this process sees, and one value for all others."""

    def __init__(self, most: int = QUEUES_MAX) -> None:
        self._most = most
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def label(self, queue: str, *, new: bool = True) -> str:
        """The label of a queue.

        Args:
            queue: The queue's name.
            new: Whether the queue may get a label of its own now, if it has none yet.
        """
        known = self._known.get(queue)
        if known is not None:
            return known
        if not new or len(self._known) >= self._most:
            return OTHER_QUEUES
        with self._lock:
            if len(self._known) < self._most:
                self._known[queue] = queue
        return self._known.get(queue, OTHER_QUEUES)
