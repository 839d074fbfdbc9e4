"""The partition that a job belongs to: the one that the default partitioner of Kafka's Java client chooses for its key.

The key is the shard key of the job, or else its queue. The hash is murmur2 with Kafka's seed (`org.apache.kafka.common.
utils.Utils.murmur2`), with the sign bit cleared, modulo the number of partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ftjm.core.records import events as e
from ftjm.lab.checker.verdict import Violation, ViolationKind

M, WORD = 0x5BD1E995, 0xFFFFFFFF
_AT_HOME = (
    e.JobSubmitted,
    e.QueuePaused,
    e.QueueResumed,
    e.QueueApplied,
    e.QueueDeleted,
    e.ScheduleEvent,
    e.ResourceApplied,
    e.ResourceDeleted,
)


@lru_cache(maxsize=1_024)
def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key: its 32-bit murmur2 without the sign bit, modulo `partitions`."""
    data = key.encode()
    found = 0x9747B28C ^ len(data)
    for start in range(0, len(data) - 3, 4):
        word = int.from_bytes(data[start : start + 4], "little") * M & WORD
        found = (found * M & WORD) ^ ((word ^ word >> 24) * M & WORD)
    if tail := data[len(data) & ~3 :]:
        found = (found ^ int.from_bytes(tail, "little")) * M & WORD
    found = (found ^ found >> 13) * M & WORD
    return ((found ^ found >> 15) & 0x7FFFFFFF) % partitions


def check_partition(event: e.Event, partition: int, partitions: int) -> Iterator[Violation]:
    """Judge whether a partition is that of the key: where a job is submitted, where something is set for a queue or a
    schedule, and where a command is forwarded to. All that concerns the whole cluster is declared in one partition."""
    if isinstance(event, e.CommandForwarded):
        found = event.partition
    elif isinstance(event, _AT_HOME):
        found = partition
    else:
        return
    key = event.shard_key or event.queue or "cluster"
    if found != (wanted := partition_of(key, partitions)):
        yield Violation(
            ViolationKind.CHAIN, f"expected {event.queue}/{event.job_id} in partition {wanted}, but found it in {found}"
        )
