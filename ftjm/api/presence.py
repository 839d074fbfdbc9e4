"""Who was heard lately: workers and schedulers by their heartbeats. Not truth, and gone with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from ftjm import logs
from ftjm.adapters import codec
from ftjm.adapters.kafka_ends import Observer
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.config import Settings
from ftjm.core.errors import UndecodableError
from ftjm.core.messages import SchedulerHeartbeat, SessionState, WorkerHeartbeat
from ftjm.engine.liveness import plausible
from ftjm.patience import QUIET, patiently

log = logs.get(__name__)

SCHEDULER_SECONDS = 5.0
"""A scheduler that said nothing for this long is not counted as there: it says something every second."""
KEEP_SECONDS = 60.0
"""How long one that fell silent, or left, is still shown."""
SETTLED_SECONDS = 2.5
"""After this much listening, who is there has been heard."""
HEARD_MAX = 10_000
CONNECT_SECONDS = 5.0


class HeardWorker(NamedTuple):
    """A worker session, and how long it has been silent."""

    heartbeat: WorkerHeartbeat
    silent_ms: int

    @property
    def alive(self) -> bool:
        """Whether it may be given work: neither silent for its lease, nor leaving."""
        return self.silent_ms < self.heartbeat.lease_ms and self.heartbeat.state is SessionState.OPEN


class HeardScheduler(NamedTuple):
    """A scheduler process, and how long it has been silent."""

    heartbeat: SchedulerHeartbeat
    silent_ms: int

    @property
    def alive(self) -> bool:
        return self.silent_ms < SCHEDULER_SECONDS * 1000


Heartbeat = TypeVar("Heartbeat", WorkerHeartbeat, SchedulerHeartbeat)


class Presence:
    """What heartbeats told, with the time at which each was heard."""

    def __init__(self) -> None:
        self._workers: dict[str, tuple[WorkerHeartbeat, float]] = {}
        self._schedulers: dict[str, tuple[SchedulerHeartbeat, float]] = {}

    def hear(self, value: bytes, at: float) -> None:
        """Take in one record of the topic `heartbeats`, heard at `at` on the monotonic clock."""
        try:
            heartbeat = codec.decode(value)
        except UndecodableError:
            return
        if isinstance(heartbeat, WorkerHeartbeat) and plausible(heartbeat):
            _put(self._workers, heartbeat.session, heartbeat, at)
        elif isinstance(heartbeat, SchedulerHeartbeat):
            _put(self._schedulers, heartbeat.instance, heartbeat, at)

    def workers(self) -> list[HeardWorker]:
        """Sessions by the name of their worker; those that left a while ago are not told of."""
        found = [HeardWorker(h, ms) for h, ms in _recent(self._workers) if h.state is not SessionState.CLOSED]
        return sorted(found, key=lambda heard: (heard.heartbeat.worker, heard.heartbeat.session))

    def schedulers(self) -> list[HeardScheduler]:
        """Scheduler processes by their names."""
        found = [HeardScheduler(heartbeat, ms) for heartbeat, ms in _recent(self._schedulers)]
        return sorted(found, key=lambda heard: heard.heartbeat.instance)


def _put(heard: dict[str, tuple[Heartbeat, float]], name: str, heartbeat: Heartbeat, at: float) -> None:
    heard.pop(name, None)  # so that the dictionary is in the order of hearing
    heard[name] = (heartbeat, at)
    if len(heard) > HEARD_MAX:
        del heard[next(iter(heard))]


def _recent(heard: dict[str, tuple[Heartbeat, float]]) -> Iterable[tuple[Heartbeat, int]]:
    now = time.monotonic()
    for heartbeat, at in list(heard.values()):
        if now - at < KEEP_SECONDS:
            yield heartbeat, int((now - at) * 1000)


class Listener:
    """Keeps a `Presence` true, on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self.presence = Presence()
        self._settings = settings
        self._stop = threading.Event()
        self._since = 0.0
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def settles_in_seconds(self) -> float:
        """How much longer to listen until everyone who is there has been heard."""
        return max(0.0, self._since + SETTLED_SECONDS - time.monotonic()) if self._since else SETTLED_SECONDS

    def _run(self) -> None:
        reader: LaneReader | None = None
        seldom = logs.Seldom()
        while not self._stop.is_set():
            try:
                if reader is None:
                    reader = patiently(self._open, self._settings, CONNECT_SECONDS)
                    self._since = time.monotonic()
                for message in reader.read(0.2):
                    self.presence.hear(message.value() or b"", time.monotonic())
            except Exception as error:  # noqa: BLE001  (what is heard here is only told, and hearing goes on)
                if seldom.due():
                    log.warning("heartbeats_unreadable", error=str(error), todo="waiting, and trying again")
                self._stop.wait(1.0)
        if reader is not None:
            reader.close()

    def _open(self) -> LaneReader:
        kafka, topic = QUIET | self._settings.kafka_settings("api"), self._settings.topic("heartbeats")
        _, lanes = Observer(kafka).topic(topic)
        return LaneReader(kafka, topic, range(lanes))
