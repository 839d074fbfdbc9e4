"""Asking a worker from afar to finish what it runs, and to leave."""

from __future__ import annotations

import time
from collections.abc import Callable

from ftjm.adapters import codec
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.config import Settings
from ftjm.core.identity import partition_for
from ftjm.core.messages import DrainWorker, SessionState
from ftjm.errors import FtjmError
from ftjm.heard import SILENT, Heard, Worker, hear, listen_back
from ftjm.patience import QUIET, patiently

ASK_AGAIN_SECONDS = 2.0
ANSWER_SECONDS = 20.0
"""A worker that hears us says so with its next heartbeat, at once."""
PATIENCE_SECONDS = 15.0


def drain(
    settings: Settings,
    name: str,
    actor: str,
    *,
    wait_seconds: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> list[Worker]:
    """Ask until the worker says that it takes nothing new; then wait until it has left, for at most `wait_seconds`.

    The wish is repeated, and harmless when it is: only a signal stops what runs. Returns its sessions as heard last;
    of a worker that has left by now, the last one.

    Raises FtjmError where there is no such worker, or it does not answer; Unreachable.
    """
    heard, lanes = listen_back(settings)
    wanted = {one.heartbeat.session for one in heard.present() if one.heartbeat.worker == name and one.state != SILENT}
    if not wanted:
        left = [one for one in heard.workers.values() if one.heartbeat.worker == name and one.state != SILENT]
        if left:
            return [min(left, key=lambda one: one.silent_ms)]
        todo = "see `ftjm worker list`; one that cannot reach Kafka can only be told on its own host, by SIGTERM"
        raise FtjmError(f"a worker {name}", "none of that name that was heard lately", todo)
    kafka = QUIET | settings.kafka_settings("drain")
    topic = settings.topic("heartbeats")
    reader = patiently(lambda: LaneReader(kafka, topic, range(lanes)), settings, PATIENCE_SECONDS)
    outlet = Outlet(kafka)
    try:
        wish = codec.encode(DrainWorker(worker=name, actor=actor))
        deadline, ask_at = time.monotonic() + ANSWER_SECONDS, 0.0
        while not all(_obeys(heard, session) for session in wanted):
            if time.monotonic() > deadline:
                todo = "stop it on its own host, by SIGTERM"
                raise FtjmError(f"worker {name} to drain", f"no such word from it in {ANSWER_SECONDS:g} s", todo)
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + ASK_AGAIN_SECONDS
                outlet.send(topic, wish, partition=partition_for(name, lanes), key=name.encode())
            _listen(reader, heard)
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline and not all(_left(heard, session) for session in wanted):
            _listen(reader, heard)
            if progress:
                progress(sum(heard.workers[session].heartbeat.busy for session in wanted))
    finally:
        outlet.close(1.0)
        reader.close()
    return [heard.workers[session] for session in sorted(wanted)]


def _listen(reader: LaneReader, heard: Heard) -> None:
    for message in reader.read(0.2):
        hear(heard, message.value() or b"", 0)


def _obeys(heard: Heard, session: str) -> bool:
    return heard.workers[session].state != SessionState.OPEN


def _left(heard: Heard, session: str) -> bool:
    return heard.workers[session].state in (SessionState.CLOSED, SILENT)
