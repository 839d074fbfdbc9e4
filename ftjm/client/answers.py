"""Which records of a lane of `replies` are answers for one client."""

from __future__ import annotations

from ftjm.adapters.avro import codec
from ftjm.adapters.records import Record
from ftjm.core.errors import UndecodableError
from ftjm.core.records.messages import CommandReply, JobOutcome


def answer_of(record: Record, session: str) -> CommandReply | JobOutcome | None:
    """The answer that a record holds for the client of this session; None if it holds none."""
    # Other sessions share the lane. The key distinguishes their answers without decoding.
    if record.key != session.encode():
        return None
    try:
        answer = codec.decode(record.value)
    except UndecodableError:
        return None
    return answer if isinstance(answer, CommandReply | JobOutcome) else None
