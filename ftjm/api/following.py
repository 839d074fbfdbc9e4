"""Keeping the projection at the end of the log, and knowing how old what it says is."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message

from ftjm import logs
from ftjm.adapters import codec
from ftjm.adapters.kafka import offset_of
from ftjm.adapters.kafka_channel import Channel
from ftjm.adapters.kafka_ends import Observer
from ftjm.adapters.kafka_feed import Feed
from ftjm.adapters.kafka_points import PointReader
from ftjm.adapters.kafka_scan import Scan
from ftjm.api.loading import load
from ftjm.api.projection import Projection
from ftjm.api.recent import Recent
from ftjm.api.tables import Tables
from ftjm.clock import wall_ms
from ftjm.config import Settings
from ftjm.core.errors import UndecodableError
from ftjm.core.model import Position
from ftjm.engine.lineage import lineage
from ftjm.engine.partition import Diverged
from ftjm.engine.ports import EventRecord
from ftjm.engine.snapshot import DamagedSnapshot
from ftjm.patience import QUIET
from ftjm.repository import Repository

log = logs.get(__name__)

TAKE_MAX = 2_000
FLUSH_ROWS = 20_000
FLUSH_SECONDS = 0.5
"""While more keeps coming, what was folded becomes visible at least this often."""
IDLE_SECONDS = 0.25
ASK_SECONDS = 0.5
"""Between two looks at where the log ends: how exactly the projection's age is known."""
AGAIN_SECONDS_MAX = 5.0


class Trimmed(Exception):
    """What a partition began with is not to be had any more."""


class Freshness(NamedTuple):
    """How true the projection is."""

    as_of: int
    """All that the log held at this time (ms, our clock) can be seen; 0 if that was never known."""
    caught_up: bool
    """Whether the log's end was reached at least once in this life."""
    connected: bool
    """Whether Kafka answered when it was asked last."""
    fault: str
    """Why the projection cannot go on; empty if it can."""


class _Ends(NamedTuple):
    asked_at: int
    ends: dict[int, int]


