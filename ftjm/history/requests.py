"""Follows requests by the log: from before they are sent until they have ended.

A request is what a partition carries out over many batches: a bulk request (`bulk_requests.py`) or a backfill
(`backfills.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.patience import open_scan
from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.runtime.config import Settings


class RequestDocument(Protocol):
    """A request as a document."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will be done for it."""


Row = TypeVar("Row")
Found = TypeVar("Found", bound=RequestDocument)
Place = tuple[int, int]
"""A command's partition and offset in `commands`."""


class RequestFollower(ABC, Generic[Row, Found]):
    """Follows the requests that are sent while it is open. A context manager.

    It reads the log of events from its end as of now. Raises Unreachable if Kafka does not answer.
    """

    events: tuple[type[e.Event], ...]
    """The events of requests of this kind; the first type begins one."""

    def __init__(self, settings: Settings, queues: Iterable[str]) -> None:
        self._scan = open_scan(settings, "events")
        try:
            wanted = {partition_for(queue, self._scan.partitions) for queue in queues}
            self._starts = {partition: self._scan.bounds(partition)[1] for partition in wanted}
        except BaseException:
            self._scan.__exit__()
            raise
        self._rows: dict[str, Row] = {}
        self.known: dict[str, Found] = {}
        """The requests so far, by their names."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scan.__exit__()

    @abstractmethod
    def name_of(self, event: Any) -> str:
        """The name of the request that an event is of."""

    @abstractmethod
    def first(self, event: Any) -> Row:
        """The row of a request that begins."""

    @abstractmethod
    def following(self, row: Row, event: Any) -> Row:
        """The row of a request behind another event of it."""

    @abstractmethod
    def document(self, name: str, row: Row) -> Found:
        """Render a request."""

    def add(self, name: str, row: Row) -> None:
        """Add a request that began before this was opened."""
        self._rows[name] = row
        self.known[name] = self.document(name, row)

    def follow(self, requests: Mapping[Place, str]) -> Iterator[tuple[str, e.CommandRejected | None]]:
        """Follow requests, without an end.

        Args:
            requests: the name of each request, by the place of its command.

        Returns:
            The name of a request of which more is known now, and the refusal of its command, if it is refused.
        """
        names = set(requests.values())
        for record in self._scan.read(self._starts, follow=True):
            if codec.type_of(record.value) not in (*self.events, e.CommandRejected):
                continue
            event = codec.decode(record.value)
            if isinstance(event, e.CommandRejected):
                offset = int(event.cause_ref) if event.cause is e.Cause.COMMAND else -1
                if name := requests.get((record.partition, offset)):
                    yield name, event
                continue
            name = self.name_of(event)
            if name not in names:
                continue
            if isinstance(event, self.events[0]):
                self.add(name, self.first(event))
            elif name in self._rows:
                self.add(name, self.following(self._rows[name], event))
            else:  # it began before, and is not added yet
                continue
            yield name, None
