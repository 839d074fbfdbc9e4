"""Keeps the projection at the end of the log, and knows how old it is.

One thread folds the log into the projection. Another thread asks Kafka, twice a second, where the log ends. When the
projection has reached all the ends of one answer, it holds everything that the log held when the request was sent:
that time is the `as_of` of all answers.

At its start, the projection is compared with the log, as a scheduler's store is (see `engine/lineage.py`): if it is of
another log, it is cleared and made again. If the log was trimmed behind the projection, partitions are loaded from
their snapshots.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError, TopicUnknown
from ftjm.adapters.kafka.offsets import Observer
from ftjm.adapters.kafka.partition_buffer import EventBuffer
from ftjm.adapters.kafka.partition_reader import PartitionReader
from ftjm.adapters.kafka.patience import QUIET
from ftjm.adapters.kafka.point_reader import PointReader
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.errors import UndecodableError
from ftjm.core.state.model import Position
from ftjm.engine.lineage import lineage
from ftjm.engine.partition import Diverged
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import DamagedSnapshot
from ftjm.readmodel.loading import load
from ftjm.readmodel.projection import Projection
from ftjm.readmodel.recent_events import RecentEvents
from ftjm.readmodel.tables import Tables
from ftjm.runtime import logs
from ftjm.runtime.clock import wall_ms
from ftjm.runtime.config import Settings
from ftjm.snapshots.repository import Repository

log = logs.get(__name__)

TAKE_MAX = 2_000
"""Records that are folded of one partition before the next one has its turn."""
FLUSH_ROWS = 20_000
FLUSH_SECONDS = 0.5
"""While records keep coming, folded records become visible to readers at least this often."""
IDLE_SECONDS = 0.25
ASK_ENDS_SECONDS = 0.5
"""Time between two requests for the log's end. It bounds how exactly the projection's age is known."""
RETRY_SECONDS_MAX = 5.0
WAIT_MS = 250
"""How long a broker waits for the next record before it answers that there is none. A partition that is resumed after a
pause waits for such an answer."""


class BeginningMissing(Exception):
    """A partition has neither a log from its beginning nor a snapshot."""


class ProjectionStatus(NamedTuple):
    """How old the projection is, and whether it can continue."""

    as_of: int
    """Readers see everything that the log held at this time (wall clock, ms); 0 before that is known."""
    caught_up: bool
    """Whether this process has reached the log's end at least once."""
    connected: bool
    """Whether Kafka answered the newest request."""
    fault: str
    """The reason why the projection cannot continue; empty if it can."""


class _Ends(NamedTuple):
    """The ends of the log at one moment."""

    asked_at: int
    """Wall clock, ms."""
    ends: dict[int, int]
    """The end offset of each partition."""


