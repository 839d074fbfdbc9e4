"""Follows a cluster's events from now on, counting them by type, without decoding any."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ftjm.adapters import codec
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.bench.options import Progress
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.errors import FtjmError
from ftjm.patience import patiently

SILENCE_SECONDS_MAX = 60.0
READ_SECONDS = 0.1
PATIENCE_SECONDS = 30.0


class Watch:
    """`check` is called now and then, and raises if there is nothing to wait for any more."""

    def __init__(self, settings: Settings, check: Callable[[], None], progress: Progress) -> None:
        topic, lanes = settings.topic("events"), range(settings.partitions)
        kafka = settings.kafka_settings("bench")
        # Topics that were made a moment ago may not have leaders everywhere.
        self._reader = patiently(lambda: LaneReader(kafka, topic, lanes), settings, PATIENCE_SECONDS)
        self._check = check
        self._progress = progress
        self.counts: Counter[type | None] = Counter()
        self.owned: set[int] = set()
        """Partitions of which a batch was seen."""
        self.first: dict[type | None, float] = {}
        """When the first event of a type was seen, wall clock, s."""

    def until(self, kind: type[e.Event], count: int) -> float:
        """Wait until so many events of this type were seen since `forget`; when the last of them was, wall clock, s.

        Raises FtjmError if nothing comes for long, or a job fails.
        """
        self._wait(lambda: self.counts[kind] >= count, lambda: self._progress.move(self.counts[kind], count))
        return time.time()

    def until_owned(self, partitions: int) -> None:
        """Wait until every partition has an owner that writes."""
        self._wait(lambda: len(self.owned) == partitions, lambda: self._progress.move(len(self.owned), partitions))

    def forget(self) -> None:
        """Count from here on."""
        self.counts.clear()
        self.first.clear()

    def close(self) -> None:
        self._reader.close()

    def _wait(self, reached: Callable[[], bool], tell: Callable[[], None]) -> None:
        heard = time.monotonic()
        while not reached():
            if self._read():
                heard = time.monotonic()
                tell()
            self._check()
            if self.counts[e.AttemptFailed] or self.counts[e.CommandRejected]:
                found = {kind.__name__: count for kind, count in self.counts.items() if kind}
                raise FtjmError("every job to succeed", f"these events: {found}", "look at `ftjm inspect events`")
            if time.monotonic() - heard > SILENCE_SECONDS_MAX:
                found_kinds = {kind.__name__: count for kind, count in self.counts.items() if kind}
                todo = "look what keeps this machine busy, and run the benchmark again"
                raise FtjmError("events to come", f"none for {SILENCE_SECONDS_MAX:g} s, after {found_kinds}", todo)

    def _read(self) -> bool:
        """Whether anything has come: an idle owner writes nothing."""
        messages = self._reader.read(READ_SECONDS)
        for message in messages:
            kind = codec.type_of(message.value() or b"")
            self.counts[kind] += 1
            if kind is e.BatchClosed:
                self.owned.add(message.partition() or 0)
            elif kind not in self.first:
                self.first[kind] = time.time()
        return bool(messages)
