"""The other schedulers, as this instance knows them from their heartbeats: which are present, and what they follow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from ftjm.core.records.messages import PartitionReport, SchedulerHeartbeat
from ftjm.engine.standbys import stands_by
from ftjm.runtime.network import is_loopback

SILENT_SECONDS = 3.0
"""A scheduler sends a heartbeat every second. After this long without one it does not count as present."""
DEAD_SECONDS = 30.0
"""A dead instance is remembered for this long. By then the group has nominated other owners for its partitions."""
OWNS = frozenset({"owner", "taking-over"})
EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104  (recognised, not listened on)
WARM = frozenset({"owner", "standby"})


class Peers:
    """The instances that sent a heartbeat lately, and those that died lately.

    An instance is present while its last heartbeat is younger than `SILENT_SECONDS`. All times are seconds of one
    monotonic clock. Any thread may use it.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._lock = threading.Lock()
        self._received: dict[str, tuple[float, SchedulerHeartbeat]] = {}
        self._dead: dict[str, tuple[float, SchedulerHeartbeat]] = {}
        self._followed: tuple[object, set[int]] = (None, set())
        """The last result of `followed`, and what it was computed from."""

    def receive(self, heartbeat: SchedulerHeartbeat, now: float) -> None:
        """Take in a heartbeat of an instance, perhaps of this one."""
        with self._lock:
            self._forget(now)
            if heartbeat.leaving:
                self._received.pop(heartbeat.instance, None)
                return
            dead = self._dead.get(heartbeat.instance)
            if dead is None or dead[1].lifeline != heartbeat.lifeline:
                # In a container, a new process has the name and the process id of the one before it.
                self._dead.pop(heartbeat.instance, None)
                self._received[heartbeat.instance] = (now, heartbeat)

    def _forget(self, now: float) -> None:
        """Drop instances that were silent for `DEAD_SECONDS`, and those that died so long ago.

        An instance that is alive after all sends its next heartbeat.
        """
        self._received = {name: entry for name, entry in self._received.items() if now - entry[0] < DEAD_SECONDS}
        self._dead = {name: dead for name, dead in self._dead.items() if now - dead[0] < DEAD_SECONDS}

    def mark_dead(self, instance: str, now: float) -> None:
        """Note that an instance has died. A late heartbeat of it does not make it present again."""
        with self._lock:
            self._forget(now)
            if (entry := self._received.pop(instance, None)) is not None:
                self._dead[instance] = (now, entry[1])

    def present(self, now: float) -> dict[str, SchedulerHeartbeat]:
        """The present instances by name. This one is among them when it has received a heartbeat of its own."""
        with self._lock:
            return {name: beat for name, (at, beat) in self._received.items() if now - at < SILENT_SECONDS}

    def others(self, now: float) -> dict[str, SchedulerHeartbeat]:
        """The other present instances, by name."""
        return {name: beat for name, beat in self.present(now).items() if name != self._me}

    def dead(self) -> dict[str, SchedulerHeartbeat]:
        """The instances that died lately, by name, with their last heartbeat."""
        with self._lock:
            return {name: beat for name, (_, beat) in self._dead.items()}

    def has_active(self, now: float) -> bool:
        """Whether another instance is present that is no passive standby."""
        return any(not beat.passive for beat in self.others(now).values())

    def is_alone(self, now: float) -> bool:
        """Whether no other active instance is present. False while this one has not received its own heartbeat."""
        return self._me in self.present(now) and not self.has_active(now)

    def has_warm(self, partition: int, now: float) -> bool:
        """Whether another instance holds an up-to-date store of the partition."""
        return any(has_warm_store(beat, partition) for beat in self.others(now).values())

    def followed(self, partitions: int, replicas: int | None, now: float) -> set[int] | None:
        """The partitions for which this instance should stand by while it does not own them.

        Args:
            partitions: number of partitions of the cluster.
            replicas: standbys for each partition; None for the default.

        Returns:
            Numbers of partitions. None until this instance receives its own heartbeat: until then it may have received
            none of the others either.
        """
        present = self.present(now)
        if self._me not in present:
            return None
        if present[self._me].passive:
            return set(range(partitions))
        owners = {report.partition: name for name, beat in present.items() for report in owned(beat)}
        # Passive standbys follow all partitions in any case, and the group nominates none of them.
        me, names = _stable_name(self._me), {_stable_name(name) for name, beat in present.items() if not beat.passive}
        asked = (partitions, replicas, owners, names)
        known, found = self._followed
        if known != asked:
            found = {p for p in range(partitions) if stands_by(p, me, names, _stable_name(owners.get(p, "")), replicas)}
            self._followed = asked, found
        return found


def lifelines(peers: Mapping[str, SchedulerHeartbeat], host: str) -> dict[str, tuple[str, int]]:
    """Host and port of the lifeline of each peer that `host` can reach. A loopback address serves its own host only."""
    found = {}
    for name, beat in peers.items():
        where, _, port = beat.lifeline.rpartition(":")
        if not port.isdigit() or (is_loopback(where) and beat.host != host):
            continue
        found[name] = (beat.host if where in EVERY_INTERFACE else where, int(port))
    return found


def owned(heartbeat: SchedulerHeartbeat) -> Iterator[PartitionReport]:
    """The reports of the partitions for which the instance decides, or is about to."""
    return (report for report in heartbeat.partitions if report.role in OWNS)


def has_warm_store(heartbeat: SchedulerHeartbeat, partition: int) -> bool:
    """Whether the instance holds an up-to-date store of the partition."""
    return any(report.partition == partition and report.role in WARM for report in heartbeat.partitions)


def _stable_name(instance: str) -> str:
    """Return an instance's name without its process id. A process that restarts keeps this name and its stores."""
    return instance.rpartition(":")[0]
