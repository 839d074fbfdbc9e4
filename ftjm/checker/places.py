"""Which partition a job belongs to: that which Kafka's own clients choose for its key."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ftjm.checker.report import Found, Kind
from ftjm.core import events as e

M, WORD = 0x5BD1E995, 0xFFFFFFFF


@lru_cache(maxsize=1_024)
def place_of(key: str, partitions: int) -> int:
    """By the 32-bit murmur2 of the key, without its sign."""
    data = key.encode()
    found = 0x9747B28C ^ len(data)
    for start in range(0, len(data) - 3, 4):
        word = int.from_bytes(data[start : start + 4], "little") * M & WORD
        found = (found * M & WORD) ^ ((word ^ word >> 24) * M & WORD)
    if tail := data[len(data) & ~3 :]:
        found = (found ^ int.from_bytes(tail, "little")) * M & WORD
    found = (found ^ found >> 13) * M & WORD
    return ((found ^ found >> 15) & 0x7FFFFFFF) % partitions


def placed(event: e.Event, partition: int, partitions: int) -> Iterator[Found]:
    """Whether a job is born, or a command sent on, where its key belongs."""
    if isinstance(event, e.CommandForwarded):
        found = event.partition
    elif isinstance(event, e.JobSubmitted):
        found = partition
    else:
        return
    if found != (wanted := place_of(event.shard_key or event.queue, partitions)):
        yield Found(Kind.CHAIN, f"expected {event.queue}/{event.job_id} in partition {wanted}, but found it in {found}")
