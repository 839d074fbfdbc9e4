"""Each partition as a document, read from the logs and from the schedulers' heartbeats of the last seconds."""

from __future__ import annotations

from ftjm.adapters.kafka.patience import open_scan
from ftjm.history.batches import last_batch_with_offset
from ftjm.readmodel.documents.cluster import PartitionDocument, partition_document
from ftjm.readmodel.presence import read_presence
from ftjm.runtime.config import Settings


def partition_documents(settings: Settings) -> list[PartitionDocument]:
    """Render all partitions.

    Raises:
        Unreachable: Kafka does not answer.
        FtjmError: the cluster lacks a topic.
    """
    with open_scan(settings, "commands", committed=False) as scan:
        command_ends = {partition: scan.bounds(partition)[1] for partition in range(scan.partitions)}
    schedulers = [scheduler.heartbeat for scheduler in read_presence(settings)[0].live_schedulers()]
    found = []
    with open_scan(settings, "events") as scan:
        for partition, commands_end in command_ends.items():
            offset, batch = last_batch_with_offset(scan, partition) or (-1, None)
            found.append(
                partition_document(
                    partition,
                    owner=batch.owner if batch else "",
                    epoch=batch.owner_epoch if batch else 0,
                    batch=batch.batch_no if batch else 0,
                    decided_at=batch.now if batch else 0,
                    next_command=batch.next_command if batch else 0,
                    applied_offset=offset,
                    commands_end=commands_end,
                    events_end=scan.bounds(partition)[1],
                    schedulers=schedulers,
                )
            )
    return found
