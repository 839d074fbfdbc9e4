"""The rules on resources that every partition must know: calendars, windows, cordons.

- The home gives out ever higher revisions. A partition adopts only what the home has declared, with its values, and
  ever higher revisions of it.
- A resource is settled only when every other partition has confirmed its newest revision, and each confirmation
  follows an adoption of that revision.
- At the end of a history, every partition knows the same.
- Every message of one partition to another arrives once: `messages_of` tells which messages follow from an event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ftjm.core.records import events as e
from ftjm.lab.checker.verdict import Violation, ViolationKind

TOLD_AT_ONCE_MAX = 250
"""Partitions that are told in the batch of a change."""

Key = tuple[str, str]
Declared = tuple[object, dict[str, str]] | None
"""Spec and labels; None for a deletion."""


def messages_of(event: e.Event) -> list[int]:
    """The partitions that are sent a command because of an event, one entry for each command."""
    match event:
        case e.CommandForwarded():
            return [event.partition]
        case e.ResourceApplied() | e.ResourceDeleted():
            return [partition for partition in range(event.partitions) if partition != event.home][:TOLD_AT_ONCE_MAX]
        case e.ResourceAdopted() | e.ResourceConfirmed() | e.ResourcesAsked():
            return [event.home]
        case e.ResourceToldAgain():
            return event.partitions
        case e.ResourcesTold():
            return [event.partition] * (len(event.resources) + (not event.next_resource))
        case _:
            return []


class Resources:
    """What all partitions know, event by event. Partitions may be judged one after the other."""

    def __init__(self) -> None:
        self._declared: dict[Key, dict[int, Declared]] = defaultdict(dict)
        """What the home has declared, by revision."""
        self._newest: dict[Key, int] = {}
        self._highest = 0
        self._lagging: dict[Key, set[int]] = {}
        """Partitions that have not confirmed the newest revision."""
        self._confirmed: set[tuple[int, Key, int]] = set()
        self._adopted: dict[int, dict[Key, tuple[int, Declared]]] = defaultdict(dict)
        """What each partition has adopted: the revision, and its values."""
        self._was_adopted: set[tuple[int, Key, int]] = set()
        self._asks: set[int] = set()
        """Partitions that have asked for everything, and were not told yet."""
        self._home: int | None = None

    def take(self, partition: int, event: e.Event) -> Iterator[Violation]:
        """Judge and apply an event."""
        match event:
            case e.ResourceApplied():
                yield from self._change(partition, event, (event.spec, event.labels))
            case e.ResourceDeleted():
                yield from self._change(partition, event, None)
            case e.AdoptionConfirmed():
                self._confirmed.add((event.partition, _key(event), event.revision))
                if event.revision == self._newest.get(_key(event)):
                    self._lagging[_key(event)].discard(event.partition)
            case e.ResourcesTold():
                for key in event.resources:
                    kind, _, name = key.partition("/")
                    self._lagging[kind, name].add(event.partition)
            case e.ResourceSettled():
                if self._lagging[_key(event)] or event.revision != self._newest.get(_key(event)):
                    text = f"expected {event.kind} {event.name} to be settled when no partition lags"
                    yield _wrong(f"{text}, but found revision {event.revision} settled")
            case e.ResourceAdopted():
                yield from self._adopt(partition, event)
            case e.ResourceConfirmed():
                self._was_adopted.add((partition, _key(event), event.revision))
            case e.ResourcesAsked():
                self._asks.add(partition)
            case e.ResourcesReconciled():
                self._asks.discard(partition)
                for key in event.dropped:
                    kind, _, name = key.partition("/")
                    self._adopted[partition].pop((kind, name), None)

    def finish(self, partitions: int) -> Iterator[Violation]:
        """Judge what can be judged only when the events of all partitions are known.

        Args:
            partitions: number of the cluster's partitions; 0 where that is not known.
        """
        for partition, key, revision in sorted(self._confirmed - self._was_adopted):
            text = f"expected partition {partition} to adopt revision {revision} of {' '.join(key)} before it says so"
            yield _wrong(f"{text}, but found no adoption")
        for key, newest in self._newest.items():
            values = self._declared[key][newest]
            wanted = (newest, values) if values else None
            for partition in range(partitions):
                if partition != self._home and (found := self._adopted[partition].get(key)) != wanted:
                    text = f"expected partition {partition} to know revision {newest} of {' '.join(key)} at the end"
                    yield _wrong(f"{text}, but found {f'revision {found[0]}' if found else 'none'}")
        for partition, known in sorted(self._adopted.items()):
            for key, (revision, values) in known.items():
                if self._declared[key].get(revision) != values:
                    text = f"expected partition {partition} to know of {' '.join(key)} what its home has declared"
                    yield _wrong(f"{text}, but found something else in revision {revision}")

    def _change(
        self, partition: int, event: e.ResourceApplied | e.ResourceDeleted, values: Declared
    ) -> Iterator[Violation]:
        if event.revision <= self._highest:
            yield _wrong(f"expected a revision above {self._highest}, but found {event.revision}")
        if self._home not in (None, partition) or event.home != partition:
            yield _wrong(f"expected one home of all resources, but found {self._home} and {partition}")
        self._home, self._highest = partition, event.revision
        self._declared[_key(event)][event.revision] = values
        self._newest[_key(event)] = event.revision
        self._lagging[_key(event)] = {other for other in range(event.partitions) if other != partition}

    def _adopt(self, partition: int, event: e.ResourceAdopted) -> Iterator[Violation]:
        before = self._adopted[partition].get(_key(event))
        if before is not None and event.revision <= before[0] and partition not in self._asks:
            text = f"expected a revision of {event.kind} {event.name} above {before[0]}"
            yield _wrong(f"{text}, but found {event.revision} adopted")
        self._was_adopted.add((partition, _key(event), event.revision))
        if event.spec.kinds:
            self._adopted[partition][_key(event)] = (event.revision, (event.spec, event.labels))
        else:
            self._adopted[partition].pop(_key(event), None)


def _key(event: e.ResourceEvent) -> Key:
    return event.kind.value, event.name


def _wrong(text: str) -> Violation:
    return Violation(ViolationKind.CHAIN, text)
