"""Finding the newest batch of a partition in its log.

An owner closes each batch with a `BatchClosed` record, which names the partition's owner and the next command to
decide. So the newest one shows the partition's position, without reading the log.
"""

from __future__ import annotations

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.core.records.events import BatchClosed

FIRST_SPAN = 16
"""Offsets that are searched first, from the end of the log; each further search is 16 times as long."""


def last_batch(scan: Scan, partition: int, within: tuple[int, int] | None = None) -> BatchClosed | None:
    """Find the newest batch of a partition.

    Args:
        scan: a scan of the topic `events`.
        partition: the partition to read.
        within: first offset, and offset behind the last one, of a part of the log; by default, all of it.

    Returns:
        The record that closes the batch; None if there is no batch.

    Raises:
        Incomplete: the log lacks some record of `within`.
    """
    found = last_batch_with_offset(scan, partition, within)
    return found[1] if found else None


def last_batch_with_offset(
    scan: Scan, partition: int, within: tuple[int, int] | None = None
) -> tuple[int, BatchClosed] | None:
    """Find the newest batch as `last_batch` does, and the offset of its record."""
    low, end = within or scan.bounds(partition)
    span = FIRST_SPAN
    while True:
        start = max(low, end - span)
        found = None
        for record in scan.read({partition: start}, ends={partition: end}, whole=within is not None):
            if codec.type_of(record.value) is BatchClosed:
                found = record
        if found is not None:
            closed: BatchClosed = codec.decode(found.value)
            return found.offset, closed
        if start == low:
            return None
        span *= 16
