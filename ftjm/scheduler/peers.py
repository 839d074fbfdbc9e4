"""The other schedulers, as their heartbeats tell, and what becomes of the partitions of one that has died."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ftjm.core.messages import PartitionReport, SchedulerHeartbeat
from ftjm.engine.placement import ranked, stands_by
from ftjm.metrics.server import is_loopback

SILENT_SECONDS = 3.0
"""A scheduler says something every second: one that was silent for this long is not counted as there."""
DEAD_SECONDS = 30.0
"""So long a dead instance is remembered; then its partitions have long been nominated elsewhere."""
_NONE: Mapping[int, int] = {}
OWNS = frozenset({"owner", "taking-over"})
EVERY_INTERFACE = frozenset({"0.0.0.0", "::"})  # noqa: S104  (recognised, not listened on)
WARM = frozenset({"owner", "standby"})


class Fallen(NamedTuple):
    """A partition that nobody decides for."""

    partition: int
    epoch: int
    """Of its newest batch."""
    of: str
    """The instance that has died, or another name for why it is nobody's: it falls to an heir once for each."""


class Peers:
    """Those who were heard lately. Times are seconds of any steady clock; may be used from any thread."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[float, SchedulerHeartbeat]] = {}
        self._dead: dict[str, tuple[float, SchedulerHeartbeat]] = {}

    def hear(self, heartbeat: SchedulerHeartbeat, now: float) -> None:
        """Take in what an instance, perhaps this one, tells."""
        with self._lock:
            self._forget(now)
            if heartbeat.leaving:
                self._heard.pop(heartbeat.instance, None)
                return
            dead = self._dead.get(heartbeat.instance)
            if dead is None or dead[1].lifeline != heartbeat.lifeline:
                # In a container, a new process has the name and the number of the one before it.
                self._dead.pop(heartbeat.instance, None)
                self._heard[heartbeat.instance] = (now, heartbeat)

    def _forget(self, now: float) -> None:
        """Who was silent for long; and the dead, since one that was taken for dead and lives still says so."""
        self._heard = {name: heard for name, heard in self._heard.items() if now - heard[0] < DEAD_SECONDS}
        self._dead = {name: dead for name, dead in self._dead.items() if now - dead[0] < DEAD_SECONDS}

    def bury(self, instance: str, now: float) -> None:
        """The instance is known to have died; a heartbeat of it that is still under way does not revive it."""
        with self._lock:
            self._forget(now)
            if (heard := self._heard.pop(instance, None)) is not None:
                self._dead[instance] = (now, heard[1])

    def present(self, now: float) -> dict[str, SchedulerHeartbeat]:
        """All that were heard lately, by the names of their processes; this one too, once it has heard itself."""
        with self._lock:
            return {name: beat for name, (at, beat) in self._heard.items() if now - at < SILENT_SECONDS}

    def others(self, now: float) -> dict[str, SchedulerHeartbeat]:
        return {name: beat for name, beat in self.present(now).items() if name != self._me}

    def active(self, now: float) -> bool:
        """Whether another instance that is no passive standby is there."""
        return any(not beat.passive for beat in self.others(now).values())

    def alone(self, now: float) -> bool:
        """Whether no other active instance is there, by one that hears itself: else it knows nothing of others."""
        return self._me in self.present(now) and not self.active(now)

    @property
    def mourning(self) -> bool:
        """Whether an instance has died lately."""
        return bool(self._dead)

    def warm(self, partition: int, now: float) -> bool:
        """Whether another instance holds an up-to-date store of the partition."""
        return any(
            report.partition == partition and report.role in WARM
            for beat in self.others(now).values()
            for report in beat.partitions
        )

    def followed(self, partitions: int, replicas: int | None, now: float) -> set[int] | None:
        """The partitions that this instance should stand by for, if it does not own them.

        None while it does not even hear itself: then it knows nothing of the others either.
        """
        present = self.present(now)
        if self._me not in present:
            return None
        if present[self._me].passive:
            return set(range(partitions))
        owners = {report.partition: name for name, beat in present.items() for report in filter(owns, beat.partitions)}
        # Passive ones hold all of them anyhow, and the group nominates none of them.
        me, names = _lasting(self._me), {_lasting(name) for name, beat in present.items() if not beat.passive}
        return {p for p in range(partitions) if stands_by(p, me, names, _lasting(owners.get(p, "")), replicas)}

    def inheritance(
        self, now: float, last: Mapping[int, tuple[str, int]], orphaned: Mapping[int, int] = _NONE
    ) -> Iterator[Fallen]:
        """Partitions of instances that have died, and that fall to this one.

        Args:
            last: who wrote the newest batch of a partition that was folded here, and its epoch: an owner that died at
                once may never have told that it was one.
            orphaned: partitions that this instance led until somebody fenced it who has written nothing, and the
                epoch of their newest batch: unless somebody claims one, it was whoever has died lately.

        Whoever has a warm store comes before others, active ones before passive ones, and among equals the
        partition's ranking decides. Two who differ in what they have heard may both think it theirs: then the fence
        decides, as ever.
        """
        with self._lock:
            dead = {name: beat for name, (_, beat) in self._dead.items()}
        present = self.present(now)
        claimed = {r.partition: r.owner_epoch for beat in present.values() for r in beat.partitions if owns(r)}
        of_others = {r.partition for beat in self.others(now).values() for r in beat.partitions if owns(r)}
        left = {p: Fallen(p, epoch, owner) for p, (owner, epoch) in last.items() if owner in dead}
        if dead:
            left |= {p: Fallen(p, epoch, f"epoch {epoch}") for p, epoch in orphaned.items() if p not in of_others}
        for name, beat in dead.items():
            for report in filter(owns, beat.partitions):
                known = left.get(report.partition)
                if known is None or known.epoch < report.owner_epoch:
                    left[report.partition] = Fallen(report.partition, report.owner_epoch, name)
        for fallen in left.values():
            if fallen.epoch >= claimed.get(fallen.partition, -1) and self._heir(fallen.partition, present) == self._me:
                yield fallen

    def _heir(self, partition: int, present: dict[str, SchedulerHeartbeat]) -> str:
        warm = [
            name
            for name, beat in present.items()
            if any(report.partition == partition and report.role in WARM for report in beat.partitions)
        ]
        active = [name for name in warm if not present[name].passive]
        return next(iter(ranked(partition, active or warm)), "")


def lifelines(peers: Mapping[str, SchedulerHeartbeat], host: str) -> dict[str, tuple[str, int]]:
    """Where to hold on to each peer that can be reached from `host`: a loopback address is of its own host only."""
    found = {}
    for name, beat in peers.items():
        where, _, port = beat.lifeline.rpartition(":")
        if not port.isdigit() or (is_loopback(where) and beat.host != host):
            continue
        found[name] = (beat.host if where in EVERY_INTERFACE else where, int(port))
    return found


def owns(report: PartitionReport) -> bool:
    """Whether who tells this decides for the partition, or is about to."""
    return report.role in OWNS


def _lasting(instance: str) -> str:
    """An instance's name without its process id: where its stores are, so that it finds them after a restart."""
    return instance.rpartition(":")[0]
