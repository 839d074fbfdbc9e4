"""Who is there: worker sessions as their heartbeats tell, on this process's own clock.

Nothing here is truth, and none of it is stored. Times are CLOCK_BOOTTIME milliseconds of this host.

A lease is never a time that somebody wrote down: silence is measured from *consuming* the last heartbeat, which
is later than its sending, so an owner never gives a session up before its worker has stopped. It is measured up
to a moment for which it is known that the lanes were read to the end they had then: what was sent before that
moment has been heard.
"""

import threading
from collections import Counter
from collections.abc import Mapping

import msgspec

from ftjm.core.matching import Offer
from ftjm.core.messages import SessionState, WorkerHeartbeat
from ftjm.core.names import is_name
from ftjm.core.state import State
from ftjm.engine.partition import Lapse

FRESH_PART = 0.6
"""Of its lease: a session that was silent for longer gets no new work."""
STALL_MS = 1_000
"""A pause of our own that makes all silences start again."""
CONFIRM_EVERY_MS = 1_000
"""For sessions that a new owner has never heard."""
SESSIONS_MAX = 1_000
FORGET_MS = 600_000


LEASE_MS_MIN = 1_000
LEASE_MS_MAX = 24 * 3_600_000


def plausible(heartbeat: WorkerHeartbeat) -> bool:
    """Whether a heartbeat is such as a worker of ours would send: what it says becomes part of events and keys."""
    return (
        is_name(heartbeat.session)
        and is_name(heartbeat.worker)
        and all(is_name(queue) for queue in heartbeat.queues)
        and LEASE_MS_MIN <= heartbeat.lease_ms <= LEASE_MS_MAX
        and heartbeat.lane >= 0
    )


class Heard(msgspec.Struct):
    """The last heartbeat of a session, and when it was consumed."""

    heartbeat: WorkerHeartbeat
    at: int


class Liveness:
    """Fed by the reader of the heartbeat lanes; asked by every partition that the process owns."""

    def __init__(self, now: int) -> None:
        self._lock = threading.Lock()
        self._heard: dict[str, Heard] = {}
        self._ticked = now
        self._since = now
        self._confirmed = now
        self.changed = 0
        """Counts the changes of what is offered, so that partitions need not compare."""

    def tick(self, now: int) -> None:
        """To be called at least every `STALL_MS / 2`: a gap is a stall of our own."""
        with self._lock:
            if now - self._ticked > STALL_MS:
                self._since = now
            self._ticked = now

    def heard(self, heartbeat: WorkerHeartbeat, now: int) -> None:
        """A heartbeat was consumed."""
        with self._lock:
            before = self._heard.get(heartbeat.session)
            self._heard[heartbeat.session] = Heard(heartbeat, now)
            if (
                before is None
                or before.heartbeat.state != heartbeat.state
                or before.heartbeat.offers != heartbeat.offers
                or before.heartbeat.queues != heartbeat.queues
            ):
                self.changed += 1
            if len(self._heard) > SESSIONS_MAX:
                self._heard = {name: h for name, h in self._heard.items() if now - h.at < FORGET_MS}

    def confirm(self, now: int) -> None:
        """All that was told before `now` has been heard."""
        with self._lock:
            self._confirmed = max(self._confirmed, now)

    def suspects(self, now: int) -> bool:
        """Whether it should be confirmed now: a lease has run out since that was done last."""
        with self._lock:
            if now - self._confirmed >= CONFIRM_EVERY_MS:
                return True
            ends = (max(h.at, self._since) + h.heartbeat.lease_ms for h in self._heard.values())
            return any(self._confirmed < end <= now for end in ends)

    def census(self) -> Counter[str]:
        """How many sessions were heard within their lease, by state."""
        with self._lock:
            return Counter(
                heard.heartbeat.state.lower()
                for heard in self._heard.values()
                if self._ticked - heard.at <= heard.heartbeat.lease_ms
            )

    def _silence(self, heard: Heard | None, until: int, since: int = 0) -> int:
        return until - max(heard.at if heard else 0, self._since, since)

    def offers(self, partition: int, now: int, declined: Mapping[str, int] | None = None) -> list[Offer]:
        """What open sessions that were heard lately offer `partition`.

        `declined` tells when a session sent an attempt back: until it is heard again it has no room.
        """
        declined = declined or {}
        with self._lock:
            return [
                Offer(h.session, h.worker, h.lane, h.lease_ms, tuple(h.queues), offer.number, offer.slots)
                for heard in self._heard.values()
                for h in (heard.heartbeat,)
                if h.state is SessionState.OPEN and now - heard.at <= FRESH_PART * h.lease_ms
                if heard.at > declined.get(h.session, -1)
                for offer in h.offers
                if offer.partition == partition
            ]

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

    def lapses(self, state: State, since: int) -> list[Lapse]:
        """Sessions of a partition, owned since `since`, that fell silent past their lease, or closed.

        A session that is already given up is told of again while it holds attempts that may continue through a
        cut: their time comes later.
        """
        found = []
        for name, row in state.sessions():
            with self._lock:
                heard = self._heard.get(name)
                closed = heard is not None and heard.heartbeat.state is SessionState.CLOSED
                silent_ms = self._silence(heard, self._confirmed, since)
            if row.lost and row.live == 0:
                continue
            if closed and row.live == 0:
                # With attempts left, their reports are on the way: it closes only when the log has them.
                found.append(Lapse(name, 0, closed=True))
            elif silent_ms >= row.lease_ms and (not row.lost or self._runs_out(state, name, row.lease_ms, silent_ms)):
                found.append(Lapse(name, silent_ms))
        return found

    @staticmethod
    def _runs_out(state: State, name: str, lease_ms: int, silent_ms: int) -> bool:
        jobs = [state.job(key) for key in state.attempts(name)]
        return any(job is not None and silent_ms >= lease_ms + job.continue_for_ms for job in jobs)
