"""Counts what processes and topics do. Unlike times, the counts do not depend on the machine, or hardly."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_BATCH_HEAD = struct.Struct(">qiibIhiqqqhii")
"""The head of a batch in a segment of Kafka (format 2): offset, length, epoch of the leader, magic, checksum,
attributes, offset of the last record, two times, producer, its epoch, its sequence number, and number of records."""
_LENGTH_BEGINS = 12
"""The length counts the bytes after itself."""
_CONTROL = 0x20
"""The attribute of a batch that ends a transaction."""


class Activity(NamedTuple):
    """What some processes have done since they started."""

    wakes: float = 0.0
    """Voluntary context switches of all threads: each time that one had to wait for something."""
    calls: float = 0.0
    """System calls that read or write a file, a pipe or an event. The kernel does not count those of sockets here."""
    moved: float = 0.0
    """Bytes that these calls have read and written."""

    def minus(self, other: Activity, times: float = 1.0) -> Activity:
        """This, without `times` as much as `other`."""
        return Activity(*(mine - times * theirs for mine, theirs in zip(self, other, strict=True)))

    def each(self, number: float) -> Activity:
        """The part of each of so many jobs, or of each second."""
        return Activity(*(value / number for value in self))


class Written(NamedTuple):
    """What a topic holds."""

    records: float = 0.0
    batches: float = 0.0
    """Batches of records."""
    ends: float = 0.0
    """Markers by which transactions end."""
    size: float = 0.0
    """Bytes, heads of batches included."""

    def minus(self, other: Written) -> Written:
        """What was written since."""
        return Written(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def each(self, number: float) -> Written:
        """The part of each of so many jobs."""
        return Written(*(value / number for value in self))


def wakes(pid: int) -> int:
    """Voluntary context switches of all threads of a process; 0 if it has gone."""
    total = 0
    with contextlib.suppress(OSError):
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                lines = status.read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return total


def activity(pids: Iterable[int]) -> Activity:
    """What these processes, which must live, have done."""
    found = [0, 0, 0]
    for pid in pids:
        lines = (line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        io = {name: int(value) for name, value in lines}
        found[0] += wakes(pid)
        found[1] += io["syscr"] + io["syscw"]
        found[2] += io["rchar"] + io["wchar"]
    return Activity(*found)


def written(brokers: Path, topic: str) -> Written:
    """What all partitions of a topic hold, by the files of the brokers in this directory."""
    total = Written()
    for segment in brokers.glob(f"broker-*/data/{topic}-*/*.log"):
        for control, records, size in _batches(segment.read_bytes()):
            found = Written(0, 0, 1, size) if control else Written(records, 1, 0, size)
            total = Written(*(one + more for one, more in zip(total, found, strict=True)))
    return total


def _batches(data: bytes) -> Iterator[tuple[bool, int, int]]:
    """Whether each batch ends a transaction, its number of records, and its bytes. A batch that is half written is not
    counted."""
    at = 0
    while at + _BATCH_HEAD.size <= len(data):
        _, length, *_, attributes, _, _, _, _, _, _, records = _BATCH_HEAD.unpack_from(data, at)
        size = _LENGTH_BEGINS + length
        if not length or at + size > len(data):
            return
        yield bool(attributes & _CONTROL), records, size
        at += size
