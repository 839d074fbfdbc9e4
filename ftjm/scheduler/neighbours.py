"""What this instance does because of others: which partitions it stands by for, and what it inherits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping

from ftjm import logs
from ftjm.adapters.lifelines import Lifelines
from ftjm.config import Settings
from ftjm.core.messages import SchedulerHeartbeat
from ftjm.scheduler.peers import SILENT_SECONDS, Fallen, Peers, lifelines
from ftjm.scheduler.runner import Role, Runner

log = logs.get(__name__)

UNFOLLOW_SECONDS = 10.0
"""A partition that should be followed no more still is for so long: instances that restart are missed briefly."""


class Neighbours:
    """Made with the process's runners; `hear` and `place` are called by the thread that hears heartbeats."""

    def __init__(self, settings: Settings, instance: str, runners: Mapping[int, Runner]) -> None:
        self._replicas = settings.standby_replicas
        self._host = settings.metrics_host
        self._runners = runners
        self._lock = threading.Lock()
        self._peers = Peers(instance)
        self._unwanted: dict[int, float] = {}
        self._inherited: dict[tuple[int, str], int] = {}
        """What has fallen to this instance, of whom, and the epoch then."""
        self._alone_since: float | None = None
        self.alone = False
        """Whether no other active instance is there; known for sure."""
        self._lifelines = Lifelines(self._host, self._died)
        self.placed = threading.Event()
        """Set once it is known what to stand by for."""

    @property
    def lifeline(self) -> str:
        """Where others hold on to this process: `host:port`."""
        return f"{self._host}:{self._lifelines.port}"

    @property
    def active(self) -> bool:
        """Whether another instance that is no passive standby is there."""
        return self._peers.active(time.monotonic())

    def warm(self, partition: int) -> bool:
        """Whether another instance holds a store of the partition that is up to date, or owns it."""
        return self._peers.warm(partition, time.monotonic())

    def hear(self, heartbeat: SchedulerHeartbeat, age_ms: int) -> None:
        """Take in what an instance, perhaps this one, told so long ago: it may have died since."""
        self._peers.hear(heartbeat, time.monotonic() - age_ms / 1000)

    def confirm(self, at: float) -> None:
        """All that was told before `at` (monotonic clock) has been heard.

        An instance whose lane is without a leader is silent for as long as an election takes, and is heard again soon
        after that. So who is alone has to be so twice.
        """
        if not self._peers.alone(time.monotonic()):
            self._alone_since = None
        elif self._alone_since is None:
            # Not `at`: the lanes' ends may have been waited for through the very election.
            self._alone_since = time.monotonic()
        self.alone = self._alone_since is not None and at - self._alone_since >= SILENT_SECONDS

    def place(self) -> None:
        """Follow the partitions that this instance should stand by for, and after a while no others."""
        now = time.monotonic()
        wanted = self._peers.followed(len(self._runners), self._replicas, now)
        if wanted is None:
            return
        for number, runner in self._runners.items():
            if number in wanted or runner.role in (Role.OWNER, Role.TAKING_OVER):
                self._unwanted.pop(number, None)
                if number in wanted and not runner.followed:
                    runner.follow(True)
            elif runner.followed and now - self._unwanted.setdefault(number, now) > UNFOLLOW_SECONDS:
                runner.follow(False)
        self.placed.set()
        self._lifelines.watch(lifelines(self._peers.others(now), socket.gethostname()))
        if self._peers.mourning:
            self._inherit(now)

    def _died(self, instance: str) -> None:
        """An instance's process is gone: what it owned and what falls to us is taken over before the group knows."""
        now = time.monotonic()
        self._peers.bury(instance, now)
        log.warning("peer_died", instance=instance, inherited=self._inherit(now))

    def _inherit(self, now: float) -> list[int]:
        """Take what falls to this instance and did not before. A death may be known before the rest is."""
        last = {p: runner.last for p, runner in self._runners.items()}
        orphaned = {p: runner.orphaned for p, runner in self._runners.items() if runner.orphaned >= 0}
        with self._lock:
            fallen = self._peers.inheritance(now, last, orphaned)
            found = [one for one in fallen if self._falls(one)]
            self._inherited |= {(one.partition, one.of): one.epoch for one in found}
        for one in found:
            self._runners[one.partition].inherit(one.epoch)
        return sorted(one.partition for one in found)

    def _falls(self, fallen: Fallen) -> bool:
        """Whether it has not fallen to this instance before: by a newer batch of the dead one only where this instance
        has not led since, or else that one lives and has come back."""
        before = self._inherited.get((fallen.partition, fallen.of))
        return before is None or (fallen.epoch > before and self._runners[fallen.partition].led <= before)

    def close(self) -> None:
        self._lifelines.close()
