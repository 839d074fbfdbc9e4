"""What this instance does because of the other schedulers: stand by for partitions, take over from dead owners.

Which partitions it stands by for follows from `scheduler/peers.py`, which partitions of a dead owner fall to it from
`scheduler/heirs.py`. This file watches the lifelines of its peers and tells the partitions' runners.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping

from ftjm.core.records.messages import SchedulerHeartbeat
from ftjm.runtime import logs
from ftjm.runtime.config import Settings
from ftjm.scheduler.heirs import OrphanedPartition, inherited
from ftjm.scheduler.lifelines import Lifelines
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.partition_runner import Runner
from ftjm.scheduler.peers import SILENT_SECONDS, Peers, lifelines

log = logs.get(__name__)

UNFOLLOW_SECONDS = 10.0
"""A partition that is no longer needed here is still followed for this long: perhaps another instance only restarts."""


class StandbyPlacement:
    """Decides which partitions this instance stands by for and inherits.

    The thread that reads heartbeats calls `receive`, `confirm` and `place`. Any thread may read the properties.
    """

    def __init__(self, settings: Settings, instance: str, runners: Mapping[int, Runner]) -> None:
        self._me = instance
        self._replicas = settings.standby_replicas
        self._host = settings.metrics_host
        self._runners = runners
        self._lock = threading.Lock()
        self._peers = Peers(instance)
        self._unwanted: dict[int, float] = {}
        self._inherited: dict[tuple[int, str], int] = {}
        """Partitions that fell to this instance, each with the dead owner: the epoch of the partition at that time."""
        self._alone_since: float | None = None
        self.alone = False
        """Whether it is certain that no other active instance is present."""
        self._lifelines = Lifelines(self._host, self._died)
        self.placed = threading.Event()
        """Set once it is known which partitions this instance should stand by for."""

    @property
    def lifeline(self) -> str:
        """Address to which the other schedulers hold a connection: `host:port`."""
        return f"{self._host}:{self._lifelines.port}"

    @property
    def has_active_peer(self) -> bool:
        """Whether another instance is present that is not a passive standby."""
        return self._peers.has_active(time.monotonic())

    def has_warm_peer(self, partition: int) -> bool:
        """Whether another instance holds an up-to-date store of the partition, or owns it."""
        return self._peers.has_warm(partition, time.monotonic())

    def receive(self, heartbeat: SchedulerHeartbeat, age_ms: int) -> None:
        """Take in a heartbeat that is `age_ms` old, perhaps of this instance. Its sender may have died since."""
        self._peers.receive(heartbeat, time.monotonic() - age_ms / 1000)

    def confirm(self, at: float) -> None:
        """All heartbeats that were sent before `at` (monotonic clock, seconds) have been received.

        An instance whose lane has no leader seems silent for as long as an election takes.
        So this instance counts as alone only if it finds itself alone twice.
        """
        if not self._peers.is_alone(time.monotonic()):
            self._alone_since = None
        elif self._alone_since is None:
            # Not `at`: reading the lanes to their ends may have waited for the election.
            self._alone_since = time.monotonic()
        self.alone = self._alone_since is not None and at - self._alone_since >= SILENT_SECONDS

    def place(self) -> None:
        """Follow the partitions that this instance should stand by for, and stop following the others after a while."""
        now = time.monotonic()
        wanted = self._peers.followed(len(self._runners), self._replicas, now)
        if wanted is None:
            return
        for number, runner in self._runners.items():
            if number in wanted or runner.role in (Role.OWNER, Role.TAKING_OVER):
                self._unwanted.pop(number, None)
                if number in wanted and not runner.ownership.followed:
                    runner.follow(True)
            elif runner.ownership.followed and now - self._unwanted.setdefault(number, now) > UNFOLLOW_SECONDS:
                runner.follow(False)
        self.placed.set()
        self._lifelines.watch(lifelines(self._peers.others(now), socket.gethostname()))
        if self._peers.dead():
            self._take_over_from_dead(now)

    def _died(self, instance: str) -> None:
        """The process of an instance has ended. Take over what falls to this instance, before the group notices."""
        now = time.monotonic()
        self._peers.mark_dead(instance, now)
        inherited = self._take_over_from_dead(now)
        todo = "start it again; until then others own its partitions"
        log.warning("peer_died", instance=instance, inherited=inherited, todo=todo)

    def _take_over_from_dead(self, now: float) -> list[int]:
        """Take over the partitions that fall to this instance and did not before. Returns them, sorted.

        It is called again after a death, because heartbeats that decide the question may arrive later.
        """
        ownerships = {p: runner.ownership for p, runner in self._runners.items()}
        newest_owners = {p: ownership.newest_owner for p, ownership in ownerships.items()}
        orphaned = {p: ownership.orphaned_epoch for p, ownership in ownerships.items() if ownership.orphaned_epoch >= 0}
        with self._lock:
            mine = inherited(self._me, self._peers.present(now), self._peers.dead(), newest_owners, orphaned)
            found = [orphan for orphan in mine if self._is_new(orphan)]
            self._inherited |= {(orphan.partition, orphan.dead_owner): orphan.epoch for orphan in found}
        for orphan in found:
            self._runners[orphan.partition].take_over_from(orphan.epoch)
        return sorted(orphan.partition for orphan in found)

    def _is_new(self, orphan: OrphanedPartition) -> bool:
        """Whether the partition did not fall to this instance before.

        It falls again by a newer batch of the dead owner only if this instance has not decided since. Otherwise that
        owner is alive, and has taken its partition back.
        """
        before = self._inherited.get((orphan.partition, orphan.dead_owner))
        led_epoch = self._runners[orphan.partition].ownership.led_epoch
        return before is None or (orphan.epoch > before and led_epoch <= before)

    def close(self) -> None:
        """Close the lifelines."""
        self._lifelines.close()
