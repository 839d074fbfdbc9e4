"""Who decides for each partition, and when: followed through the batches that schedulers write."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from ftjm.adapters import codec
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.config import Settings
from ftjm.core.events import BatchClosed
from ftjm.errors import FtjmError
from ftjm.patience import patiently

PATIENCE_SECONDS = 30.0
READ_SECONDS = 0.05
LIMIT_SECONDS = 60.0


class Batch(NamedTuple):
    """A committed batch: when the log took its last record (wall clock, ms), and the name of who wrote it."""

    at_ms: int
    owner: str


class Moves:
    """Reads the events on a thread of its own. A context manager."""

    def __init__(self, settings: Settings, check: Callable[[], None]) -> None:
        """`check` is called while something is awaited, and raises if there is nothing to wait for any more."""
        topic, kafka = settings.topic("events"), settings.kafka_settings("bench")
        self._partitions = settings.partitions
        self._reader = patiently(
            lambda: LaneReader(kafka, topic, range(settings.partitions)), settings, PATIENCE_SECONDS
        )
        self._check = check
        self._batches: dict[int, list[Batch]] = defaultdict(list)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="moves", daemon=True)

    def __enter__(self) -> Moves:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._reader.close()

    def _run(self) -> None:
        while not self._over.is_set():
            for message in self._reader.read(READ_SECONDS):
                value = message.value() or b""
                if codec.type_of(value) is BatchClosed and (closed := codec.decode(value)).events:
                    # One without events decides nothing: a new owner tells by it that it is there.
                    owner = closed.owner.partition("@")[0]
                    self._batches[message.partition() or 0].append(Batch(message.timestamp()[1], owner))

    def owned(self, name: str) -> set[int]:
        """The partitions whose newest batch is of this scheduler."""
        return {p for p, batches in list(self._batches.items()) if batches[-1].owner == name}

    def until_shared(self, names: Iterable[str]) -> None:
        """Wait until these, each of them and no others, own all partitions."""
        wanted = set(names)

        def shared() -> bool:
            owners = [batches[-1].owner for batches in list(self._batches.values())]
            return len(owners) == self._partitions and set(owners) == wanted

        self._until(shared, f"{', '.join(sorted(wanted))} to share all partitions")

    def takeovers(self, partitions: Iterable[int], victim: str, at_ms: int) -> list[float]:
        """Wait until each of `partitions` has a batch of another than `victim`, and how long each took, s."""
        wanted = list(partitions)

        def first(partition: int) -> Batch | None:
            batches = reversed(list(self._batches[partition]))
            newest = None
            for batch in batches:
                if batch.owner == victim or batch.at_ms < at_ms:
                    break
                newest = batch
            return newest

        self._until(lambda: all(first(p) for p in wanted), f"others to take over from {victim}")
        return [(batch.at_ms - at_ms) / 1000 for p in wanted if (batch := first(p))]

    def pauses(self, since_ms: int, until_ms: int) -> list[float]:
        """The longest time without a batch of each partition, of pauses that touch this time, s."""
        found = []
        for batches in list(self._batches.values()):
            near = (b - a for (a, _), (b, _) in pairwise(list(batches)) if b >= since_ms and a <= until_ms)
            found.append(max(near, default=0) / 1000)
        return found

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not reached():
            self._check()
            if time.monotonic() > deadline:
                todo = "look what keeps this machine busy, and run the benchmark again"
                raise FtjmError(what, f"not within {LIMIT_SECONDS:g} s", todo)
            time.sleep(READ_SECONDS)
