"""Who decides for each partition, and when: followed through the batches that schedulers write."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ftjm.adapters import codec
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.bench.crew import Member
from ftjm.config import Settings
from ftjm.core.events import BatchClosed
from ftjm.errors import FtjmError
from ftjm.patience import patiently

PATIENCE_SECONDS = 30.0
READ_SECONDS = 0.05
LIMIT_SECONDS = 60.0


Life = tuple[str, int]
"""A scheduler's name, and a process that had it."""


class Batch(NamedTuple):
    """A committed batch: when the log took its last record (wall clock, ms), and who wrote it, `name@host:pid`."""

    at_ms: int
    owner: str

    @property
    def name(self) -> str:
        return self.owner.partition("@")[0]

    @property
    def life(self) -> Life:
        """Whose it is, and of which of its lives."""
        return self.name, int(self.owner.rpartition(":")[2])


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
                    self._batches[message.partition() or 0].append(Batch(message.timestamp()[1], closed.owner))

    def owned(self, name: str) -> set[int]:
        """The partitions whose newest batch is of this scheduler."""
        return {p for p, batches in list(self._batches.items()) if batches[-1].name == name}

    def until_shared(self, crew: Mapping[str, Member]) -> None:
        """Wait until the present lives of these, each of them and no others, own all partitions."""
        wanted = {(name, member.process.pid) for name, member in crew.items()}

        def shared() -> bool:
            owners = [batches[-1].life for batches in list(self._batches.values())]
            return len(owners) == self._partitions and set(owners) == wanted

        self._until(shared, f"{', '.join(sorted(crew))} to share all partitions")

    def takeovers(self, partitions: Iterable[int], victim: str, at_ms: int) -> list[float]:
        """Wait until each of `partitions` has a batch of another than `victim`, and how long each took, s."""
        wanted = list(partitions)

        def first(partition: int) -> Batch | None:
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
        """The longest time without a batch of each partition, of pauses that touch this time, s."""
        times = {p: [at for at, _ in list(batches)] for p, batches in list(self._batches.items())}
        return [longest_pause_ms(times.get(p, []), since_ms, until_ms) / 1000 for p in range(self._partitions)]

    def _until(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not reached():
            self._check()
            if time.monotonic() > deadline:
                todo = "look what keeps this machine busy, and run the benchmark again"
                raise FtjmError(what, f"not within {LIMIT_SECONDS:g} s", todo)
            time.sleep(READ_SECONDS)


def longest_pause_ms(times: Sequence[int], since_ms: int, until_ms: int) -> int:
    """The longest time without a batch, of pauses that touch this time; one that is still open lasts until its end."""
    known = times or [since_ms]
    ends = [*known, until_ms] if known[-1] < until_ms else known
    return max((b - a for a, b in pairwise(ends) if b >= since_ms and a <= until_ms), default=0)
