"""Announces the build of this API: it folds the log, so an upgrade is not finalised while it is of an older build."""

from __future__ import annotations

import os
import socket
import threading

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.patience import QUIET
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.core.identity import partition_for
from ftjm.core.records.levels import LEVEL
from ftjm.core.records.messages import MemberVersion
from ftjm.core.state.model import STATE_VERSION
from ftjm.runtime import logs
from ftjm.runtime.config import Settings
from ftjm.runtime.version import __version__

log = logs.get(__name__)

ANNOUNCE_SECONDS = 3.0
"""Time between two announcements. A member that was silent for 15 s is not counted."""
CONNECT_SECONDS = 2.0
CLOSE_SECONDS = 1.0


class Announcer:
    """A thread that announces this API until it is stopped; the last announcement reports that the API leaves."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = QUIET | settings.kafka_settings("api")
        self._topic = settings.topic("heartbeats")
        self._name = f"api@{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Announce that the API leaves, and wait for the thread's end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        throttle = logs.Throttle()
        while not self._stop.is_set():
            producer = ConfirmingProducer(self._kafka, stopping=self._stop.is_set)
            try:
                self._announce_until_stopped(producer)
            except LogError as error:
                if throttle.due():
                    log.warning("announcement_failed", error=str(error), todo="waiting, and trying again")
                self._stop.wait(ANNOUNCE_SECONDS)
            finally:
                producer.close(CLOSE_SECONDS)

    def _announce_until_stopped(self, producer: ConfirmingProducer) -> None:
        lane = partition_for(self._name, producer.warm(self._topic, CONNECT_SECONDS))
        leaving = False
        while not leaving:
            leaving = self._stop.wait(0)
            version = MemberVersion(
                member=self._name,
                name=self._name,
                role="api",
                release=__version__,
                level=LEVEL,
                state_version=STATE_VERSION,
                leaving=leaving,
            )
            producer.send(self._topic, codec.encode(version), partition=lane, key=self._name.encode())
            self._stop.wait(ANNOUNCE_SECONDS)
