"""Rows as programs of version 3 wrote them: their encoders, frozen, for tests of migrations."""

from __future__ import annotations

from typing import Any

import msgspec

from ftjm.core.limits import AGEING_MS_MAX
from ftjm.core.state.migrations import OLDEST_VERSION
from ftjm.core.state.model import Job
from ftjm.core.state.outbox import (
    CloseMessage,
    ForwardMessage,
    OutboxMessage,
    OutcomeMessage,
    PartitionMessage,
    ReplyMessage,
    RunMessage,
    StopMessage,
    TellMessage,
)
from ftjm.core.state.row_cache import encode
from ftjm.core.state.tables import JOBS, OUTBOX, PEERS, POSITION_KEY, QUEUES, READY_JOBS, SPECS


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Every kind of outbox message in one struct."""

    kind: int
    destination: str
    number: int
    queue: str = ""
    job_id: str = ""
    attempt: int = 0
    run: int = 0
    lane: int = 0
    code: str = ""
    text: str = ""
    state: int = 0
    body: bytes = b""
    reply: str = ""
    grace_ms: int = 0


def row(key: bytes, value: bytes) -> bytes:
    """The value that a program of version 3 stored where this one stores `value`."""
    if key == POSITION_KEY:
        return encode([OLDEST_VERSION, *msgspec.msgpack.decode(value)[1:]])
    if key[:1] == JOBS.prefix:
        return encode(_job(JOBS.decode(value)))
    if key[:1] == SPECS.prefix:
        return encode(msgspec.msgpack.decode(value)[:-2])  # concurrency key, share
    if key[:1] == PEERS.prefix:
        return encode(msgspec.msgpack.decode(value)[:-1])  # when it is asked for all resources
    if key[:1] == QUEUES.prefix:
        return encode(msgspec.msgpack.decode(value)[:-2])  # whether it has shares, and how many are active
    if key[:1] == OUTBOX.prefix:
        return encode(_message(OUTBOX.decode(value)))
    return value


def rows(found: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The rows that a program of version 3 had in place of these."""
    return {_key(key): row(key, value) for key, value in found.items()}


def _key(key: bytes) -> bytes:
    """A waiting job's key held 200 less the priority, and the order, in place of share, shape, score and order."""
    if key[:1] != READY_JOBS.prefix:
        return key
    queue, priority = key[1:].partition(b"\0")[0], ((1 << 63) - int.from_bytes(key[-16:-8])) // AGEING_MS_MAX
    return b"r%b\0%c%b" % (queue, 200 - priority, key[-8:])


def _job(job: Job) -> list[Any]:
    """The content hash was kept as the event had it: from version 2 of the hash on, its version is in front."""
    fields = list(msgspec.structs.astuple(job))
    del fields[-5:]  # concurrency key, share, charge, since when it is PENDING, when its waiting is looked at
    del fields[-3:]  # since when it is eligible, its score, its schedule
    fields.pop()  # the mark of an attempt that was sent ahead
    version = fields.pop()
    if version > 1:
        fields[8] = bytes([version]) + job.content
    return fields


def _message(message: OutboxMessage) -> Message:
    about: dict[str, Any] = {}
    if not isinstance(message, CloseMessage | PartitionMessage):
        about = {"queue": message.queue, "job_id": message.job_id}
    match message:
        case RunMessage():
            return Message(1, message.session, message.number, lane=message.lane, attempt=message.attempt, **about)
        case StopMessage():
            about |= {"attempt": message.attempt, "code": message.reason, "grace_ms": message.grace_ms}
            return Message(2, message.session, message.number, lane=message.lane, **about)
        case CloseMessage():
            return Message(3, message.session, message.number, lane=message.lane)
        case ForwardMessage():
            return Message(4, str(message.partition), message.number, body=message.body, reply=message.reply_to)
        case ReplyMessage():
            about |= {"run": message.run, "code": message.code, "text": message.text, "state": message.state}
            return Message(5, message.reply_to, 0, **about)
        case TellMessage():
            raise AssertionError("a program of version 3 told other partitions nothing")
        case OutcomeMessage():
            about |= {"run": message.run, "code": message.reason, "text": message.error, "state": message.state}
            return Message(6, message.reply_to, 0, attempt=message.exit_code, body=message.result, **about)
