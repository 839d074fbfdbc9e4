"""A worker whose attempts are over at once: the real rules, wire and lease, with no process behind a job."""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

from ftjm import logs
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.clock import wall_ms
from ftjm.config import Settings
from ftjm.worker.inbox import Asked, Inbox
from ftjm.worker.kafka_wire import KafkaWire, discover
from ftjm.worker.life import Life
from ftjm.worker.protocol import Ended, Frame, Ping, Pong, Start
from ftjm.worker.session import Identity
from ftjm.worker.supervisor import Supervisor


class InstantGuard:
    """Stands for the guard: answers each `Start` by an `Ended` whose result is the time, ns since the epoch."""

    wants_write = False

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._frames: list[Frame] = []
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self.fileno = self._ours.fileno

    def send(self, frame: Frame) -> None:
        """Take a frame; what it leads to is there at once."""
        if isinstance(frame, Start):
            now = wall_ms()
            self._answer(Ended(key=frame.key, started_at=now, ended_at=now, result=b"%d" % time.time_ns()))
        elif isinstance(frame, Ping):
            self._answer(Pong())

    def _answer(self, frame: Frame) -> None:
        self._frames.append(frame)
        with suppress(BlockingIOError):  # full means that its reader is awake already
            self._theirs.send(b"\0")

    def flush(self) -> None:
        """Nothing is ever kept back."""

    def receive(self) -> list[Frame]:
        """What there is to say."""
        with suppress(BlockingIOError):
            while self._ours.recv(4096):
                pass
        frames, self._frames = self._frames, []
        return frames

    def kill(self) -> bool:
        """Nothing runs."""
        self.leave()
        return True

    def leave(self) -> None:
        """Close both ends."""
        self._ours.close()
        self._theirs.close()


def run(settings: Settings, *, queues: Sequence[str], slots: int, name: str) -> int:
    """Run such a worker until SIGTERM. Returns its exit status."""
    logs.configure("json", "info")
    inbox = Inbox()
    signal.signal(signal.SIGTERM, lambda *_: inbox.put(Asked()))
    kafka = settings.kafka_settings(f"worker-{name}")
    outlet = Outlet(kafka)
    topics = discover(outlet, settings.topic, lambda: True)
    assert topics is not None
    identity = Identity(
        worker=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        slots=slots,
        queues=tuple(queues),
        partitions=topics.partitions,
        lanes=topics.lanes,
        lease_ms=int(settings.lease_seconds * 1000),
    )
    life = Life(identity, lambda: f"{name}.{uuid.uuid4().hex}")
    wire = KafkaWire(kafka, topics, outlet, inbox, settings.lease_seconds)
    return Supervisor(life, wire, inbox, InstantGuard, lambda _: None).run()
