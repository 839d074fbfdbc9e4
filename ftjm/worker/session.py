"""One worker session as the log sees it: its numbers, its lease, what it holds. Pure: time comes as an argument.

Times named `now` and deadlines are CLOCK_BOOTTIME milliseconds, which go on while the host sleeps.
"""

import msgspec

from ftjm.core.identity import partition_for
from ftjm.core.messages import Dispatch, RunAttempt, SessionState, SlotOffer, WorkerHeartbeat
from ftjm.worker.offers import Offers
from ftjm.worker.protocol import Checkpointed

GUARD_MARGIN_MS = 500
"""G: the guard or the supervisor runs within this of a deadline."""
CLOCK_RATE = 0.98
"""The worker's clock may be this much slower than the owner's: each may be 1 % off, in opposite directions. Half of it
would leave no room for the whole milliseconds that both count in: a simulated history had two attempts overlap."""
HEARTBEATS_PER_LEASE = 5
LINGER_MS = 2_000
"""How long a session that takes nothing new still listens, once the log has said so: an owner may have dispatched to
it just before, and an attempt that nobody declines waits for a whole lease."""
LINGER_DRAINING_MS = 500
"""The same for a process that wants to leave."""
MISSING_MAX = 1_000
SETTLE_MS = 250
"""How long after that an owner may still dispatch to it: declining sooner would bring the same job back at once."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same over all sessions of one worker process."""

    worker: str
    host: str
    pid: int
    slots: int
    queues: tuple[str, ...]
    partitions: int
    """Of `commands`."""
    lanes: int
    """Of `dispatch`."""
    lease_ms: int


class Held(msgspec.Struct):
    """An attempt that the session holds."""

    key: str
    """`queue/job_id/attempt`: no two attempts share one."""
    order: RunAttempt
    started_at: int = 0
    """Wall clock, ms; 0 until the guard has started it."""
    started_boot: int = 0
    told: bool = False
    """Whether `StartAttempt` was sent."""
    expired: bool = False
    """Whether it was told to stop because its time is over."""
    said: Checkpointed | None = None
    """How far it has come, where the log has not been told yet."""

    @property
    def extension_ms(self) -> int:
        return self.order.spec.continue_for_ms


def attempt_key(queue: str, job_id: str, attempt: int) -> str:
    """The key of an attempt: `queue/job_id/attempt`."""
    return f"{queue}/{job_id}/{attempt}"


