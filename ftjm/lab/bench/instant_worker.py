"""A worker whose attempts end at once: it has the real rules, link to the log and lease, but starts no processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.runtime import logs
from ftjm.runtime.clock import wall_ms
from ftjm.runtime.config import Settings
from ftjm.worker.attempts.protocol import Ended, Frame, Ping, Pong, Start
from ftjm.worker.inbox import Inbox, LeaveRequested
from ftjm.worker.log_link import LogLink, discover
from ftjm.worker.process import make_rules
from ftjm.worker.supervisor import Supervisor


class InstantGuard:
    """Takes the place of the guard: answers each `Start` with an `Ended` whose result is the time, ns since the
    epoch."""

    wants_write = False

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._frames: list[Frame] = []
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self.fileno = self._ours.fileno

    def send(self, frame: Frame) -> None:
        """Take a frame. The answer can be received at once."""
        if isinstance(frame, Start):
            now = wall_ms()
            self._answer(Ended(key=frame.key, started_at=now, ended_at=now, result=b"%d" % time.time_ns()))
        elif isinstance(frame, Ping):
            self._answer(Pong())

    def _answer(self, frame: Frame) -> None:
        self._frames.append(frame)
        with suppress(BlockingIOError):  # a full pipe means that the reader has been woken already
            self._theirs.send(b"\0")

    def flush(self) -> None:
        """Do nothing: `send` keeps no frame back."""

    def receive(self) -> list[Frame]:
        """Return the frames that answer the frames so far."""
        with suppress(BlockingIOError):
            while self._ours.recv(4096):
                pass
        frames, self._frames = self._frames, []
        return frames

    def kill(self) -> bool:
        """Close the link. There is nothing to kill."""
        self.leave()
        return True

    def leave(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()


def run(settings: Settings, *, queues: Sequence[str], slots: int, name: str) -> int:
    """Run a worker with an instant guard until SIGTERM. Return its exit status."""
    logs.configure("json", "info")
    inbox = Inbox()
    signal.signal(signal.SIGTERM, lambda *_: inbox.put(LeaveRequested()))
    kafka = settings.kafka_settings(f"worker-{name}")
    producer = ConfirmingProducer(kafka)
    topics = discover(producer, settings.topic, lambda: True)
    assert topics is not None
    rules = make_rules(settings, topics, name=name, queues=queues, slots=slots)
    wire = LogLink(kafka, topics, producer, inbox, settings.lease_seconds)
    return Supervisor(rules, wire, inbox, lambda _delay: InstantGuard(), lambda _: None).run()
