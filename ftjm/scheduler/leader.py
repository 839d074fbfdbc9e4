"""One leadership of a partition: from the fence to being fenced."""

import time
from collections import deque

import msgspec

from ftjm import logs
from ftjm.adapters.kafka import epoch_of, offset_of
from ftjm.adapters.kafka_channel import Channel
from ftjm.adapters.kafka_log import KafkaWriter, command_record
from ftjm.clock import boot_ms
from ftjm.core.model import Place
from ftjm.engine.lineage import decided
from ftjm.engine.outbox import Outbox
from ftjm.engine.partition import BATCH_BYTES_MAX, Partition
from ftjm.engine.ports import CommandRecord
from ftjm.scheduler.context import Context
from ftjm.scheduler.following import TAKE_MAX
from ftjm.scheduler.publishing import Publishing
from ftjm.scheduler.steady import SteadyClock

TICK_SECONDS = 0.1
"""Between looks at what nobody wakes us for: leases, offers that went stale."""
AGAIN_SECONDS = 1.0
"""Between tries to send what Kafka has refused."""
SETTLE_MS = 200
"""After its last batch an idle partition records how far its outbox is."""


class Leader:
    """Decides for one partition, on the thread of its runner. Its writer has fenced whoever decided before."""

    def __init__(self, context: Context, partition: Partition, writer: KafkaWriter, commands: Channel) -> None:
        """The partition has been folded to the end that its log had after the fence.

        `commands` has all that were not decided by then, and perhaps some that were.
        """
        self._context = context
        self._partition = partition
        self._writer = writer
        self._number = partition.policy.partition
        self._log = logs.get(__name__, partition=self._number)
        position = partition.position
        self._commands = commands
        self._outbox = Outbox(self._number, context.codec, context.send, position.outbox_sent)
        self._again_at = 0.0
        self._waiting: deque[CommandRecord] = deque()
        self._declined: dict[str, int] = {}
        self._clock = SteadyClock(context.clock)
        self._since = boot_ms()
        self._wrote_at = 0
        partition.lead(writer, context.instance)
        self._snapshots = Publishing(context, partition, writer, self._clock)
        # What the owner before us may not have sent.
        self._outbox.ship(partition.state, list(partition.state.outbox(self._outbox.sent)))

    def step(self) -> bool:
        """One batch; whether there may be more to do at once.

        Raises: Fenced, CommitUnknown: then `close`; LostPosition, Diverged.
        """
        if sum(len(command.value) for command in self._waiting) < BATCH_BYTES_MAX:
            # What the feed holds is bounded in bytes, so what is taken from it has to be, too.
            for message in self._commands.take(TAKE_MAX - len(self._waiting)):
                if not decided(self._partition.position, Place(offset_of(message), epoch_of(message))):
                    self._waiting.append(command_record(message, self._context.lanes))
        self._take_pressure()
        now, began = boot_ms(), time.monotonic()
        before, spent = self._partition.position.batch_no, self._writer.spent
        consumed = self._partition.work(
            self._clock.now(),
            list(self._waiting),
            lapses=self._context.liveness.lapses(self._partition.state, self._since),
            offers=self._context.liveness.offers(self._number, now, self._declined),
            outbox_sent=self._outbox.sent,
        )
        for _ in range(consumed):
            self._waiting.popleft()
        self._declined |= dict.fromkeys(self._partition.declined, boot_ms())
        self._partition.declined.clear()
        self._ship()
        wrote = self._partition.position.batch_no != before
        if wrote:
            self._wrote_at = now
            self._measure(consumed)
        elif now - self._wrote_at > SETTLE_MS:
            self._partition.settle(self._clock.now(), self._outbox.sent)
        self._snapshots.step()
        self._context.metrics.step_seconds.observe(time.monotonic() - began - (self._writer.spent - spent))
        return wrote and bool(self._waiting or len(self._commands))

    def _take_pressure(self) -> None:
        """Let decisions know whether there is room for new jobs."""
        partition = self._partition
        why = self._context.pressure.why(self._number, self._commands.end - partition.position.next_command)
        if why != partition.policy.overload:
            partition.policy = msgspec.structs.replace(partition.policy, overload=why)

    def _ship(self) -> None:
        self._outbox.ship(self._partition.state, self._partition.to_ship)
        self._partition.to_ship = []
        if self._outbox.refused and time.monotonic() > self._again_at:
            self._again_at = time.monotonic() + AGAIN_SECONDS
            self._outbox.ship_refused(self._partition.state)
        for alarm in self._partition.alarms:
            self._log.error("internal_error", text=alarm, todo="report it: the command was refused and skipped")
        self._partition.alarms.clear()

    def _measure(self, consumed: int) -> None:
        partition, metrics = self._partition, self._context.metrics
        metrics.transaction_seconds.observe(self._writer.seconds)
        metrics.batch_commands.observe(consumed)
        metrics.events.observe(partition.committed, partition.state.job)

    @property
    def cut_off(self) -> bool:
        """Whether Kafka has said, since a command came, why perhaps none will come."""
        return self._commands.trouble is not None

    def patience(self) -> float:
        """Seconds in which nothing will be due."""
        due = self._partition.state.next_due()
        if due is None:
            return TICK_SECONDS
        return max(0.0, min(TICK_SECONDS, (due - self._clock.now()) / 1000))

    def close(self) -> None:
        """Decide no more, and forget what was not committed."""
        self._snapshots.close()
        self._context.pressure.forget(self._number)
        self._writer.close()
        self._context.feed.drop("commands", self._number)
        self._partition.reopen()
