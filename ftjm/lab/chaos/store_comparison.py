"""Compares the stores at the end of a run with the log.

Every store must equal the log folded up to the offset of the store. An owner's store must have reached the last batch
of the log, and a standby's store the offset that its scheduler reported last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.scan import Scan
from ftjm.adapters.rocksdb import DamagedStore
from ftjm.core.records.messages import SchedulerHeartbeat
from ftjm.history import replay
from ftjm.history.store_rows import stores
from ftjm.lab.chaos.log_watch import CLIENT, LastBatch
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError

Store = tuple[str, int]
"""Name of a scheduler, and a partition."""


class StorePositions:
    """The offsets that stores have reached, as the heartbeats of their schedulers report."""

    def __init__(self) -> None:
        self.reached: dict[Store, int] = {}
        """The offset that an owner or a standby has applied, by store."""
        self._owners: set[Store] = set()

    def add(self, heartbeat: SchedulerHeartbeat) -> None:
        """Take the reports of one heartbeat."""
        for report in heartbeat.partitions:
            store = heartbeat.instance.partition("@")[0], report.partition
            self.reached.pop(store, None)
            self._owners.discard(store)
            if report.role in ("owner", "standby"):
                self.reached[store] = report.applied_offset
            if report.role == "owner":
                self._owners.add(store)

    def missing(self, last: Mapping[int, LastBatch]) -> list[str]:
        """Return which partitions lack an owner, or a standby, that has applied the last batch of the log."""
        missing = []
        for partition, (offset, _) in last.items():
            caught_up = {store for store, at in self.reached.items() if store[1] == partition and at >= offset}
            for role, found in (("an owner", caught_up & self._owners), ("a standby", caught_up - self._owners)):
                if not found:
                    missing.append(f"{role} of partition {partition} at offset {offset}")
        return missing


class ReportedPositions(StorePositions):
    """Store positions from the heartbeats that come from now on. A context manager."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._scan = Scan(settings.kafka_settings(CLIENT), settings.topic("heartbeats"), committed=False)
        try:
            self._next = {lane: self._scan.bounds(lane)[1] for lane in range(self._scan.partitions)}
        except BaseException:
            self._scan.__exit__()
            raise

    def __enter__(self) -> ReportedPositions:
        return self

    def __exit__(self, *_: object) -> None:
        self._scan.__exit__()

    def read_new(self) -> None:
        """Read the heartbeats that have come since."""
        for record in self._scan.read(self._next):
            self._next[record.partition] = record.offset + 1
            heartbeat = codec.decode(record.value)
            if isinstance(heartbeat, SchedulerHeartbeat):
                self.add(heartbeat)


def compare(
    settings: Settings,
    last: Mapping[int, LastBatch],
    reached: Mapping[Store, int],
    is_damaged: Callable[[str, int], bool],
) -> tuple[int, list[str]]:
    """Compare every store with the log, and its offset with the one that it must have reached.

    Args:
        last: the last batch of each partition.
        reached: offsets of owners and standbys before all schedulers were stopped.
        is_damaged: called with a scheduler and a partition; whether the run damaged that store, and the scheduler has
        not
            replaced it since. It replaces a store only when it reads the damage.

    Returns:
        The number of stores, and their problems.
    """
    found = stores(settings.data_dir)
    wrong = [f"the store of {name} for partition {partition} is gone" for name, partition in reached.keys() - found]
    with Scan(settings.kafka_settings(CLIENT), settings.topic("events")) as scan:
        for (name, partition), path in found.items():
            try:
                position, difference = replay.verify(scan, partition, path)
            except DamagedStore as error:
                problems = [] if is_damaged(name, partition) else [f"is damaged: {error}"]
            except FtjmError as error:
                problems = [f"cannot be compared: {error}"]
            else:
                at = reached.get((name, partition), -1)
                problems = [*position_problems(position.applied_offset, name, last.get(partition), at)]
                if difference is not None:
                    problems.append(f"differs: {difference}")
            wrong += [f"the store of {name} for partition {partition} {problem}" for problem in problems]
    return len(found), wrong


def position_problems(applied: int, name: str, last: LastBatch | None, reached: int) -> Iterator[str]:
    """Return the problems of a store's offset.

    Args:
        applied: offset of the store.
        name: scheduler of the store.
        last: the last batch of the partition's log.
        reached: offset that the scheduler reported last; -1 if it was neither owner nor standby.
    """
    if last is not None and last.owner == name:
        if applied != last.offset:
            yield f"is its owner's: expected it at {last.offset}, the log's last batch, but found it at {applied}"
    elif applied < reached:
        yield f"was followed: expected it at {reached} or behind, but found it at {applied}"
