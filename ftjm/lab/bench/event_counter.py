"""Counts the events of a cluster by type, from now on. It reads only the type of a record, and decodes none."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.patience import patiently
from ftjm.core.records import events as e
from ftjm.lab.bench.options import Progress
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

SILENCE_SECONDS_MAX = 60.0
READ_SECONDS = 0.1
PATIENCE_SECONDS = 30.0


class EventCounter:
    """Counts events as they are committed.

    Args:
        check: called while waiting; raises if a process of the cluster has failed.
    """

    def __init__(self, settings: Settings, check: Callable[[], None], progress: Progress) -> None:
        topic, lanes = settings.topic("events"), range(settings.partitions)
        kafka = settings.kafka_settings("bench")
        # New topics may not have leaders on all partitions yet.
        self._reader = patiently(lambda: LaneReader(kafka, topic, lanes), settings, PATIENCE_SECONDS)
        self._check = check
        self._progress = progress
        self.counts: Counter[type | None] = Counter()
        self.owned: set[int] = set()
        """Partitions whose owner has written a batch."""
        self.first: dict[type | None, float] = {}
        """Time at which the first event of each type was read, wall clock, s."""
        self.succeeded_before = 0
        """Successes that were read before the first submission: those of jobs that had waited."""

    def until(self, kind: type[e.Event], count: int) -> float:
        """Wait until `count` events of this type were read since `forget`. Return the time, wall clock, s.

        Raises:
            FtjmError: no event came for long, or a job failed.
        """
        self._wait(lambda: self.counts[kind] >= count, lambda: self._progress.move(self.counts[kind], count))
        return time.time()

    def until_owned(self, partitions: int) -> None:
        """Wait until every partition has an owner that has written a batch."""
        self._wait(lambda: len(self.owned) == partitions, lambda: self._progress.move(len(self.owned), partitions))

    def forget(self) -> None:
        """Set all counts to zero."""
        self.counts.clear()
        self.first.clear()
        self.succeeded_before = 0

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()

    def _wait(self, reached: Callable[[], bool], show: Callable[[], None]) -> None:
        last_read = time.monotonic()
        while not reached():
            if self._read():
                last_read = time.monotonic()
                show()
            self._check()
            if self.counts[e.AttemptFailed] or self.counts[e.CommandRejected]:
                found = {kind.__name__: count for kind, count in self.counts.items() if kind}
                raise FtjmError("every job to succeed", f"these events: {found}", "look at `ftjm inspect events`")
            if time.monotonic() - last_read > SILENCE_SECONDS_MAX:
                found_kinds = {kind.__name__: count for kind, count in self.counts.items() if kind}
                todo = "find out what keeps this machine busy, and run the benchmark again"
                raise FtjmError("events to come", f"none for {SILENCE_SECONDS_MAX:g} s, after {found_kinds}", todo)

    def _read(self) -> bool:
        """Read and count events. Return whether any came."""
        records = self._reader.read(READ_SECONDS)
        for record in records:
            kind = codec.type_of(record.value)
            self.counts[kind] += 1
            if kind is e.BatchClosed:
                self.owned.add(record.partition)
            elif kind not in self.first:
                self.first[kind] = time.time()
                if kind is e.JobSubmitted:
                    self.succeeded_before = self.counts[e.AttemptSucceeded]
        return bool(records)
