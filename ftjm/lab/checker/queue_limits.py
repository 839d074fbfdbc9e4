"""The rules of queues: a paused queue starts no attempt, and no more of its jobs run or start than it is declared to.

The rate is judged as a bucket that leaks, and not as the core counts it: each start adds one, `limit` of them leak out
in each `per`, and the bucket never holds more than `burst`. All is counted in whole numbers: one start is `per`
milliseconds high, and `limit` leak out in each millisecond.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ftjm.core.records import events as e
from ftjm.core.state.queues import QueueSpec
from ftjm.lab.checker.verdict import Violation, ViolationKind

UNDECLARED = QueueSpec()


class _Bucket:
    """What has started of a queue's rate, and has not leaked out."""

    def __init__(self, spec: QueueSpec) -> None:
        self.rate = (spec.rate_limit, spec.rate_per_ms, spec.rate_burst)
        self._level = 0
        self._at = 0

    def add_start(self, at: int) -> bool:
        """Whether one start more, at the time `at` (ms), still fits."""
        limit, per_ms, burst = self.rate
        self._level = max(0, self._level - (at - self._at) * limit) + per_ms
        self._at = at
        return self._level <= burst * per_ms


class QueueLimits:
    """Judges the attempts of one partition's queues by what was declared and paused."""

    def __init__(self) -> None:
        self._paused: set[str] = set()
        self._declared: dict[str, QueueSpec] = {}
        self._revision = 0
        self._live: Counter[str] = Counter()
        """Open attempts, by queue."""
        self._buckets: dict[str, _Bucket] = {}

    def take(self, event: e.Event) -> Iterator[Violation]:
        """Apply an event of a queue as a whole. Judges its revision."""
        match event:
            case e.QueuePaused():
                self._paused.add(event.queue)
            case e.QueueResumed():
                self._paused.discard(event.queue)
            case e.QueueApplied():
                if event.revision <= self._revision:
                    text = f"expected a revision of {event.queue} above {self._revision}, the newest of its partition"
                    yield Violation(ViolationKind.CHAIN, f"{text}, but found {event.revision}")
                self._revision = event.revision
                self._declare(event.queue, event.spec)
            case e.QueueDeleted():
                self._declare(event.queue, QueueSpec())
            case _:
                pass

    def _declare(self, queue: str, spec: QueueSpec) -> None:
        self._declared[queue] = spec
        bucket = _Bucket(spec)
        if queue not in self._buckets or self._buckets[queue].rate != bucket.rate:
            self._buckets[queue] = bucket

    def spec(self, queue: str) -> QueueSpec:
        """What the queue is declared to; the defaults if it is not declared."""
        return self._declared.get(queue) or UNDECLARED

    def is_paused(self, queue: str) -> bool:
        """Whether the queue is paused."""
        return queue in self._paused

    def attempt_started(self, event: e.AttemptDispatched) -> Iterator[Violation]:
        """Judge a dispatch, and count it."""
        queue = event.queue
        if queue in self._paused:
            yield Violation(ViolationKind.LIMIT, f"expected no attempt of {queue}, which is paused, but found one")
        self._live[queue] += 1
        spec = self._declared.get(queue)
        if spec is None:
            return
        if 0 < spec.concurrency < self._live[queue]:
            text = f"expected at most {spec.concurrency} attempts of {queue} at a time"
            yield Violation(ViolationKind.LIMIT, f"{text}, but found {self._live[queue]}")
        if spec.rate_limit and not self._buckets[queue].add_start(event.at):
            text = f"expected at most {spec.rate_limit} starts of {queue} in {spec.rate_per_ms} ms"
            yield Violation(ViolationKind.LIMIT, f"{text}, and {spec.rate_burst} at once, but found one more")

    def attempt_ended(self, queue: str) -> None:
        """An attempt has its outcome."""
        self._live[queue] -= 1
