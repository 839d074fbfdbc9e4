"""Reads the rows of resources that every partition must know: a part of `StateView`."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from ftjm.core.state.calendars import AdoptedCalendar
from ftjm.core.state.resources import Adoption, KnownResource, ResourceKind, parse_resource_key, resource_key
from ftjm.core.state.tables import ADOPTIONS, RESOURCES


class ResourceRows(ABC):
    """Reads through `_get` and `scan`. What is asked for each placement is kept until a row changes."""

    _known: Mapping[ResourceKind, Mapping[str, KnownResource]] | None = None
    """All resources by kind and name; None if the rows were not read since the last change."""

    @abstractmethod
    def _get(self, key: bytes) -> bytes | None:
        """The row of a key, with the changes of the batch."""

    @abstractmethod
    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows with start <= key < end, in order, with the changes of the batch."""

    def adoption(self, key: str) -> Adoption | None:
        """Which partitions have the resource `kind/name`; None in a partition that is not its home."""
        raw = self._get(ADOPTIONS.prefix + key.encode())
        return None if raw is None else ADOPTIONS.decode(raw)

    def resource(self, key: str) -> KnownResource | None:
        """The resource `kind/name` that every partition must know; None if this one does not."""
        raw = self._get(RESOURCES.prefix + key.encode())
        return None if raw is None else RESOURCES.decode(raw)

    def calendar(self, name: str) -> AdoptedCalendar | None:
        """The calendar of this name; None if this partition does not know it."""
        known = self.resource(resource_key(ResourceKind.CALENDAR, name))
        return AdoptedCalendar(known.revision, known.spec.calendar[0]) if known else None

    def resources_from(self, start: str) -> Iterator[str]:
        """The resources that this partition knows, as `kind/name`, from one on."""
        for key, _ in self.scan(RESOURCES.prefix + start.encode(), RESOURCES.end):
            yield key[1:].decode()

    def windows(self) -> Mapping[str, KnownResource]:
        """All windows that this partition knows, by name."""
        return self._all_known()[ResourceKind.WINDOW]

    def cordons(self) -> Mapping[str, KnownResource]:
        """All cordons that this partition knows, by the names of their workers."""
        return self._all_known()[ResourceKind.CORDON]

    def _all_known(self) -> Mapping[ResourceKind, Mapping[str, KnownResource]]:
        if self._known is None:
            known: dict[ResourceKind, dict[str, KnownResource]] = {kind: {} for kind in ResourceKind}
            for key, raw in self.scan(RESOURCES.prefix, RESOURCES.end):
                kind, name = parse_resource_key(key[1:].decode())
                known[kind][name] = RESOURCES.decode(raw)
            self._known = known
        return self._known
