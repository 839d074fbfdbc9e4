"""The workers and schedulers that are alive now, by their heartbeats.

Every worker session and every scheduler writes a heartbeat to the topic `heartbeats` about once a second. Presence is
the newest heartbeat of each, with the time at which it was received. It is a picture and no truth: nothing is decided
by it, it is kept in memory only, and a process that died is shown as silent for a minute.

There are two ways to fill a `Presence`. A process that runs on, such as the API, has a `PresenceListener`, which reads
the topic as it grows. A command that runs once calls `read_presence`, which reads the topic's last minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.offsets import Observer
from ftjm.adapters.kafka.patience import QUIET, open_scan, patiently
from ftjm.core.bounds import confine
from ftjm.core.errors import UndecodableError
from ftjm.core.records.messages import QueueDemand, SchedulerHeartbeat, SessionState, WorkerHeartbeat
from ftjm.runtime import logs
from ftjm.runtime.clock import wall_ms
from ftjm.runtime.config import Settings

log = logs.get(__name__)

SCHEDULER_SECONDS = 5.0
"""A scheduler that was silent for this long counts as gone: it sends a heartbeat every second."""
KEEP_SECONDS = 60.0
"""How long a process that fell silent, or has left, is still shown."""
SETTLE_SECONDS = 2.5
"""After listening for this long, a heartbeat of every live process has arrived."""
PROCESSES_MAX = 10_000
"""Heartbeats that are kept of each kind; the ones received longest ago are dropped first."""
CONNECT_SECONDS = 5.0
READ_SECONDS = 0.5
"""A listener notices within this time that it should stop."""
OWNER = "owner"
"""Role of the scheduler that decides about a partition, as heartbeats name it."""
SILENT = "SILENT"
"""State of a session without a heartbeat for its lease; the other states are those of `SessionState`."""


# Same name as ftjm.worker.rules.session.WorkerSession: the same session, as its heartbeats report it to a reader.
class WorkerSession(NamedTuple):
    """A worker session's newest heartbeat, and how long ago it was received."""

    heartbeat: WorkerHeartbeat
    silent_ms: int

    @property
    def within_lease(self) -> bool:
        """Whether the newest heartbeat is younger than the session's lease."""
        return self.silent_ms < self.heartbeat.lease_ms

    @property
    def alive(self) -> bool:
        """Whether the session takes new jobs: it is within its lease, and neither draining nor closed."""
        return self.within_lease and self.heartbeat.state is SessionState.OPEN

    @property
    def state(self) -> str:
        """OPEN, DRAINING, CLOSED or SILENT."""
        left = self.heartbeat.state is SessionState.CLOSED
        return self.heartbeat.state.value if left or self.within_lease else SILENT


class SchedulerProcess(NamedTuple):
    """A scheduler's newest heartbeat, and how long ago it was received."""

    heartbeat: SchedulerHeartbeat
    silent_ms: int

    @property
    def alive(self) -> bool:
        """Whether the newest heartbeat is younger than `SCHEDULER_SECONDS`."""
        return self.silent_ms < SCHEDULER_SECONDS * 1000


class OwnerReport(NamedTuple):
    """The scheduler that reports to own a partition, and what it reports of the partition's queues."""

    scheduler: str
    demand: list[QueueDemand]
    silent_ms: int = 0
    """Age of the report, ms."""


Heartbeat = TypeVar("Heartbeat", WorkerHeartbeat, SchedulerHeartbeat)


