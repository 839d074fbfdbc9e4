"""Heartbeats, both ways: what is heard of workers and schedulers, and what this instance tells of itself."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message

from ftjm import logs
from ftjm.adapters import codec
from ftjm.adapters.kafka import offset_of
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.clock import boot_ms, wall_ms
from ftjm.core.errors import UndecodableError
from ftjm.core.identity import partition_for
from ftjm.core.messages import SchedulerHeartbeat, TakeSnapshot, WorkerHeartbeat
from ftjm.engine.liveness import plausible
from ftjm.scheduler.context import Context
from ftjm.scheduler.inside import Inside
from ftjm.scheduler.neighbours import Neighbours
from ftjm.scheduler.runner import Runner

log = logs.get(__name__)

HEARTBEAT_SECONDS = 1.0
HEARTBEAT_SECONDS_MIN = 0.02
"""Between two heartbeats that tell of changes."""
BACK_MS = 2_000
"""So far back heartbeats are read at the start: whoever is there has said so since."""
STALE_MS = 60_000
"""What was told so long ago, and a lease, is told no more: leaders' clocks differ by much less."""
PLACE_SECONDS = 0.25
FAULT_SECONDS = 0.5
"""Before hearing is tried again."""
MARK_SECONDS = 1.0
"""A mark that was not read by then is followed by another."""
MARK = codec.encode(TakeSnapshot(partitions=[]))
"""A wish for nothing: who hears it has nothing to do."""


@dataclass
class Marks:
    """One in each lane."""

    now: int
    """When they were sent, by the clock of leases."""
    at: float
    """The same, by the monotonic clock."""
    ends: dict[int, int] = field(default_factory=dict)
    """How far each lane goes with its mark, where the log has it."""
    read_by: float = 0.0
    """When they should have been read, monotonic clock; 0 before the log has all."""


