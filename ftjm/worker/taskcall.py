"""A call of a Python task, as the guard writes it to the standard input of the process that was forked for it.

A process that finds less than a whole call there was given up before it began, and leaves.
"""

import struct
from typing import NamedTuple

import msgspec

from ftjm.core.model import FailureReason

_HEADER = struct.Struct("!II")
REASONS = frozenset({FailureReason.EXCEPTION, FailureReason.RESULT_REFUSED, FailureReason.START_FAILED})
"""What the process of a task may say of its failure."""


class Call(NamedTuple):
    """Which task, where, and with what."""

    task: str
    environment: dict[str, str]
    working_directory: str
    payload: bytes


def pack(task: str, environment: dict[str, str], working_directory: str, payload: bytes) -> bytes:
    """The call as bytes."""
    head = msgspec.msgpack.encode((task, environment, working_directory))
    return _HEADER.pack(len(head), len(payload)) + head + payload


def unpack(data: bytes) -> Call | None:
    """The call; None for less than a whole one."""
    if len(data) < _HEADER.size:
        return None
    head, payload = _HEADER.unpack_from(data)
    if len(data) != _HEADER.size + head + payload:
        return None
    task, environment, working_directory = msgspec.msgpack.decode(
        data[_HEADER.size : _HEADER.size + head], type=tuple[str, dict[str, str], str]
    )
    return Call(task, environment, working_directory, data[_HEADER.size + head :])
