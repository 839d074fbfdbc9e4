"""The loop of a partition's owner, without threads and without Kafka. It is the only driver of a leading partition.

A step hands what waits to `Partition.work`, and does what the result asks for:

    receive(commands) ─► step: work(commands, lapses, offers) ─► BatchResult
                                  │ committed
                                  ├─► send the new outbox messages; once a second, send refused ones again
                                  ├─► remember which sessions declined: their offers wait for their next heartbeat
                                  └─► if nothing was written for a while: record how far the outbox was delivered

Everything that touches the world comes through a port: the clock, what is known of worker sessions, and the sending of
messages. So the scheduler, `ftjm.testing`, the benchmarks and the simulation all run this loop, and what the simulation
proves is the loop that runs. Threads, Kafka and metrics are in `scheduler/leader.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from ftjm.core.placement import Offer
from ftjm.core.state.model import LogPosition
from ftjm.core.state.view import StateView
from ftjm.engine.batch import BATCH_BYTES_MAX, BatchResult, Lapse
from ftjm.engine.lineage import decided
from ftjm.engine.outbox import Outbox
from ftjm.engine.partition import Partition
from ftjm.engine.ports import Clock, CommandRecord, Send, Writer

COMMANDS_MAX = 1_000
"""At most this many commands wait for the next batch."""
RESEND_MS = 1_000
"""Pause before messages that the log has refused are sent again."""
DECLINED_MS = 10_000
"""How long an owner looks often for the heartbeat of a session that has declined an attempt."""
SETTLE_MS = 200
"""Pause after the last batch before an idle owner records how far its outbox was delivered."""


class Sessions(Protocol):
    """The worker sessions that this instance knows. `engine/liveness.py` is the real implementation."""

    def lapses(self, state: StateView, since: int) -> Sequence[Lapse]:
        """Sessions of a partition, owned since `since`, that were silent past their lease, or have closed."""

    def offers(self, partition: int, now: int, declined: Mapping[str, int]) -> Sequence[Offer]:
        """Free slots for `partition`, without those of sessions that have not reported since they declined."""


class Owner:
    """One leadership of a partition. It begins when it fences its predecessor and ends when it is fenced itself.

    For use by one thread.
    """

    def __init__(
        self, partition: Partition, writer: Writer, name: str, *, clock: Clock, sessions: Sessions, send: Send
    ) -> None:
        """Start to lead, and send what the previous owner may have left unsent.

        Args:
            partition: folded to the end that its log had after the fence.
            writer: it has already fenced the previous owner.
            name: of this instance, for the log.
        """
        self._partition = partition
        self._clock = clock
        self._sessions = sessions
        self._number = partition.policy.partition
        self._waiting: deque[CommandRecord] = deque()
        self._declined: dict[str, int] = {}
        """When a session last sent an attempt back."""
        self._since = clock.boot_ms()
        self._wrote_at = 0
        self._resend_at = 0
        self._more_at: int | None = None
        """When time alone lets more jobs start, by the newest batch, ms."""
        partition.lead(writer, name)
        self._outbox = Outbox(self._number, partition.codec, send, partition.position.outbox_sent)
        self._outbox.send(partition.state, list(partition.state.outbox(self._outbox.sent)))

    @property
    def waiting(self) -> int:
        """Commands that were received and are not decided yet."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """How many more commands may be handed in. None while those that wait have the bytes of a whole batch."""
        if sum(len(command.value) for command in self._waiting) >= BATCH_BYTES_MAX:
            return 0
        return COMMANDS_MAX - len(self._waiting)

    def receive(self, commands: Iterable[CommandRecord]) -> None:
        """Take commands, in the order of the log, for the next batches. Those that are decided already are dropped."""
        position = self._partition.position
        self._waiting.extend(c for c in commands if not decided(position, LogPosition(c.offset, c.epoch)))

    def set_overload(self, reason: str) -> None:
        """Refuse new jobs for this reason from the next batch on; accept them again if it is empty."""
        partition = self._partition
        if reason != partition.policy.overload:
            partition.policy = msgspec.structs.replace(partition.policy, overload=reason)

    def set_served(self, queues: frozenset[str]) -> None:
        """Workers that take jobs serve these queues, as far as is known."""
        partition = self._partition
        if queues != partition.policy.served:
            partition.policy = msgspec.structs.replace(partition.policy, served=queues)

    def step(self) -> BatchResult:
        """Decide and commit one batch of what waits, and do what follows from it.

        Raises:
            Fenced, CommitUnknown: then `close`; only a takeover can tell what the log holds.
            StoreFailed, Diverged: the store or the log is of no use.
        """
        clock, partition = self._clock, self._partition
        now = clock.boot_ms()
        result = partition.work(
            clock.wall_ms(),
            list(self._waiting),
            lapses=self._sessions.lapses(partition.state, self._since),
            offers=self._sessions.offers(self._number, now, self._declined),
            outbox_sent=self._outbox.sent,
        )
        self._more_at = result.more_at
        for _ in range(result.consumed):
            self._waiting.popleft()
        if result.declined:
            self._declined |= dict.fromkeys(result.declined, clock.boot_ms())
        self._outbox.send(partition.state, result.messages)
        if self._outbox.refused and now >= self._resend_at:
            self._resend_at = now + RESEND_MS
            self._outbox.resend_refused(partition.state)
        if skipped := self._outbox.take_skipped():
            result = msgspec.structs.replace(result, skipped=skipped)
        if result.written:
            self._wrote_at = now
        elif now - self._wrote_at > SETTLE_MS:
            partition.settle(clock.wall_ms(), self._outbox.sent)
        return result

    @property
    def is_settled(self) -> bool:
        """Whether steps are due only when something arrives, or a timer is due: the log has all messages of the outbox,
        and says so, and no session has declined lately, whose next heartbeat makes room although it is like the last.
        """
        declined_ms = self._clock.boot_ms() - max(self._declined.values(), default=-DECLINED_MS)
        return self._outbox.settled(self._partition.position.outbox_sent) and declined_ms >= DECLINED_MS

    def seconds_until_due(self, most: float) -> float:
        """Time until the next timer of the partition is due, or time lets more jobs start: 0 to `most` seconds."""
        due = min((at for at in (self._partition.state.next_due(), self._more_at) if at is not None), default=None)
        if due is None:
            return most
        return max(0.0, min(most, (due - self._clock.wall_ms()) / 1000))

    def close(self) -> None:
        """Stop leading, and forget what was not committed."""
        self._partition.reopen()
