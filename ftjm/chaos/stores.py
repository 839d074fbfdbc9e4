"""The stores at the end of a run: each is what its log makes, and as far as its scheduler said that it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ftjm import replay
from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.adapters.rocks import DamagedStore
from ftjm.chaos.watching import CLIENT, Last
from ftjm.config import Settings
from ftjm.core.messages import SchedulerHeartbeat
from ftjm.errors import FtjmError
from ftjm.storeview import stores

Store = tuple[str, int]
"""A scheduler and a partition."""


class Told:
    """How far stores are, by what their schedulers tell."""

    def __init__(self) -> None:
        self.reached: dict[Store, int] = {}
        """The offset that an owner, or whoever stands by, has applied."""
        self._owners: set[Store] = set()

    def hear(self, heartbeat: SchedulerHeartbeat) -> None:
        """Take one in."""
        for report in heartbeat.partitions:
            store = heartbeat.instance.partition("@")[0], report.partition
            self.reached.pop(store, None)
            self._owners.discard(store)
            if report.role in ("owner", "standby"):
                self.reached[store] = report.applied_offset
            if report.role == "owner":
                self._owners.add(store)

    def missing(self, last: Mapping[int, Last]) -> list[str]:
        """Which partitions lack an owner, or somebody who stands by, that has applied the last batch."""
        told = []
        for partition, (offset, _) in last.items():
            there = {store for store, at in self.reached.items() if store[1] == partition and at >= offset}
            for role, found in (("an owner", there & self._owners), ("a standby", there - self._owners)):
                if not found:
                    told.append(f"{role} of partition {partition} at offset {offset}")
        return told


class Followers(Told):
    """What schedulers tell from now on. A context manager."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._scan = Scan(settings.kafka_settings(CLIENT), settings.topic("heartbeats"), committed=False)
        try:
            self._next = {lane: self._scan.bounds(lane)[1] for lane in range(self._scan.partitions)}
        except BaseException:
            self._scan.__exit__()
            raise

    def __enter__(self) -> Followers:
        return self

    def __exit__(self, *_: object) -> None:
        self._scan.__exit__()

    def look(self) -> None:
        """Take in what is new."""
        for record in self._scan.read(self._next):
            self._next[record.partition] = record.offset + 1
            heartbeat = codec.decode(record.value)
            if isinstance(heartbeat, SchedulerHeartbeat):
                self.hear(heartbeat)


def compare(
    settings: Settings, last: Mapping[int, Last], reached: Mapping[Store, int], excused: Callable[[str, int], bool]
) -> tuple[int, list[str]]:
    """Every store with the folded log, and with where it has to be; how many there are, and what is wrong.

    Args:
        reached: how far those that followed were, before all were stopped.
        excused: whether damage that we did has not been mended since. Nobody may have read it; whoever does, tells.
    """
    found = stores(settings.data_dir)
    wrong = [f"the store of {name} for partition {partition} is gone" for name, partition in reached.keys() - found]
    with Scan(settings.kafka_settings(CLIENT), settings.topic("events")) as scan:
        for (name, partition), path in found.items():
            try:
                position, difference = replay.verify(scan, partition, path)
            except DamagedStore as error:
                problems = [] if excused(name, partition) else [f"is damaged: {error}"]
            except FtjmError as error:
                problems = [f"cannot be compared: {error}"]
            else:
                at = reached.get((name, partition), -1)
                problems = [*misplaced(position.applied_offset, name, last.get(partition), at)]
                if difference is not None:
                    problems.append(f"differs: {difference}")
            wrong += [f"the store of {name} for partition {partition} {problem}" for problem in problems]
    return len(found), wrong


def misplaced(applied: int, name: str, last: Last | None, reached: int) -> Iterator[str]:
    """Whether a store is behind what it has to hold: all of the log, of who wrote the last of it."""
    if last is not None and last.owner == name:
        if applied != last.offset:
            yield f"is its owner's: expected it at {last.offset}, the log's last batch, but found it at {applied}"
    elif applied < reached:
        yield f"was followed: expected it at {reached} or behind, but found it at {applied}"
