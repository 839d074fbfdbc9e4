"""Follows the owner of each partition through the batches in the log, and measures takeovers and pauses."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.patience import patiently
from ftjm.core.records.events import BatchClosed
from ftjm.lab.bench.processes import BenchProcess
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

PATIENCE_SECONDS = 30.0
READ_SECONDS = 0.05
LIMIT_SECONDS = 60.0


Instance = tuple[str, int]
"""Name of a scheduler, and the pid of one of its processes."""


class OwnedBatch(NamedTuple):
    """A committed batch: when the log took its last record (wall clock, ms), and its owner, `name@host:pid`."""

    at_ms: int
    owner: str

    @property
    def name(self) -> str:
        """Name of the scheduler that wrote the batch."""
        return self.owner.partition("@")[0]

    @property
    def instance(self) -> Instance:
        """Name and pid of the scheduler that wrote the batch."""
        return self.name, int(self.owner.rpartition(":")[2])


class OwnershipLog:
    """The owners of all partitions over time. A context manager: reads the events in a thread of its own."""

    def __init__(self, settings: Settings, check: Callable[[], None]) -> None:
        """`check` is called while waiting, and raises if a process of the cluster has failed."""
        topic, kafka = settings.topic("events"), settings.kafka_settings("bench")
        self._partitions = settings.partitions
        self._reader = patiently(
            lambda: LaneReader(kafka, topic, range(settings.partitions)), settings, PATIENCE_SECONDS
        )
        self._check = check
        self._batches: dict[int, list[OwnedBatch]] = defaultdict(list)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ownership", daemon=True)

    def __enter__(self) -> OwnershipLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._over.is_set():
            for record in self._reader.read(READ_SECONDS):
                if codec.type_of(record.value) is BatchClosed and (closed := codec.decode(record.value)).events:
                    # A batch without events decides nothing: a new owner writes one when it takes over.
                    self._batches[record.partition].append(OwnedBatch(record.time_ms, closed.owner))

    def owned(self, name: str) -> set[int]:
        """Return the partitions whose newest batch this scheduler wrote."""
        return {p for p, batches in list(self._batches.items()) if batches[-1].name == name}

    def until_shared(self, schedulers: Mapping[str, BenchProcess]) -> None:
        """Wait until all partitions are owned by these processes, and each of them owns some."""
        wanted = {(name, member.process.pid) for name, member in schedulers.items()}

        def shared() -> bool:
            owners = [batches[-1].instance for batches in list(self._batches.values())]
            return len(owners) == self._partitions and set(owners) == wanted

        self._until(shared, f"{', '.join(sorted(schedulers))} to share all partitions")

    def takeovers(self, partitions: Iterable[int], victim: str, at_ms: int) -> list[float]:
        """Wait until each partition has a batch of another scheduler than `victim`.

        Args:
            at_ms: when the victim was killed or stopped, wall clock.

        Returns:
            The time from `at_ms` to that batch for each partition, s.
        """
        wanted = list(partitions)

        def first(partition: int) -> OwnedBatch | None:
            batches = reversed(list(self._batches[partition]))
            newest = None
            for batch in batches:
                if batch.name == victim or batch.at_ms < at_ms:
                    break
                newest = batch
            return newest

        self._until(lambda: all(first(p) for p in wanted), f"others to take over from {victim}")
        return [(batch.at_ms - at_ms) / 1000 for p in wanted if (batch := first(p))]

    def pauses(self, since_ms: int, until_ms: int) -> list[float]:
        """Return for each partition the longest time without a batch, of pauses that touch the interval, s."""
        times = {p: [at for at, _ in list(batches)] for p, batches in list(self._batches.items())}
        return [longest_pause_ms(times.get(p, []), since_ms, until_ms) / 1000 for p in range(self._partitions)]

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not reached():
            self._check()
            if time.monotonic() > deadline:
                todo = "find out what keeps this machine busy, and run the benchmark again"
                raise FtjmError(what, f"not within {LIMIT_SECONDS:g} s", todo)
            time.sleep(READ_SECONDS)


def longest_pause_ms(times: Sequence[int], since_ms: int, until_ms: int) -> int:
    """Return the longest pause between two batches that touches the interval, ms.

    A pause that is still open at the end of the interval lasts until the end.
    """
    known = times or [since_ms]
    ends = [*known, until_ms] if known[-1] < until_ms else known
    return max((b - a for a, b in pairwise(ends) if b >= since_ms and a <= until_ms), default=0)