class Presence:
    """The newest heartbeat of each worker session and scheduler. One thread writes, any thread reads."""

    def __init__(self) -> None:
        self._workers: dict[str, tuple[WorkerHeartbeat, float]] = {}
        self._schedulers: dict[str, tuple[SchedulerHeartbeat, float]] = {}

    def receive(self, value: bytes, received_at: float) -> None:
        """Take in one record of the topic `heartbeats`. Other records of the topic are ignored, and so
        are those with a value out of its bounds.

        Args:
            value: the record's value; records of one process must come in their order.
            received_at: seconds of the monotonic clock.
        """
        try:
            heartbeat = codec.decode(value)
        except UndecodableError:
            return
        if confine(heartbeat):
            return
        if isinstance(heartbeat, WorkerHeartbeat):
            _put(self._workers, heartbeat.session, heartbeat, received_at)
        elif isinstance(heartbeat, SchedulerHeartbeat):
            _put(self._schedulers, heartbeat.instance, heartbeat, received_at)

    def session(self, name: str) -> WorkerSession:
        """The worker session of this name, however long it is silent. Raises KeyError."""
        heartbeat, received_at = self._workers[name]
        return WorkerSession(heartbeat, _ms_since(received_at))

    def sessions(self) -> list[WorkerSession]:
        """All worker sessions of the last minute, in the order of their newest heartbeats; closed ones, too."""
        return [WorkerSession(heartbeat, ms) for heartbeat, ms in _recent(self._workers)]

    def workers(self) -> list[WorkerSession]:
        """The newest session of each worker process that has not left, by the worker's name."""
        newest: dict[tuple[str, str, int], WorkerSession] = {}
        for session in self.sessions():
            heartbeat = session.heartbeat
            newest[heartbeat.worker, heartbeat.host, heartbeat.pid] = session
        return [newest[key] for key in sorted(newest) if newest[key].heartbeat.state is not SessionState.CLOSED]

    def cordoned(self) -> frozenset[str]:
        """Names of the workers that are cordoned, as owners report them."""
        reports = (report for one in self.live_schedulers() for report in one.heartbeat.partitions)
        return frozenset(name for report in reports if report.role == OWNER for name in report.cordoned)

    def schedulers(self) -> list[SchedulerProcess]:
        """All schedulers of the last minute, by name."""
        found = [SchedulerProcess(heartbeat, ms) for heartbeat, ms in _recent(self._schedulers)]
        return sorted(found, key=lambda scheduler: scheduler.heartbeat.instance)

    def live_schedulers(self) -> list[SchedulerProcess]:
        """The schedulers that sent a heartbeat in the last `SCHEDULER_SECONDS`, by name."""
        return [scheduler for scheduler in self.schedulers() if scheduler.alive]

    def owners(self) -> dict[int, OwnerReport]:
        """The owner of each partition that has a live one. Of two that claim it, the one of the newer epoch."""
        found: dict[int, tuple[int, OwnerReport]] = {}
        for scheduler in self.live_schedulers():
            for report in scheduler.heartbeat.partitions:
                if report.role == OWNER and report.owner_epoch >= found.get(report.partition, (0,))[0]:
                    owner = OwnerReport(scheduler.heartbeat.instance, report.demand, scheduler.silent_ms)
                    found[report.partition] = (report.owner_epoch, owner)
        return {partition: owner for partition, (_, owner) in found.items()}


def _put(known: dict[str, tuple[Heartbeat, float]], name: str, heartbeat: Heartbeat, received_at: float) -> None:
    known.pop(name, None)  # so that the dictionary keeps the order in which heartbeats were received
    known[name] = (heartbeat, received_at)
    if len(known) > PROCESSES_MAX:
        del known[next(iter(known))]


def _recent(known: dict[str, tuple[Heartbeat, float]]) -> Iterable[tuple[Heartbeat, int]]:
    for heartbeat, received_at in sorted(known.values(), key=lambda pair: pair[1]):
        silent_ms = _ms_since(received_at)
        if silent_ms < KEEP_SECONDS * 1000:
            yield heartbeat, silent_ms


def _ms_since(received_at: float) -> int:
    return max(0, int((time.monotonic() - received_at) * 1000))


def read_presence(settings: Settings) -> tuple[Presence, int]:
    """Read the heartbeats of the last minute.

    Returns:
        The presence, and the number of lanes (partitions) of the topic `heartbeats`.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: the cluster has no topic `heartbeats`.
    """
    presence = Presence()
    now_ms, now = wall_ms(), time.monotonic()
    with open_scan(settings, "heartbeats", committed=False) as scan:
        since = int(now_ms - KEEP_SECONDS * 1000)
        for record in scan.read({lane: scan.offset_at(lane, since) for lane in range(scan.partitions)}):
            presence.receive(record.value, now - max(0, now_ms - record.time_ms) / 1000)
        return presence, scan.partitions


class PresenceListener:
    """Keeps a `Presence` up to date, on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self.presence = Presence()
        self._settings = settings
        self._stop = threading.Event()
        self._since = 0.0
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Start the thread. It waits for a Kafka that does not answer, so this call does not."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait for its end."""
        self._stop.set()
        self._thread.join()

    @property
    def settles_in_seconds(self) -> float:
        """How much longer to listen until a heartbeat of every process that is there has arrived."""
        return max(0.0, self._since + SETTLE_SECONDS - time.monotonic()) if self._since else SETTLE_SECONDS

    def _run(self) -> None:
        reader: LaneReader | None = None
        throttle = logs.Throttle()
        while not self._stop.is_set():
            try:
                if reader is None:
                    reader = patiently(self._open, self._settings, CONNECT_SECONDS)
                    self._since = time.monotonic()
                for record in reader.read(READ_SECONDS):
                    self.presence.receive(record.value, time.monotonic())
            except Exception as error:  # noqa: BLE001  (presence is only shown: after any failure, listening continues)
                if throttle.due():
                    log.warning("heartbeats_unreadable", error=str(error), todo="waiting, and trying again")
                self._stop.wait(1.0)
        if reader is not None:
            reader.close()

    def _open(self) -> LaneReader:
        kafka, topic = QUIET | self._settings.kafka_settings("api"), self._settings.topic("heartbeats")
        _, lanes = Observer(kafka).topic(topic)
        return LaneReader(kafka, topic, range(lanes), unhurried=True)