class Heartbeats:
    """Two threads, until the process stops; the last heartbeat says so."""

    def __init__(
        self,
        context: Context,
        runners: Mapping[int, Runner],
        neighbours: Neighbours,
        inside: Inside,
        port: int,
        passive: Callable[[], bool],
    ) -> None:
        """`port` is that of the process's inspection. Raises KafkaException where no broker answers."""
        self._context = context
        self._runners = runners
        self._neighbours = neighbours
        self._inside = inside
        self._port = port
        self._passive = passive
        self._topic = context.settings.topic("heartbeats")
        self._seldom_undecodable = logs.Seldom()
        self._lanes = context.outlet.warm(self._topic)
        kafka = context.settings.kafka_settings(context.instance.partition("@")[0])
        self._reader = LaneReader(kafka, self._topic, range(self._lanes), back_ms=BACK_MS, whole=True)
        self._marks: Marks | None = None
        self._marked: dict[int, tuple[int, int]] = {}
        """Of each lane, when its log had taken the newest mark, by our clock of leases and by its own."""
        self._threads = [
            threading.Thread(target=self._listen, name="listener", daemon=True),
            threading.Thread(target=self._tell, name="teller", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait for the last heartbeat, once the process stops."""
        self._context.changed.set()
        for thread in self._threads:
            thread.join()
        self._reader.close()

    def _listen(self) -> None:
        """Read all lanes of heartbeats: workers' for the leases and offers, schedulers' to know of each other."""
        liveness, placed_at, seldom = self._context.liveness, 0.0, logs.Seldom()
        while not self._context.stopping.is_set():
            try:
                self._hear(self._reader.read(0.05))
                liveness.tick(boot_ms())
                if time.monotonic() - placed_at > PLACE_SECONDS:
                    placed_at = time.monotonic()
                    self._neighbours.place()
                self._confirm()
            except KafkaException as error:
                if seldom.due():
                    log.warning("heartbeats_unreadable", error=str(error.args[0]), todo="waiting, and trying again")
                self._context.stopping.wait(FAULT_SECONDS)
            except Exception:  # without this thread no lease would ever end, and no worker get work
                log.exception("listener_failed", todo="report it; it goes on")
                self._context.stopping.wait(FAULT_SECONDS)

    def _confirm(self) -> None:
        """Put a mark into each lane, and once all were read back, silence is known, and not only assumed.

        A mark that is acknowledged lies behind all that was, whereas an end that is asked for may be told by a leader
        that was, and does not know it yet. Between what was read and the mark, nothing that the lane still has may be
        passed over: whoever has said something there is not silent.
        """
        marks, liveness = self._marks, self._context.liveness
        if marks is None:
            if liveness.suspects(boot_ms()):
                self._mark()
        elif len(marks.ends) == self._lanes:
            marks.read_by = marks.read_by or time.monotonic() + MARK_SECONDS
            if self._reader.reached(marks.ends):
                liveness.confirm(marks.now)
                self._neighbours.confirm(marks.at)
                self._marks = None
            elif time.monotonic() > marks.read_by:
                self._mark()

    def _mark(self) -> None:
        marks = self._marks = Marks(boot_ms(), time.monotonic())

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                lane = message.partition() or 0
                marks.ends[lane] = offset_of(message) + 1
                self._marked[lane] = (boot_ms(), message.timestamp()[1])
            elif self._marks is marks:
                self._marks = None  # refused: others are sent

        try:
            for lane in range(self._lanes):
                self._context.outlet.send(self._topic, MARK, partition=lane, delivered=delivered)
        except BaseException:
            self._marks = None
            raise

    def _hear(self, messages: Iterable[Message]) -> None:
        before = self._context.liveness.changed
        for message in messages:
            try:
                heartbeat = codec.decode(message.value() or b"")
            except UndecodableError as error:  # of a newer version, mostly, while a cluster is upgraded: one a second
                if self._seldom_undecodable.due():
                    log.warning("heartbeat_undecodable", error=str(error), offset=message.offset())
                continue
            if isinstance(heartbeat, WorkerHeartbeat) and plausible(heartbeat):
                # A lane that was read from its beginning has those of sessions that are long gone, too.
                if self._age_ms(message) < heartbeat.lease_ms + STALE_MS:
                    self._context.liveness.heard(heartbeat, boot_ms())
            elif isinstance(heartbeat, SchedulerHeartbeat):
                age_ms = wall_ms() - (self._context.clock.error_ms or 0) - message.timestamp()[1]
                # It is of use at the start, for what was read back: whoever told that may have died since.
                self._neighbours.hear(heartbeat, min(max(0, age_ms), BACK_MS))
                self._inside.heard(heartbeat)
            elif isinstance(heartbeat, TakeSnapshot) and self._age_ms(message) < STALE_MS:
                self._context.wishes |= dict.fromkeys(heartbeat.partitions, heartbeat.full)
        if self._context.liveness.changed != before:
            for runner in self._runners.values():
                runner.wake()

    def _age_ms(self, message: Message) -> int:
        """How long ago it was told, by the clock of its lane alone, which our own marks show; 0 before the first."""
        now = boot_ms()
        at, time_ms = self._marked.get(message.partition() or 0, (now, 0))
        return now - at + time_ms - message.timestamp()[1] if time_ms else 0

    def _tell(self) -> None:
        """Tell the others of this process: every second, and soon after something changed."""
        context = self._context
        lane = partition_for(context.instance, self._lanes)
        while True:
            last = context.stopping.is_set()
            context.changed.clear()
            heartbeat = SchedulerHeartbeat(
                instance=context.instance,
                host=socket.gethostname(),
                pid=os.getpid(),
                port=self._port,
                partitions=[runner.report for runner in self._runners.values()],
                lifeline=self._neighbours.lifeline,
                passive=self._passive(),
                leaving=last or context.leaving.is_set(),
            )
            try:
                context.outlet.send(
                    self._topic,
                    codec.encode(heartbeat),
                    partition=lane,
                    key=context.instance.encode(),
                    delivered=self._compare_clocks,
                )
            except Exception:  # one that cannot be told must not be the last
                log.exception("heartbeat_failed", todo="report it; it is tried again")
            if last:
                return
            context.stopping.wait(HEARTBEAT_SECONDS_MIN)
            context.changed.wait(HEARTBEAT_SECONDS)

    def _compare_clocks(self, error: KafkaError | None, message: Message) -> None:
        """The broker's time of a heartbeat's append is between its sending and now."""
        if error is None:
            self._inside.told()
            known = self._context.clock.error_ms is not None
            self._context.clock.compare(message.timestamp()[1], int((message.latency() or 0.0) * 1000))
            if not known:
                for runner in self._runners.values():
                    runner.wake()
