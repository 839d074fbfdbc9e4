"""Leases and offers of worker sessions, as their heartbeats report them, on this process's own clock.

Nothing here is stored or replicated: it is an input to decisions. Times are CLOCK_BOOTTIME milliseconds of this host.

A lease is never an absolute time. An owner measures the silence of a session from the moment at which it *consumed* the
last heartbeat. That is later than its sending, so an owner never gives a session up before its worker has stopped:

    worker:  send ──── lease - margin ───► stops its attempts
    owner:        consume ──────── lease ────────────► the session has lapsed

The silence is measured up to a moment that is *confirmed*: the heartbeat lanes were read to the end that they had then,
so every heartbeat that was sent before that moment has been consumed. It begins anew when this process becomes owner,
and after a stall of this process, in which it may have consumed nothing.

An offer is a number of slots of a session for one partition, and of attempts that it holds ahead of them. It is used
while its session was heard recently (`FRESH_PART` of the lease) and has not sent an attempt for a free slot back since.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from ftjm.core.placement import Offer
from ftjm.core.records.messages import SessionState, WorkerHeartbeat
from ftjm.core.state.view import StateView
from ftjm.engine.batch import Lapse

FRESH_PART = 0.6
"""Part of its lease after which a silent session gets no new work."""
STALL_MS = 1_000
"""A pause of this process that makes all silences begin anew."""
CONFIRM_EVERY_MS = 1_000
"""Pause between confirmations while a partition has a session that its new owner has never heard."""
CONFIRM_SELDOM_MS = 30_000
"""The same while there is no such session. A lease that has run out is confirmed at once."""
SESSIONS_MAX = 1_000
"""Heartbeats are kept of this many sessions at least, however old they are."""
FORGET_MS = 600_000
"""Time since a heartbeat, and since a partition that this process owns last asked for it, after which it may be
forgotten. An attempt with `continue_for` is waited for by the time of its session's last heartbeat, which must be known
until then: its loss would look like a silence that began when this process became owner."""
SERVED_MS = 1_000
"""Age of what `served` returns, at most."""
PURGE_EVERY_MS = 10_000
"""Pause between two searches for heartbeats to forget."""


class LastHeartbeat(msgspec.Struct):
    """The last heartbeat of a session, and when it was consumed."""

    heartbeat: WorkerHeartbeat
    at: int
    needed_at: int
    """When a partition of this process last asked for it."""

    def is_past(self, now: int) -> bool:
        """Whether it may be forgotten: its lease is over, and no partition waits for the session."""
        return now - self.at >= max(FORGET_MS, self.heartbeat.lease_ms) and now - self.needed_at >= FORGET_MS


class Liveness:
    """Fed by the reader of the heartbeat lanes; asked by every partition that the process owns."""

    def __init__(self, now: int) -> None:
        self._lock = threading.Lock()
        self._heard: dict[str, LastHeartbeat] = {}
        self._ticked = now
        self._since = now
        self._confirmed = now
        self._purged = now
        self._unknown_end = False
        """Whether a partition has a session whose silence ends at a time that only the partition knows."""
        self._served: frozenset[str] = frozenset()
        self._served_at = now - SERVED_MS
        self.changed = 0
        """Counter of changes of what is offered, so that partitions need not compare offers."""

    def tick(self, now: int) -> None:
        """Call it at least every `STALL_MS / 2`. A longer gap counts as a stall of this process."""
        with self._lock:
            if now - self._ticked > STALL_MS:
                self._since = now
            self._ticked = now

    def receive(self, heartbeat: WorkerHeartbeat, now: int) -> None:
        """Take in a heartbeat that was read at `now`, ms of the boot clock."""
        with self._lock:
            before = self._heard.get(heartbeat.session)
            self._heard[heartbeat.session] = LastHeartbeat(heartbeat, now, now)
            if (
                before is None
                or before.heartbeat.state != heartbeat.state
                or before.heartbeat.offers != heartbeat.offers
                or before.heartbeat.queues != heartbeat.queues
                or now - before.at > FRESH_PART * heartbeat.lease_ms
            ):
                self.changed += 1
            if len(self._heard) > SESSIONS_MAX and now - self._purged >= PURGE_EVERY_MS:
                self._purged = now
                self._heard = {name: heard for name, heard in self._heard.items() if not heard.is_past(now)}

    def confirm(self, now: int) -> bool:
        """All heartbeats that were sent before `now` have been consumed.

        Returns:
            Whether a session may have lapsed by that, so that the partitions should look.
        """
        with self._lock:
            before, self._confirmed = self._confirmed, max(self._confirmed, now)
            lapsed = self._unknown_end or any(before < end <= self._confirmed for end in self._ends())
            self._unknown_end = False
            return lapsed

    def suspects_in_ms(self, now: int, pause_ms: int = CONFIRM_SELDOM_MS) -> int:
        """After how many ms a confirmation is needed, if no heartbeat arrives: a lease runs out, or the pause is over.

        Args:
            now: ms of the boot clock.
            pause_ms: longest pause between two confirmations.
        """
        with self._lock:
            pause_ms = CONFIRM_EVERY_MS if self._unknown_end else pause_ms
            ends = (end for end in self._ends() if end > self._confirmed)
            return max(0, min([self._confirmed + pause_ms, *ends]) - now)

    def _ends(self) -> Iterator[int]:
        """When the leases of the known sessions end, of those that have ended too."""
        return (max(h.at, self._since) + h.heartbeat.lease_ms for h in self._heard.values())

    def census(self) -> Counter[str]:
        """Number of sessions that were heard within their lease, by state."""
        with self._lock:
            return Counter(
                heard.heartbeat.state.lower()
                for heard in self._heard.values()
                if self._ticked - heard.at <= heard.heartbeat.lease_ms
            )

    def _silence(self, heard: LastHeartbeat | None, until: int, since: int = 0) -> int:
        return until - max(heard.at if heard else 0, self._since, since)

    def offers(self, partition: int, now: int, declined: Mapping[str, int] | None = None) -> list[Offer]:
        """Offers to `partition` of open sessions that were heard recently.

        Args:
            declined: when a session last declined an attempt. It has no room until it is heard again.
        """
        declined = declined or {}
        with self._lock:
            return [
                Offer(h.session, h.worker, h.lane, h.lease_ms, tuple(h.queues), offer.number, offer.slots, offer.ahead)
                for heard in self._heard.values()
                for h in (heard.heartbeat,)
                if h.state is SessionState.OPEN and now - heard.at <= FRESH_PART * h.lease_ms
                if heard.at > declined.get(h.session, -1)
                for offer in h.offers
                if offer.partition == partition
            ]

    def served(self, now: int) -> frozenset[str]:
        """Names of the queues that open sessions serve which were heard within their leases. It is at most
        `SERVED_MS` old: an owner asks at every step."""
        with self._lock:
            if now - self._served_at >= SERVED_MS:
                heartbeats = (h.heartbeat for h in self._heard.values() if now - h.at <= h.heartbeat.lease_ms)
                open_ones = (one for one in heartbeats if one.state is SessionState.OPEN)
                self._served = frozenset(queue for one in open_ones for queue in one.queues)
                self._served_at = now
            return self._served

    def taken(self, partition: int, now: int) -> dict[str, int]:
        """The number of each session's newest offer to `partition` that was heard."""
        with self._lock:
            return {
                heard.heartbeat.session: offer.number
                for heard in self._heard.values()
                if now - heard.at <= heard.heartbeat.lease_ms
                for offer in heard.heartbeat.offers
                if offer.partition == partition
            }

    def lapses(self, state: StateView, since: int) -> list[Lapse]:
        """Sessions of a partition, owned since `since`, that were silent for their lease, or have closed.

        A session that was given up is returned again while it holds attempts that may continue while it is cut off:
        they are lost later than their session.
        """
        found = []
        for name, row in state.open_sessions().items():
            with self._lock:
                heard = self._heard.get(name)
                if heard is not None:
                    heard.needed_at = self._ticked
                closed = heard is not None and heard.heartbeat.state is SessionState.CLOSED
                if heard is None or heard.at < since or row.lost:
                    self._unknown_end = True
                silent_ms = self._silence(heard, self._confirmed, since)
            if closed and row.live == 0:
                # While attempts are left, their reports are under way. The session closes when the log has them.
                found.append(Lapse(name, 0, closed=True))
            elif silent_ms >= row.lease_ms and (not row.lost or self._runs_out(state, name, row.lease_ms, silent_ms)):
                found.append(Lapse(name, silent_ms))
        return found

    @staticmethod
    def _runs_out(state: StateView, name: str, lease_ms: int, silent_ms: int) -> bool:
        jobs = [state.job(key) for key in state.attempts(name)]
        return any(job is not None and silent_ms >= lease_ms + job.continue_for_ms for job in jobs)
