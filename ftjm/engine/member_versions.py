"""The versions that the builds of all present members support: schedulers, workers and APIs.

Each member announces its build (`MemberVersion`) on the lane of its heartbeats, before the heartbeat. A member whose
heartbeats come without an announcement has a build that is older than announcements. A member that has sent neither for
`SILENT_MS`, or for its lease if that is longer, does not count. Times are milliseconds of any steady clock.

Nothing of this is stored or part of a partition's state. It only decides when an upgrade may be finalised.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec

from ftjm.core.decide.decision import Members
from ftjm.core.records.levels import UNANNOUNCED
from ftjm.core.records.messages import MemberVersion, SchedulerHeartbeat, SessionState, WorkerHeartbeat

SILENT_MS = 15_000
"""More than the pause between two heartbeats of a scheduler or an API, and of a worker with a short lease: it sends
five for each lease. A worker with a longer lease may be silent for that long."""
LISTEN_MS = 3_000
"""A process that has read heartbeats for less than this does not know the members yet."""
ANNOUNCE_MS = 1_000
"""Pause between two announcements of one member, unless a scheduler has just heard of a new worker."""
WORKER, SCHEDULER, API = "worker", "scheduler", "api"


class KnownMember(msgspec.Struct):
    """A member: its newest announcement, and when its last announcement or heartbeat was read."""

    version: MemberVersion
    at: int
    silent_ms: int = SILENT_MS
    """How long it may be silent before it counts no more."""


class MemberVersions:
    """The present members. Any thread may use it."""

    def __init__(self, now: int) -> None:
        self._since = now
        self._lock = threading.Lock()
        self._members: dict[str, KnownMember] = {}

    def receive_version(self, version: MemberVersion, now: int) -> bool:
        """Take in a member's announcement, read at `now`. Return whether the member is new."""
        with self._lock:
            known = self._members.get(version.member)
            if version.leaving:
                self._members.pop(version.member, None)
                return False
            silent_ms = known.silent_ms if known else SILENT_MS
            self._members[version.member] = KnownMember(version, now, silent_ms)
            return known is None

    def receive_worker(self, heartbeat: WorkerHeartbeat, now: int) -> None:
        """Take in a worker's heartbeat, read at `now`."""
        name = f"{heartbeat.worker}@{heartbeat.host}:{heartbeat.pid}"
        leaving = heartbeat.state is SessionState.CLOSED
        self._receive(heartbeat.session, name, WORKER, now, max(SILENT_MS, heartbeat.lease_ms), leaving=leaving)

    def receive_scheduler(self, heartbeat: SchedulerHeartbeat, now: int) -> None:
        """Take in a scheduler's heartbeat, read at `now`."""
        self._receive(heartbeat.instance, heartbeat.instance, SCHEDULER, now, SILENT_MS, leaving=heartbeat.leaving)

    def _receive(self, member: str, name: str, role: str, now: int, silent_ms: int, *, leaving: bool) -> None:
        with self._lock:
            if leaving:
                self._members.pop(member, None)
            elif (known := self._members.get(member)) is not None:
                known.at, known.silent_ms = now, silent_ms
            else:
                self._members[member] = KnownMember(_unannounced(member, name, role), now, silent_ms)

    def present(self, now: int) -> list[MemberVersion]:
        """Return the announcements of the present members, sorted by role and name."""
        with self._lock:
            self._members = {name: one for name, one in self._members.items() if now - one.at < one.silent_ms}
            found = [one.version for one in self._members.values()]
        return sorted(found, key=lambda version: (version.role, version.name))

    def level(self, member: str) -> int:
        """Return the record level of one member; the lowest level if it is not known."""
        with self._lock:
            known = self._members.get(member)
        return known.version.level if known else UNANNOUNCED

    def agreed(self, now: int) -> Members:
        """Return the versions that all present members support. For the first `LISTEN_MS`, none counts as supported."""
        if now - self._since < LISTEN_MS:
            return Members()
        return agreed(self.present(now))


def agreed(members: list[MemberVersion]) -> Members:
    """Return the versions that all of `members` support. Nothing counts as supported if there are none."""
    if not members:
        return Members()
    level = min(member.level for member in members)
    rows = min((member.state_version for member in _readers(members)), default=0)
    oldest = min(members, key=lambda member: (member.level, member.state_version or rows))
    return Members(level, rows, described(oldest))


def described(member: MemberVersion) -> str:
    """Return a member and its build, for a message: `worker w@host:1 (ftjm 0.1.0, level 1)`."""
    build = f"ftjm {member.release}" if member.release else "an ftjm that announces no version"
    rows = f", rows of version {member.state_version}" if member.state_version else ""
    return f"{member.role} {member.name} ({build}, level {member.level}{rows})"


def _readers(members: list[MemberVersion]) -> Iterator[MemberVersion]:
    """The members that read rows. For a scheduler that announces nothing, the version of rows counts as 0."""
    return (member for member in members if member.role != WORKER)


def _unannounced(member: str, name: str, role: str) -> MemberVersion:
    return MemberVersion(member=member, name=name, role=role, release="", level=UNANNOUNCED, state_version=0)
