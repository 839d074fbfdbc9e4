"""One session of a worker, as the log sees it: its lease, the messages of owners, the attempts that it holds. Pure.

**Lease.** A session is alive for the owners of partitions as long as its heartbeats reach the log. An owner that has
seen none for a whole lease gives the session up, and gives its attempts to other workers. So the worker must have
stopped them by then, by its own clock:

    deadline = when the newest acknowledged heartbeat was sent + CLOCK_RATE * lease - GUARD_MARGIN_MS

It counts from when the heartbeat was *sent* (its token), since the owner cannot have read it before. A worker learns by
the acknowledgement that the log has it. Each acknowledgement moves the deadline; a deadline that has passed once is
never moved: the session has lapsed, takes no new attempt, and the worker opens another session. A job with
`continue_for` may run that much longer; its owner waits for as long.

That is by this host's clock, which stands still while a hypervisor pauses the host. So the log's stamps are compared,
too (`brokers_clock.py`): if a lease lies between two heartbeats, the session has lapsed, whatever this clock says.

**Messages.** Each owner numbers its messages to a session from 1. A message that came before has no effect. Where a
number is missing, the lane has lost a message or delivers it later: the session takes no new attempt any more, so that
it ends, and with it the wait for the lost message. Requests to stop an attempt are taken for as long as the session
holds it, whatever has become of its lease: an attempt that may continue must not outlive its job.

**The end.** A session that takes no new attempt (lapsed, closed by an owner, guard lost, worker draining) reports that
by a heartbeat with offers of 0 slots. It keeps reading its lane for a while after the log has that heartbeat, because
an owner may have dispatched to it just before; such attempts are declined. It sends a heartbeat with the state CLOSED
once it holds no attempt and every report is in the log.

Times named `now` and all deadlines are CLOCK_BOOTTIME milliseconds, which keep counting while the host sleeps.
"""

import msgspec

from ftjm.core.identity import partition_for
from ftjm.core.records.commands import AttemptReport
from ftjm.core.records.messages import Dispatch, RunAttempt, SessionState, SlotOffer, WorkerHeartbeat
from ftjm.worker.rules.actions import Report
from ftjm.worker.rules.brokers_clock import BrokersClock
from ftjm.worker.rules.held import AtHand, HeldAttempt, HeldAttempts
from ftjm.worker.rules.slot_offers import Offers

GUARD_MARGIN_MS = 500
"""The guard, or the supervisor, acts on a deadline within this time."""
CLOCK_RATE = 0.98
"""The worker's clock may be this much slower than the owner's: each may be 1 % off, in opposite directions. Half of the
reserve is not enough, since both count in whole milliseconds: a simulated history then had two attempts overlap."""
HEARTBEATS_PER_LEASE = 5
LINGER_MS = 2_000
"""How long a session that takes no new attempt still reads its lane, once the log has the heartbeat that reports this.
An owner may have dispatched to it just before, and an attempt that is not declined waits for a whole lease."""
LINGER_DRAINING_MS = 500
"""As `LINGER_MS`, for a process that is about to leave."""
SETTLE_MS = 250
"""How long after that heartbeat an owner may still dispatch to the session. Declining sooner would bring the same job
back at once."""
MISSING_MAX = 1_000
"""Numbers of missing messages that are remembered, for each gap."""


class WorkerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The properties that all sessions of one worker process share."""

    worker: str
    host: str
    pid: int
    slots: int
    queues: tuple[str, ...]
    partitions: int
    """Number of partitions of the topic `commands`."""
    lanes: int
    """Number of partitions of the topic `dispatch`."""
    lease_ms: int
    ahead: int | None = 0
    """How many attempts it holds ahead of its slots; None if that follows from what it measures."""


# Same name as ftjm.readmodel.presence.WorkerSession: that is the same session as its heartbeats show it to others.
class WorkerSession:
    """One session, from its first heartbeat to its last."""

    def __init__(self, name: str, identity: WorkerIdentity) -> None:
        """Begin a session that has sent nothing yet. Its name is unique among all sessions, past ones included."""
        self.name = name
        self.identity = identity
        self.lane = partition_for(name, identity.lanes)
        self._holds_ms = int(CLOCK_RATE * identity.lease_ms) - GUARD_MARGIN_MS
        """From the sending of a heartbeat to the deadline that it gives."""
        self.opened = False
        """Whether its lane is being read. Before that, no heartbeat may invite a dispatch."""
        self.retired = False
        """Whether it takes no new attempt: it lapsed, an owner closed it, or its guard was lost. Never undone."""
        self.lapsed = False
        """Whether its deadline has passed once. Never undone."""
        self.held = HeldAttempts()
        """The attempts of the session that run, by their keys."""
        self.at_hand = AtHand()
        """The attempts that it was sent and has not started."""
        self.refused: list[RunAttempt] = []
        """Attempts that it takes no more and has not started, to be declined once owners know that."""
        self.unconfirmed = 0
        """Number of reports that are sent, and not yet in the log."""
        self.offers = Offers(partition_for(queue, identity.partitions) for queue in identity.queues)
        self._last_number: dict[int, int] = {}
        """The highest number of a message so far, by the partition that sent it."""
        self._missing: set[tuple[int, int]] = set()
        """Partition and number of messages that later ones have overtaken."""
        self._acknowledged: int | None = None
        """The highest token that the log has."""
        self.brokers_clock = BrokersClock()
        self._first_token: int | None = None
        self._silent_token: int | None = None
        """The token of the first heartbeat that offered no slot any more."""
        self._silent_known_at: int | None = None
        """Time at which the log acknowledged that heartbeat."""
        self._heartbeat_at: int | None = None
        """When the newest heartbeat was made; None if the next one is due at once."""
        self._announced = False
        """Whether a heartbeat was made, so that an owner may know of the session."""

    @property
    def acknowledged_at(self) -> int | None:
        """When the newest heartbeat that the log has was sent; None before the first."""
        return self._acknowledged

    @property
    def deadline_ms(self) -> int | None:
        """Until when its attempts may run, without their own `continue_for`; None before the first acknowledgement."""
        return self._deadline(self._acknowledged)

    def _deadline(self, token: int | None) -> int | None:
        return None if token is None else token + self._holds_ms

    def is_in_lease(self, now: int) -> bool:
        """Whether an attempt may start now."""
        deadline = self.deadline_ms
        return not self.lapsed and deadline is not None and now < deadline

    def check_lapse(self, now: int) -> bool:
        """Retire the session if its deadline has passed. True when that is new."""
        deadline = self.deadline_ms
        if self.lapsed or deadline is None or now < deadline:
            return False
        self.lapsed = True
        self.retire()
        return True

    def retire(self) -> None:
        """Take no new attempt any more. The next heartbeat reports that, and is due at once."""
        if not self.retired:
            self.retired = True
            self.refuse_at_hand()
            self.hasten_heartbeat()

    def refuse_at_hand(self) -> None:
        """Start nothing more: what is at hand will be declined."""
        self.refused += self.at_hand.take_all()

    def expire(self, now: int) -> list[HeldAttempt]:
        """Mark the attempts whose own deadline has passed. Returns those that were not marked before."""
        deadline = self.deadline_ms
        return [] if deadline is None or now < deadline else self._mark_expired(now - deadline)

    def _mark_expired(self, late_ms: int) -> list[HeldAttempt]:
        """Mark the attempts that may not continue for so long after the lease."""
        late = [held for held in self.held.values() if not held.expired and late_ms >= held.continue_for_ms]
        for held in late:
            held.expired = True
        return late

    def pass_deadlines(self, now: int) -> list[HeldAttempt]:
        """Mark the attempts of a retired session whose job's deadline has passed. Returns the newly marked ones.

        Before that, it is the owner's to decide. But the request to stop an attempt may not reach a session that is cut
        off, whose lane cannot be read, or that has missed a message.
        """
        late = [
            held for held in self._left_with_deadline() if self.brokers_clock.is_past(held.dispatch.deadline_at, now)
        ]
        for held in late:
            held.past_deadline = True
        return late

    def next_deadline(self, now: int) -> int | None:
        """When `pass_deadlines` will have something to mark, by CLOCK_BOOTTIME; None if never."""
        if not (time := self.brokers_clock.time(now)):
            return None
        return min((now + held.dispatch.deadline_at - time for held in self._left_with_deadline()), default=None)

    def _left_with_deadline(self) -> list[HeldAttempt]:
        """Attempts of a retired session that have a deadline and were not stopped because of it."""
        if not self.retired:
            return []
        return [held for held in self.held.values() if held.dispatch.deadline_at and not held.past_deadline]

    def check_pause(self, token: int, logged_ms: int) -> list[HeldAttempt]:
        """Retire the session if the log had no heartbeat for a lease. The arguments are those of `BrokersClock`.

        Returns:
            The attempts that must stop, since their owners may have given them up.
        """
        lease_ms = int(CLOCK_RATE * self.identity.lease_ms)
        silent_ms = self.brokers_clock.acknowledged(token, logged_ms)
        if silent_ms < lease_ms:
            return []
        self.lapsed = True
        self.retire()
        return self._mark_expired(silent_ms - lease_ms)

    def heartbeat_due(self) -> int | None:
        """When the next heartbeat is due; None if at once."""
        if self._heartbeat_at is None:
            return None
        return self._heartbeat_at + self.identity.lease_ms // HEARTBEATS_PER_LEASE

    def hasten_heartbeat(self) -> None:
        """Make the next heartbeat due at once, because it has changes to report."""
        self._heartbeat_at = None

    def heartbeat(self, now: int, state: SessionState) -> tuple[int, WorkerHeartbeat]:
        """Make a heartbeat, to be produced right now.

        Args:
            now: The time, read before the heartbeat is produced.
            state: The session's state that the heartbeat reports.

        Returns:
            The token that `heartbeat_acknowledged` takes once the log has the heartbeat; and the heartbeat.
        """
        self._heartbeat_at = now
        self._first_token = now if self._first_token is None else self._first_token
        self._announced = True
        silent = self.retired or state is not SessionState.OPEN
        if silent and self._silent_token is None:
            self._silent_token = now
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
            offers=_withdrawn(self.offers.messages()) if silent else self.offers.messages(),
        )

    def heartbeat_acknowledged(self, token: int, now: int) -> None:
        """The log has the heartbeat of this token. An older one that comes late changes nothing."""
        first_deadline = self._deadline(self._first_token)
        if self._acknowledged is None and first_deadline is not None and now >= first_deadline:
            # An owner may have read the first heartbeat long before, dispatched to the session, and given it up since.
            self.lapsed = True
            self.retire()
        self._acknowledged = token if self._acknowledged is None else max(token, self._acknowledged)
        if self._silent_token is not None and token >= self._silent_token and self._silent_known_at is None:
            self._silent_known_at = now

    def accept(self, message: Dispatch) -> bool:
        """Whether the message is for this session and new. A gap in the numbers retires the session."""
        source, expected = message.partition, self._last_number.get(message.partition, 0) + 1
        if message.session != self.name:
            return False
        if message.number < expected:
            late = (source, message.number) in self._missing
            self._missing.discard((source, message.number))
            return late
        if message.number > expected:
            self.retire()
            lacking = range(max(expected, message.number - MISSING_MAX), message.number)
            self._missing.update((source, number) for number in lacking)
        self._last_number[source] = message.number
        return True

    def close_by_owner(self, partition: int) -> list[HeldAttempt]:
        """The owner of the partition has given the session up. Returns the attempts that must stop because of it.

        The others continue, so the session still takes the owner's requests to stop them.
        """
        self.retire()
        lost = [
            held
            for held in self.held.values()
            if held.dispatch.partition == partition and not held.continue_for_ms and not held.expired
        ]
        for held in lost:
            held.expired = True
        return lost

    def running(self, before: int) -> dict[int, int]:
        """How many attempts of each partition hold their slot since before that time, if there are any."""
        found: dict[int, int] = {}
        for held in self.held.values():  # the oldest is first
            if held.ordered_boot >= before:
                break
            found[held.dispatch.partition] = found.get(held.dispatch.partition, 0) + 1
        return found

    def closes_at(self, *, draining: bool) -> int | None:
        """When a retired or draining session may report that it is CLOSED.

        None while it may not: an attempt runs, or the log lacks a report. An owner takes CLOSED to mean that no report
        will come.
        """
        if self.held or self.unconfirmed or self.refused:
            return None
        if draining and self._announced and self._silent_known_at is None and self._silent_token is not None:
            # Nothing is left to report, so a log out of reach need not hold the process up for more than a lease.
            return self._silent_token + self.identity.lease_ms
        return self._silent_for(LINGER_DRAINING_MS if draining else LINGER_MS)

    def declines_at(self) -> int | None:
        """When refused attempts should be declined; None while owners may think that the session offers slots."""
        return self._silent_for(SETTLE_MS)

    def report(self, command: AttemptReport) -> Report:
        """Order a report of the session."""
        self.unconfirmed += 1
        return Report(self.name, command)

    def wake_times(self, now: int, *, draining: bool) -> list[int]:
        """When the session has something to do by itself."""
        times = [self.heartbeat_due() or now] if self.opened else []
        next_step = self.declines_at() if self.refused else self.closes_at(draining=draining)
        if (self.retired or draining) and next_step is not None:
            times.append(next_step)
        deadline = self.deadline_ms
        if deadline is not None and not self.lapsed:
            times.append(deadline)  # none of its attempts expires before that
        elif deadline is not None:
            times += (deadline + held.continue_for_ms for held in self.held.values() if not held.expired)
        passes_at = self.next_deadline(now)
        return times if passes_at is None else [*times, passes_at]

    def _silent_for(self, ms: int) -> int | None:
        """When the log will have had the offers of 0 slots for this long; None if it has not got them.

        Without the log there is no bound: owners that are cut off with this worker count on the newest heartbeat that
        they have.
        """
        if not self._announced:
            return 0
        return None if self._silent_known_at is None else self._silent_known_at + ms


def _withdrawn(offers: list[SlotOffer]) -> list[SlotOffer]:
    # A higher number than any before: an owner keeps the newest offer, and must not go back to an older one.
    return [SlotOffer(partition=offer.partition, number=offer.number + 1, slots=0) for offer in offers]