class ProjectionFollower:
    """The thread that folds, and the thread that asks where the log ends."""

    def __init__(self, settings: Settings, path: Path, changed: Callable[[], None]) -> None:
        """Open the projection; `start` starts to follow the log.

        Args:
            path: the projection's file.
            changed: called, from a thread of the follower, whenever readers may see something new.
        """
        self._settings = settings
        self._kafka = QUIET | settings.kafka_settings("api")
        self._topic = settings.topic("events")
        self._changed = changed
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._unreached: deque[_Ends] = deque(maxlen=100)
        self._as_of = 0
        self._caught_up = False
        self._connected = False
        self._fault = ""
        self.tables = Tables(path)
        self.partitions = int(self.tables.meta("partitions") or 0)
        """Number of partitions; 0 until it is known."""
        self.positions: dict[int, Position] = {}
        """The position of each partition, as readers see it."""
        self.command_ends: dict[int, int] = {}
        """The end offset of each partition of `commands`, by the newest request."""
        self.event_ends: dict[int, int] = {}
        """The end offset of each partition of `events`, by the newest request."""
        self.observer = Observer(self._kafka)
        self.recent = RecentEvents()
        self._threads = [
            threading.Thread(target=self._follow, name="projection", daemon=True),
            threading.Thread(target=self._ask_ends, name="observer", daemon=True),
        ]

    def start(self) -> None:
        """Start both threads. They wait by themselves for a Kafka that does not answer."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop both threads, wait for their ends, and close the tables."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self.tables.close()

    @property
    def status(self) -> ProjectionStatus:
        """The age of the projection, and whether it can continue."""
        return ProjectionStatus(self._as_of, self._caught_up, self._connected, self._fault)

    # -- where the log ends

    def _ask_ends(self) -> None:
        throttle = logs.Throttle()
        while not self._stop.wait(ASK_ENDS_SECONDS):
            if not self.partitions:
                continue
            try:
                now = wall_ms()
                ends = self.observer.ends(self._topic, self.partitions, committed=True)
                commands = self._settings.topic("commands")
                self.command_ends = self.observer.ends(commands, self.partitions, committed=False)
            except LogError as error:
                if self._connected or throttle.due():
                    log.warning("kafka_away", error=str(error), todo="reads go on, and say how old they are")
                self._connected = False
            else:
                self._connected = True
                self.event_ends = ends
                self._unreached.append(_Ends(now, ends))
            self._wake.set()

    # -- folding

    def _follow(self) -> None:
        pause, throttle = 0.1, logs.Throttle()
        while not self._stop.is_set():
            try:
                self._follow_until_stopped()
                pause = 0.1
            except LogError as error:
                if isinstance(error, TopicUnknown):
                    self._fault = f"cluster {self._settings.cluster} has no topics: make them with `ftjm topics create`"
                if throttle.due():
                    log.warning("log_unreadable", error=str(error), todo="waiting, and trying again")
            except (BeginningMissing, DamagedSnapshot, OSError) as error:
                self._fault = str(error)
                todo = "take snapshots with `ftjm snapshot create --full`; waiting, and trying again"
                if throttle.due():
                    log.error("projection_lacks_its_beginning", error=self._fault, todo=todo)  # noqa: TRY400  (no bug)
            except (Diverged, UndecodableError, AssertionError) as error:
                # A projection that disagrees with the log is made again. If the log itself cannot be folded, this is
                # logged again and again, and the schedulers log the same.
                self._fault = f"{type(error).__name__}: {error}"
                log.exception("projection_wrong", todo="making it again from the log")
                self.tables.clear()
                self.recent.clear()
            except Exception as error:  # such as a full disk; without this thread the projection only grows old
                self._fault = f"{type(error).__name__}: {error}"
                if throttle.due():
                    log.exception("projection_failed", todo="waiting, and trying again")
            self._stop.wait(pause)
            pause = min(RETRY_SECONDS_MAX, pause * 2)

    def _follow_until_stopped(self) -> None:
        """Connect, and fold the log until the follower is stopped. Raises LogError, and what folding raises."""
        log_id, self.partitions = self.observer.topic(self._topic)
        if log_id != self.tables.meta("log_id"):
            self.recent.clear()
        projection = Projection(self.tables, log_id, self.partitions)
        if trimmed := projection.trimmed(self.observer.begins(self._topic, self.partitions)):
            self._load(projection, trimmed)
        self._check_lineage(projection)
        starts = projection.starts()
        self._fault = ""
        self._publish_positions(projection)
        reader = PartitionReader({"fetch.wait.max.ms": WAIT_MS, **self._kafka}, self._settings.cluster)
        try:
            buffers = {p: reader.follow("events", p, start, self._wake.set) for p, start in starts.items()}
            self._fold(projection, buffers)
        finally:
            reader.close()

    def _load(self, projection: Projection, trimmed: list[int]) -> None:
        """Load partitions whose logs were trimmed from their snapshots. Raises LogError, BeginningMissing."""
        log.info("projection_loading", partitions=trimmed, reason="their logs begin behind what the projection holds")
        repository = Repository(self._kafka, self._settings.cluster, projection.log_id, self._settings.snapshot_place)
        with closing(repository), Scan(self._kafka, self._topic) as scan:
            missing = [p for p in trimmed if not load(self.tables, repository, scan, p)]
        projection.reopen()
        if missing:
            raise BeginningMissing(
                f"expected a log from its beginning, or a snapshot, but partitions {missing} have neither"
            )

    def _check_lineage(self, projection: Projection) -> None:
        """Clear a projection that was not folded from this log."""
        ends = self.observer.ends(self._topic, self.partitions, committed=True)
        reader = PointReader(self._kafka, self._topic)
        try:
            for p, partition in enumerate(projection.partitions):
                at = partition.position.applied_offset
                known = reader.read(p, [at]) if 0 <= at < ends[p] else {}
                records = iter([EventRecord(offset, value) for offset, value in known.items()])
                if (reason := lineage(partition.rows, projection.log_id, records, codec)) is not None:
                    log.warning("projection_discarded", partition=p, reason=reason, todo="making it again from the log")
                    self.recent.clear()
                    projection.clear()
                    return
        finally:
            reader.close()

    def _publish_positions(self, projection: Projection) -> None:
        self.positions = {p: partition.position for p, partition in enumerate(projection.partitions)}

    def _fold(self, projection: Projection, buffers: dict[int, EventBuffer]) -> None:
        reached = dict.fromkeys(buffers, 0)
        flushed_at = time.monotonic()
        while not self._stop.is_set():
            count = sum(self._fold_some(projection, p, buffer, reached) for p, buffer in buffers.items())
            now = time.monotonic()
            if not count or projection.waiting > FLUSH_ROWS or now - flushed_at > FLUSH_SECONDS:
                wrote = projection.flush()
                flushed_at = now
                if wrote:
                    self._publish_positions(projection)
                if self._update_age(reached) or wrote:
                    self._changed()
            if not count:
                self._wake.wait(IDLE_SECONDS)
                self._wake.clear()

    def _fold_some(self, projection: Projection, partition: int, buffer: EventBuffer, reached: dict[int, int]) -> int:
        """Fold records of one partition that have arrived.

        Args:
            reached: set to the partition's offset up to which everything that has arrived is folded.

        Returns:
            How many records were folded.
        """
        if buffer.fault is not None:
            raise buffer.fault
        end = buffer.reached
        records = buffer.take(TAKE_MAX)
        for record in records:
            projection.apply(partition, record.offset, record.key, record.value)
            if record.key:
                self.recent.keep(partition, record.offset, record.value)
        if len(records) < TAKE_MAX:
            reached[partition] = end
        return len(records)

    def _update_age(self, reached: dict[int, int]) -> bool:
        """Move `as_of` to the newest request whose ends are all reached. Returns whether it moved."""
        before = self._as_of
        while self._unreached and all(reached[p] >= end for p, end in self._unreached[0].ends.items()):
            self._as_of = self._unreached.popleft().asked_at
            if not self._caught_up:
                self._caught_up = True
                log.info("projection_caught_up", partitions=self.partitions)
        return self._as_of != before
