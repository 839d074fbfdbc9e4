"""Requests a worker on another host to finish its attempts and to leave."""

from __future__ import annotations

import time
from collections.abc import Callable

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.patience import QUIET, patiently
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.core.identity import partition_for
from ftjm.core.records.messages import DrainWorker, SessionState
from ftjm.readmodel.presence import SILENT, Presence, WorkerSession, read_presence
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

ASK_AGAIN_SECONDS = 2.0
ANSWER_SECONDS = 20.0
"""How long to wait for the worker's answer. A worker that receives the request answers at once, with a heartbeat."""
PATIENCE_SECONDS = 15.0


def drain(
    settings: Settings,
    name: str,
    actor: str,
    *,
    wait_seconds: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> list[WorkerSession]:
    """Request a worker to drain until it reports that it takes no new attempt; then wait until it has left.

    The request is repeated, since a heartbeat lane does not guarantee delivery. A repetition does no harm: a drain
    stops no running attempt.

    Args:
        settings: The settings of the cluster.
        name: The worker's name; every session of this name is drained.
        actor: The user that requests it, as `user@host`.
        wait_seconds: How long to wait at most until the worker has left.
        progress: Called with the number of attempts that still run.

    Returns:
        The worker's sessions by their newest heartbeats; of a worker that has left already, its last session.

    Raises:
        FtjmError: There is no such worker, or it does not answer.
        Unreachable: Kafka does not answer.
    """
    presence, lanes = read_presence(settings)
    wanted = {
        one.heartbeat.session for one in presence.workers() if one.heartbeat.worker == name and one.state != SILENT
    }
    if not wanted:
        if named := [one for one in presence.sessions() if one.heartbeat.worker == name and one.state != SILENT]:
            return [min(named, key=lambda one: one.silent_ms)]
        todo = "see `ftjm worker list`; drain one that cannot reach Kafka on its own host, by SIGTERM"
        raise FtjmError(f"a worker {name}", "no recent heartbeat of that name", todo)
    kafka = QUIET | settings.kafka_settings("drain")
    topic = settings.topic("heartbeats")
    reader = patiently(lambda: LaneReader(kafka, topic, range(lanes)), settings, PATIENCE_SECONDS)
    producer = ConfirmingProducer(kafka)
    try:
        request = codec.encode(DrainWorker(worker=name, actor=actor))
        deadline, ask_at = time.monotonic() + ANSWER_SECONDS, 0.0
        while not all(_is_draining(presence, session) for session in wanted):
            if time.monotonic() > deadline:
                todo = "stop it on its own host, by SIGTERM"
                raise FtjmError(f"worker {name} to drain", f"no answer from it in {ANSWER_SECONDS:g} s", todo)
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + ASK_AGAIN_SECONDS
                producer.send(topic, request, partition=partition_for(name, lanes), key=name.encode())
            _listen(reader, presence)
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline and not all(_has_left(presence, session) for session in wanted):
            _listen(reader, presence)
            if progress:
                progress(sum(presence.session(session).heartbeat.busy for session in wanted))
    finally:
        producer.close(1.0)
        reader.close()
    return [presence.session(session) for session in sorted(wanted)]


def _listen(reader: LaneReader, presence: Presence) -> None:
    for record in reader.read(0.2):
        presence.receive(record.value, time.monotonic())


def _is_draining(presence: Presence, session: str) -> bool:
    return presence.session(session).heartbeat.state is not SessionState.OPEN


def _has_left(presence: Presence, session: str) -> bool:
    return presence.session(session).heartbeat.state is SessionState.CLOSED
