"""Follows bulk requests by the log: from before they are sent until they have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.patience import open_scan
from ftjm.core import bulk_rows
from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.core.state.processes import Bulk, bulk_name
from ftjm.readmodel.documents.bulk import BulkDocument, bulk_document
from ftjm.runtime.config import Settings

Place = tuple[int, int]
"""A command's partition and offset in `commands`."""
_OF_REQUESTS = (e.BulkBegun, e.BulkAdvanced, e.BulkStopped, e.CommandRejected)


class BulkFollower:
    """Follows the requests that are sent while it is open. A context manager.

    It reads the log of events from its end as of now. Raises Unreachable if Kafka does not answer.
    """

    def __init__(self, settings: Settings, queues: Iterable[str]) -> None:
        self._scan = open_scan(settings, "events")
        try:
            wanted = {partition_for(queue, self._scan.partitions) for queue in queues}
            self._starts = {partition: self._scan.bounds(partition)[1] for partition in wanted}
        except BaseException:
            self._scan.__exit__()
            raise
        self._rows: dict[str, Bulk] = {}
        self.known: dict[str, BulkDocument] = {}
        """The requests so far, by their names."""

    def __enter__(self) -> BulkFollower:
        return self

    def __exit__(self, *_: object) -> None:
        self._scan.__exit__()

    def add(self, name: str, row: Bulk) -> None:
        """Add a request that began before this was opened."""
        self._rows[name] = row
        self.known[name] = bulk_document(name, row)

    def follow(self, requests: Mapping[Place, str]) -> Iterator[tuple[str, e.CommandRejected | None]]:
        """Follow requests, without an end.

        Args:
            requests: the name of each request, by the place of its command.

        Returns:
            The name of a request of which more is known now, and the refusal of its command, if it is refused.
        """
        names = set(requests.values())
        for record in self._scan.read(self._starts, follow=True):
            if codec.type_of(record.value) not in _OF_REQUESTS:
                continue
            event = codec.decode(record.value)
            if isinstance(event, e.CommandRejected):
                offset = int(event.cause_ref) if event.cause is e.Cause.COMMAND else -1
                if name := requests.get((record.partition, offset)):
                    yield name, event
                continue
            name = bulk_name(event.queue, event.bulk)
            if name not in names:
                continue
            if isinstance(event, e.BulkBegun):
                self.add(name, bulk_rows.first(event, 0))
            elif name in self._rows:
                self.add(name, bulk_rows.following(self._rows[name], event))
            else:  # it began before, and is not added yet
                continue
            yield name, None
