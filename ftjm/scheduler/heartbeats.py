"""Heartbeats: reads those of workers and schedulers, and sends those of this instance.

A lease must not end because a heartbeat waits unread in its lane. So before a session or an instance counts as silent,
this instance writes a mark into every lane, and reads up to the marks: then it has read every heartbeat that was sent
before them.

`ftjm/engine/liveness.py` says what a late heartbeat means for a worker's session.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.records import Receipt, Record
from ftjm.core.bounds import confine
from ftjm.core.errors import UndecodableError
from ftjm.core.identity import partition_for
from ftjm.core.records.levels import LEVEL
from ftjm.core.records.messages import (
    FinalizeUpgrade,
    MemberVersion,
    PartitionVersion,
    SchedulerHeartbeat,
    TakeSnapshot,
    WorkerHeartbeat,
)
from ftjm.core.state.model import STATE_VERSION
from ftjm.engine.liveness import CONFIRM_EVERY_MS, CONFIRM_SELDOM_MS
from ftjm.engine.member_versions import ANNOUNCE_MS, SCHEDULER, WORKER
from ftjm.runtime import logs
from ftjm.runtime.clock import boot_ms, wall_ms
from ftjm.runtime.version import __version__
from ftjm.scheduler.context import Context
from ftjm.scheduler.lane_marks import LaneMarks
from ftjm.scheduler.partition_runner import Runner
from ftjm.scheduler.standby_placement import StandbyPlacement
from ftjm.scheduler.status import SchedulerStatus

log = logs.get(__name__)

HEARTBEAT_SECONDS = 1.0
"""Pause between two heartbeats while nothing changes."""
HEARTBEAT_SECONDS_MIN = 0.02
"""Least pause between two heartbeats."""
READ_BACK_MS = 2_000
"""At its start the process reads the heartbeats of this time. Every living process has sent one in it."""
STALE_MS = 60_000
"""Requests that are older are ignored, and workers' heartbeats that are older than this plus their lease."""
PLACE_SECONDS = 0.25
"""Pause between two decisions on which partitions this instance stands by for."""
FAULT_SECONDS = 0.5
"""Pause after an error, before heartbeats are read again."""
MARKS_SECONDS = 0.05
"""Pause between two looks at whether the marks were read."""