class Session:
    """One session: from its first heartbeat to its last."""

    def __init__(self, name: str, identity: Identity) -> None:
        self.name = name
        self.identity = identity
        self.lane = partition_for(name, identity.lanes)
        self.opened = False
        """Whether its lane is being read: before that, no heartbeat may invite a dispatch."""
        self.retired = False
        """Takes nothing new, for ever: lapsed, closed by an owner, or its guard was lost. Never undone."""
        self.lapsed = False
        """Was seen past its deadline once."""
        self.held: dict[str, Held] = {}
        self.refused: list[RunAttempt] = []
        """What came although it takes nothing new, to be declined once owners have noticed."""
        self.unconfirmed = 0
        """Reports that are sent, and not yet in the log."""
        self.offers = Offers(partition_for(queue, identity.partitions) for queue in identity.queues)
        self._last: dict[int, int] = {}
        self._missing: set[tuple[int, int]] = set()
        """Partitions and numbers that others have overtaken."""
        self._closed_by: set[int] = set()
        self._acknowledged: int | None = None
        self._first_sent: int | None = None
        """The token of the first heartbeat."""
        self._silent_from: int | None = None
        """The token of the first heartbeat that offered nothing any more."""
        self._silent_known_at: int | None = None
        """When that one was acknowledged."""
        self._beaten: int | None = None
        self._told = False
        """Whether anybody may have heard of it."""

    @property
    def acknowledged_at(self) -> int | None:
        """When the newest heartbeat that the log has was sent; None before the first."""
        return self._acknowledged

    @property
    def deadline_ms(self) -> int | None:
        """Until when its attempts may run (plus their own extension); None before a heartbeat was acknowledged."""
        return self._deadline(self._acknowledged)

    def _deadline(self, token: int | None) -> int | None:
        return None if token is None else token + int(CLOCK_RATE * self.identity.lease_ms) - GUARD_MARGIN_MS

    def in_lease(self, now: int) -> bool:
        """Whether an attempt may start now."""
        deadline = self.deadline_ms
        return not self.lapsed and deadline is not None and now < deadline

    def observe(self, now: int) -> bool:
        """Notice that the deadline has passed; True when that is new. It is never undone."""
        deadline = self.deadline_ms
        if self.lapsed or deadline is None or now < deadline:
            return False
        self.lapsed = True
        self.retire()
        return True

    def retire(self) -> None:
        """Take nothing new any more, and say so at once."""
        if not self.retired:
            self.retired = True
            self.hasten()

    def overdue(self, now: int) -> list[Held]:
        """The attempts whose own deadline has passed, each told once."""
        deadline = self.deadline_ms
        if deadline is None:
            return []
        late = [held for held in self.held.values() if not held.expired and now >= deadline + held.extension_ms]
        for held in late:
            held.expired = True
        return late

    def heartbeat_due(self) -> int | None:
        """When the next heartbeat is due; None if at once."""
        if self._beaten is None:
            return None
        return self._beaten + self.identity.lease_ms // HEARTBEATS_PER_LEASE

    def hasten(self) -> None:
        """The next heartbeat has news, and is due at once."""
        self._beaten = None

    def heartbeat(self, now: int, state: SessionState) -> tuple[int, WorkerHeartbeat]:
        """A heartbeat to produce right now, and the token that `acknowledged` takes once the log has it.

        `now` must be read before the produce call.
        """
        self._beaten = now
        self._first_sent = now if self._first_sent is None else self._first_sent
        self._told = True
        silent = self.retired or state is not SessionState.OPEN
        if silent and self._silent_from is None:
            self._silent_from = now
        return now, WorkerHeartbeat(
            session=self.name,
            worker=self.identity.worker,
            host=self.identity.host,
            pid=self.identity.pid,
            state=SessionState.DRAINING if self.retired and state is SessionState.OPEN else state,
            lane=self.lane,
            lease_ms=self.identity.lease_ms,
            slots=len(self.held) if self.retired else self.identity.slots,
            busy=len(self.held),
            queues=list(self.identity.queues),
            offers=_nothing(self.offers.messages()) if silent else self.offers.messages(),
        )

    def acknowledged(self, token: int, now: int) -> None:
        """The log has the heartbeat of this token. Older ones that come late change nothing."""
        first_deadline = self._deadline(self._first_sent)
        if self._acknowledged is None and first_deadline is not None and now >= first_deadline:
            # An owner may have heard the first one long before we knew, dispatched to us, and given us up since.
            self.lapsed = True
            self.retire()
        self._acknowledged = token if self._acknowledged is None else max(token, self._acknowledged)
        if self._silent_from is not None and token >= self._silent_from and self._silent_known_at is None:
            self._silent_known_at = now

    def accept(self, message: Dispatch) -> bool:
        """Whether this message is for us, and did not come before.

        Where one is missing, because its lane has lost it or it comes later, the session takes nothing new any more:
        what is lost waits for its end.
        """
        source, expected = message.partition, self._last.get(message.partition, 0) + 1
        if message.session != self.name or source in self._closed_by:
            return False
        if message.number < expected:
            late = (source, message.number) in self._missing
            self._missing.discard((source, message.number))
            return late
        if message.number > expected:
            self.retire()
            lacking = range(max(expected, message.number - MISSING_MAX), message.number)
            self._missing.update((source, number) for number in lacking)
        self._last[source] = message.number
        return True

    def closed_by(self, partition: int) -> list[Held]:
        """The owner of `partition` has given this session up; what must stop because of that."""
        self._closed_by.add(partition)
        self.retire()
        lost = [
            held
            for held in self.held.values()
            if held.order.partition == partition and not held.extension_ms and not held.expired
        ]
        for held in lost:
            held.expired = True
        return lost

    def live(self) -> dict[int, int]:
        """How many attempts of each partition it holds."""
        count: dict[int, int] = {}
        for held in self.held.values():
            count[held.order.partition] = count.get(held.order.partition, 0) + 1
        return count

    def closes_at(self, *, draining: bool) -> int | None:
        """When it may say farewell; None while it may not: something runs, or the log lacks a report.

        Only for a session that is retired or draining. An owner may take the farewell to mean that no report will
        come.
        """
        if self.held or self.unconfirmed or self.refused:
            return None
        if draining and self._told and self._silent_known_at is None and self._silent_from is not None:
            # Nothing is left to say, so a log out of reach need not hold the process up.
            return self._silent_from + self.identity.lease_ms
        return self._silent_for(LINGER_DRAINING_MS if draining else LINGER_MS)

    def declines_at(self) -> int | None:
        """When what was refused should be declined; None while owners may think that it offers slots."""
        return self._silent_for(SETTLE_MS)

    def _silent_for(self, ms: int) -> int | None:
        """When the log has said for so long that it offers nothing. There is no bound without the log: owners that
        were cut off with us count on what they heard last."""
        if not self._told:
            return 0
        return None if self._silent_known_at is None else self._silent_known_at + ms


def _nothing(offers: list[SlotOffer]) -> list[SlotOffer]:
    # A higher number than any before: an owner keeps the newest, and must not go back to an older one.
    return [SlotOffer(partition=offer.partition, number=offer.number + 1, slots=0) for offer in offers]