class Following:
    """A thread that folds, and one that asks where the log ends."""

    def __init__(self, settings: Settings, path: Path, changed: Callable[[], None]) -> None:
        """`changed` is called, from a thread of ours, whenever readers may see something new."""
        self._settings = settings
        self._kafka = QUIET | settings.kafka_settings("api")
        self._topic = settings.topic("events")
        self._changed = changed
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._asked: deque[_Ends] = deque(maxlen=100)
        self._as_of = 0
        self._caught_up = False
        self._connected = False
        self._fault = ""
        self.tables = Tables(path)
        self.partitions = int(self.tables.meta("partitions") or 0)
        """0 until it is known."""
        self.positions: dict[int, Position] = {}
        """Where readers see each partition."""
        self.command_ends: dict[int, int] = {}
        """Where `commands` ended when Kafka was asked last."""
        self.observer = Observer(self._kafka)
        self.recent = Recent()
        self._threads = [
            threading.Thread(target=self._follow, name="projection", daemon=True),
            threading.Thread(target=self._ask, name="observer", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads, and close the tables."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self.tables.close()

    @property
    def freshness(self) -> Freshness:
        return Freshness(self._as_of, self._caught_up, self._connected, self._fault)

    # -- where the log ends

    def _ask(self) -> None:
        seldom = logs.Seldom()
        while not self._stop.wait(ASK_SECONDS):
            if not self.partitions:
                continue
            try:
                now = wall_ms()
                ends = self.observer.ends(self._topic, self.partitions, committed=True)
                commands = self._settings.topic("commands")
                self.command_ends = self.observer.ends(commands, self.partitions, committed=False)
            except KafkaException as error:
                if self._connected or seldom.due():
                    log.warning("kafka_away", error=error.args[0].str(), todo="reads go on, and say how old they are")
                self._connected = False
            else:
                self._connected = True
                self._asked.append(_Ends(now, ends))
            self._wake.set()

    # -- folding

    def _follow(self) -> None:
        pause, seldom = 0.1, logs.Seldom()
        while not self._stop.is_set():
            try:
                self._attend()
                pause = 0.1
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    self._fault = f"cluster {self._settings.cluster} has no topics: make them with `ftjm topics create`"
                if seldom.due():
                    log.warning("log_unreadable", error=error.args[0].str(), todo="waiting, and trying again")
            except (Trimmed, DamagedSnapshot, OSError) as error:
                self._fault = str(error)
                todo = "take snapshots with `ftjm snapshot create --full`; waiting, and trying again"
                if seldom.due():
                    log.error("projection_lacks_its_beginning", error=self._fault, todo=todo)  # noqa: TRY400  (no bug)
            except (Diverged, UndecodableError, AssertionError) as error:
                # A store that disagrees with the log is made anew; if the log itself cannot be folded, this says so
                # again and again, and the schedulers say the same.
                self._fault = f"{type(error).__name__}: {error}"
                log.exception("projection_wrong", todo="making it anew from the log")
                self.tables.clear()
                self.recent.clear()
            except Exception as error:  # a full disk, for one: without this thread what is told grows old for ever
                self._fault = f"{type(error).__name__}: {error}"
                if seldom.due():
                    log.exception("projection_failed", todo="waiting, and trying again")
            self._stop.wait(pause)
            pause = min(AGAIN_SECONDS_MAX, pause * 2)

    def _attend(self) -> None:
        """Connect, and follow the log until stopped. Raises KafkaException, and what folding raises."""
        log_id, self.partitions = self.observer.topic(self._topic)
        if log_id != self.tables.meta("log_id"):
            self.recent.clear()
        projection = Projection(self.tables, log_id, self.partitions)
        if lost := projection.lost(self.observer.begins(self._topic, self.partitions)):
            self._load(projection, lost)
        self._prove(projection)
        starts = projection.starts()
        self._fault = ""
        self.positions = {p: part.position for p, part in enumerate(projection.parts)}
        feed = Feed(self._kafka, self._settings.cluster)
        try:
            channels = {p: feed.follow("events", p, start, self._wake.set) for p, start in starts.items()}
            self._loop(projection, channels)
        finally:
            feed.close()

    def _load(self, projection: Projection, lost: list[int]) -> None:
        """Take partitions whose logs were trimmed from their snapshots. Raises KafkaException, and Trimmed."""
        log.info("projection_loading", partitions=lost, because="their logs begin behind what the projection holds")
        repository = Repository(self._kafka, self._settings.cluster, projection.log_id, self._settings.snapshot_place)
        with closing(repository), Scan(self._kafka, self._topic) as scan:
            missing = [p for p in lost if not load(self.tables, repository, scan, p)]
        projection.reopen()
        if missing:
            raise Trimmed(f"partitions {missing} have neither a snapshot that can be used nor a log from its beginning")

    def _prove(self, projection: Projection) -> None:
        """A projection that is not this log's child is thrown away."""
        ends = self.observer.ends(self._topic, self.partitions, committed=True)
        reader = PointReader(self._kafka, self._topic)
        try:
            for p, part in enumerate(projection.parts):
                at = part.position.applied_offset
                known = reader.read(p, [at]) if 0 <= at < ends[p] else {}
                records = iter([EventRecord(offset, value) for offset, value in known.items()])
                if (why := lineage(part.rows, projection.log_id, records, codec)) is not None:
                    log.warning("projection_discarded", partition=p, because=why)
                    self.recent.clear()
                    projection.clear()
                    return
        finally:
            reader.close()

    def _loop(self, projection: Projection, channels: dict[int, Channel]) -> None:
        done = dict.fromkeys(channels, 0)
        flushed_at = time.monotonic()
        while not self._stop.is_set():
            took = sum(self._take(projection, p, channel, done) for p, channel in channels.items())
            now = time.monotonic()
            if not took or projection.size > FLUSH_ROWS or now - flushed_at > FLUSH_SECONDS:
                wrote = projection.flush()
                flushed_at = now
                if wrote:
                    self.positions = {p: part.position for p, part in enumerate(projection.parts)}
                if self._compare(done) or wrote:
                    self._changed()
            if not took:
                self._wake.wait(IDLE_SECONDS)
                self._wake.clear()

    def _take(self, projection: Projection, partition: int, channel: Channel, done: dict[int, int]) -> int:
        """Fold what has arrived; returns how many records that were."""
        if channel.fault is not None:
            raise KafkaException(channel.fault)
        reached = channel.reached
        messages: list[Message] = channel.take(TAKE_MAX)
        for message in messages:
            offset, key, value = offset_of(message), message.key() or b"", message.value() or b""
            projection.apply(partition, offset, key, value)
            if key:
                self.recent.keep(partition, offset, value)
        if len(messages) < TAKE_MAX:
            done[partition] = reached
        return len(messages)

    def _compare(self, done: dict[int, int]) -> bool:
        """Whether more is known of how fresh this is: which of the ends that were asked for is reached."""
        before = self._as_of
        while self._asked and all(done[p] >= end for p, end in self._asked[0].ends.items()):
            self._as_of = self._asked.popleft().asked_at
            if not self._caught_up:
                self._caught_up = True
                log.info("projection_caught_up", partitions=self.partitions)
        return self._as_of != before