class Heartbeats:
    """Two threads that read and send heartbeats until the process stops. The last heartbeat says that it leaves."""

    def __init__(
        self,
        context: Context,
        runners: Mapping[int, Runner],
        placement: StandbyPlacement,
        status: SchedulerStatus,
        port: int,
        passive: Callable[[], bool],
    ) -> None:
        """Connect. The threads begin with `start`.

        Args:
            context: what the partitions of the process share.
            runners: the runner of each partition, whose reports the heartbeats carry.
            placement: receives the heartbeats of schedulers.
            status: the state of this process, for `/metrics` and `/readyz`.
            port: port of this process's metrics server.
            passive: whether this instance is a passive standby.

        Raises:
            LogError: Kafka does not answer.
        """
        self._context = context
        self._runners = runners
        self._placement = placement
        self._status = status
        self._port = port
        self._passive = passive
        self._topic = context.settings.topic("heartbeats")
        self._undecodable_throttle = logs.Throttle()
        self._refused_throttle = logs.Throttle()
        self._announced_at = -ANNOUNCE_MS
        self._lanes = context.producer.warm(self._topic)
        kafka = context.settings.kafka_settings(context.instance.partition("@")[0])
        self._reader = LaneReader(kafka, self._topic, range(self._lanes), back_ms=READ_BACK_MS, whole=True)
        self._marks = LaneMarks(context.producer, self._topic, self._lanes, self._reader)
        self._threads = [
            threading.Thread(target=self._read_all, name="heartbeat-reader", daemon=True),
            threading.Thread(target=self._send_all, name="heartbeat-sender", daemon=True),
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait until the last heartbeat is sent and both threads have ended. The process must be stopping."""
        self._context.heartbeat_due.set()
        for thread in self._threads:
            thread.join()
        self._reader.close()

    def _read_all(self) -> None:
        """Read heartbeats until the process stops: leases and offers of workers, and the state of other schedulers."""
        liveness, placed_at, throttle = self._context.liveness, 0.0, logs.Throttle()
        while not self._context.stopping.is_set():
            try:
                self._receive(self._reader.read(self._seconds_until_due(placed_at)))
                liveness.tick(boot_ms())
                if time.monotonic() - placed_at > PLACE_SECONDS:
                    placed_at = time.monotonic()
                    self._placement.place()
                    self._context.agreed_members = self._context.members.agreed(boot_ms())
                self._confirm_silence()
            except LogError as error:
                if throttle.due():
                    log.warning("heartbeats_unreadable", error=str(error), todo="trying again")
                self._context.stopping.wait(FAULT_SECONDS)
            except Exception:  # without this thread no lease would ever end, and no worker would get work
                log.exception("heartbeat_reader_failed", todo="report this; reading heartbeats continues")
                self._context.stopping.wait(FAULT_SECONDS)

    def _seconds_until_due(self, placed_at: float) -> float:
        """For how long nothing is to be done unless a heartbeat arrives."""
        if self._marks.are_under_way:
            return MARKS_SECONDS
        return max(MARKS_SECONDS, min(self._marks_due_in_ms() / 1000, placed_at + PLACE_SECONDS - time.monotonic()))

    def _marks_due_in_ms(self) -> int:
        """After how many ms marks are needed, if no heartbeat arrives until then.

        Marks are records in all lanes, and all processes read them. So they are sent when a session may be silent; at
        first, and when an age seems wrong, because the ages of heartbeats are measured by them; and every second by a
        passive standby, which has to know whether it is alone.
        """
        if not self._marks.are_in_all_lanes:
            return 0
        pause_ms = CONFIRM_EVERY_MS if self._passive() or self._marks.saw_unusual_age else CONFIRM_SELDOM_MS
        return self._context.liveness.suspects_in_ms(boot_ms(), pause_ms)

    def _confirm_silence(self) -> None:
        """Send marks if they are due. Once all are read, the silence of sessions is certain."""
        if not self._marks.are_under_way:
            if not self._marks_due_in_ms():
                self._marks.send()
        elif (marks := self._marks.take_read()) is not None:
            if self._context.liveness.confirm(marks.sent_ms):
                self._wake(self._runners)
            self._placement.confirm(marks.sent_at)

    def _receive(self, records: Iterable[Record]) -> None:
        """Pass on the messages of these records, and wake the partitions if the offers of workers have changed."""
        before = self._context.liveness.changed
        for record in records:
            try:
                message = codec.decode(record.value)
            except UndecodableError as error:  # mostly of a newer build: while a cluster is upgraded, one a second
                if self._undecodable_throttle.due():
                    todo = "finish the upgrade if one is under way; the heartbeat is skipped"
                    log.warning("heartbeat_undecodable", error=str(error), offset=record.offset, todo=todo)
                continue
            if fault := self._fault(message):
                if self._refused_throttle.due():
                    todo = "if it is one of yours, give it a name or settings inside these bounds"
                    sender = record.key[:100].decode(errors="backslashreplace")
                    log.warning("heartbeat_refused", sender=sender, error=fault, offset=record.offset, todo=todo)
                continue
            age_ms = self._marks.age_ms(record)
            heard_at = boot_ms() - age_ms
            if isinstance(message, WorkerHeartbeat):
                # A lane that is read from its beginning also has heartbeats of sessions that ended long ago.
                if age_ms < message.lease_ms + STALE_MS:
                    self._context.liveness.receive(message, boot_ms())
                    self._context.members.receive_worker(message, heard_at)
            elif isinstance(message, SchedulerHeartbeat):
                silent_ms = wall_ms() - (self._context.clock.error_ms or 0) - record.time_ms
                # It matters for the heartbeats that are read back at the start: the sender may have died since.
                self._placement.receive(message, min(max(0, silent_ms), READ_BACK_MS))
                self._status.receive(message)
                self._context.members.receive_scheduler(message, heard_at)
            elif isinstance(message, MemberVersion):
                if self._context.members.receive_version(message, heard_at) and message.role == WORKER:
                    self._announced_at = -ANNOUNCE_MS  # it takes nothing ahead before it knows what is final here
                    self._context.heartbeat_due.set()
            elif age_ms >= STALE_MS:
                continue
            elif isinstance(message, FinalizeUpgrade):
                if (message.level, message.state_version) == (LEVEL, STATE_VERSION):
                    request = boot_ms(), message.actor
                    self._context.finalize_requests |= dict.fromkeys(message.partitions, request)
                    self._wake(message.partitions)
            elif isinstance(message, TakeSnapshot):
                self._context.snapshot_requests |= dict.fromkeys(message.partitions, message.full)
                self._wake(message.partitions)
        if self._context.liveness.changed != before:
            self._wake(self._runners)

    def _wake(self, partitions: Iterable[int]) -> None:
        for number in partitions:
            if number in self._runners:
                self._runners[number].wake()

    def _fault(self, heartbeat: Any) -> str:
        """Why a heartbeat must not be used: a value is out of its bounds; empty if it may be used."""
        if fault := confine(heartbeat):
            return fault
        if isinstance(heartbeat, WorkerHeartbeat) and heartbeat.lane >= self._context.lanes:
            return f"lane: expected one of {self._context.lanes} lanes, but found {heartbeat.lane}"
        return ""

    def _send_all(self) -> None:
        """Send a heartbeat every second, and soon after a change, until the process stops."""
        context = self._context
        lane = partition_for(context.instance, self._lanes)
        while True:
            last = context.stopping.is_set()
            context.heartbeat_due.clear()
            heartbeat = SchedulerHeartbeat(
                instance=context.instance,
                host=socket.gethostname(),
                pid=os.getpid(),
                port=self._port,
                partitions=[runner.report for runner in self._runners.values()],
                lifeline=self._placement.lifeline,
                passive=self._passive(),
                leaving=last or context.leaving.is_set(),
            )
            try:
                encoded = codec.encode(heartbeat)  # before both are sent, so that they travel together
                self._announce_version(lane, leaving=last)
                context.producer.send_for_receipt(
                    self._topic,
                    encoded,
                    partition=lane,
                    key=context.instance.encode(),
                    received=self._compare_clocks,
                )
            except Exception:  # without this thread the other schedulers would take this one for dead
                log.exception("heartbeat_failed", todo="report this; the next heartbeat is sent within a second")
            if last:
                return
            context.stopping.wait(HEARTBEAT_SECONDS_MIN)
            context.heartbeat_due.wait(HEARTBEAT_SECONDS)

    def _announce_version(self, lane: int, *, leaving: bool) -> None:
        """Announce the versions of this build once in `ANNOUNCE_MS`, and at once if it is `leaving`, or if there is
        a new worker."""
        if boot_ms() - self._announced_at < ANNOUNCE_MS and not leaving:
            return
        self._announced_at = boot_ms()
        announcement = MemberVersion(
            member=self._context.instance,
            name=self._context.instance,
            role=SCHEDULER,
            release=__version__,
            level=LEVEL,
            state_version=STATE_VERSION,
            leaving=leaving,
            partitions=[
                PartitionVersion(partition=number, level=final.level, state_version=final.state_version)
                for number, final in sorted(self._context.finalized.copy().items())
            ],
        )
        key = self._context.instance.encode()
        self._context.producer.send(self._topic, codec.encode(announcement), partition=lane, key=key)

    def _compare_clocks(self, receipt: Receipt | LogError) -> None:
        """Compare this host's clock with the broker's: the broker has appended the heartbeat since it was sent."""
        if isinstance(receipt, Receipt):
            self._status.note_heartbeat()
            known = self._context.clock.error_ms is not None
            self._context.clock.compare(receipt.time_ms, int(receipt.latency_seconds * 1000))
            if not known:
                self._wake(self._runners)
