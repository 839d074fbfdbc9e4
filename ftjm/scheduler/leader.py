"""One leadership of a partition in a scheduler: `engine/owner.py` with its threads, Kafka, snapshots and metrics."""

import time
from collections.abc import Mapping

from ftjm.adapters.kafka.partition_buffer import CommandBuffer
from ftjm.adapters.kafka.partition_log import KafkaWriter
from ftjm.core.placement import Offer
from ftjm.core.records.events import AttemptDispatched
from ftjm.core.state.view import StateView
from ftjm.engine.batch import BatchResult, Lapse
from ftjm.engine.owner import Owner
from ftjm.engine.partition import Partition
from ftjm.runtime import logs
from ftjm.runtime.clock import boot_ms
from ftjm.scheduler.context import Context
from ftjm.scheduler.owner_clock import OwnerClock
from ftjm.scheduler.queue_starts import QueueStarts
from ftjm.scheduler.snapshot_publisher import SnapshotPublisher
from ftjm.scheduler.upgrades import readable, update_policy

TICK_SECONDS = 0.1
"""Pause between two steps of an owner that waits for something which wakes it not: a delivery, a snapshot."""
IDLE_SECONDS = 1.0
"""Pause between two steps of an owner that waits for nothing. It is woken by commands, by changed offers of workers, by
leases that end, and by requests of operators. What is left is measured: how full the disk is, how old a report."""

COMPANY_SECONDS = 0.03
"""Least time between two batches while attempts are sent ahead and more jobs wait. Workers have attempts at hand then,
so no slot waits for an answer; and a transaction costs the owner and the brokers as much as deciding ten commands."""


class Leader:
    """Decides for one partition, until another instance fences this one. Only the thread of its runner uses it."""

    def __init__(
        self,
        context: Context,
        partition: Partition,
        writer: KafkaWriter,
        commands: CommandBuffer,
        starts: QueueStarts,
    ) -> None:
        """Start to decide.

        Args:
            context: what the partitions of the process share.
            partition: it is folded to the end that its log had after the fence.
            writer: it has fenced the previous owner.
            commands: receives all commands that were not decided by then, and perhaps some that were.
            starts: counts the attempts that are dispatched.
        """
        self._context = context
        self._partition = partition
        self._writer = writer
        self._number = partition.policy.partition
        self._log = logs.get(__name__, partition=self._number)
        self._commands = commands
        self._starts = starts
        self._began = 0.0
        """When the newest batch that was written began, monotonic seconds."""
        self._sends_ahead = False
        """Whether the newest batch with dispatches has sent some ahead of free slots."""
        self._more = False
        """What the last step has returned."""
        clock = OwnerClock(context.clock)
        self._owner = Owner(partition, writer, context.instance, clock=clock, sessions=self, send=context.send)
        self._snapshots = SnapshotPublisher(context, partition, writer, clock)

    def step(self, *, jobs_wait: bool) -> bool:
        """Decide and commit one batch. If `jobs_wait` for a slot, it waits for the reports of other attempts, too,
        unless slots wait for it, or it is full already.

        Returns:
            Whether more commands wait to be decided at once.

        Raises:
            Fenced: another instance owns the partition now.
            CommitUnknown: only a takeover can tell what the log holds.
            LostPosition: the log of commands has lost records.
            Diverged: the state differs from the log.
            DamagedStore: a part of the store cannot be read.
        """
        if jobs_wait and self._sends_ahead and not self._more:
            self._context.stopping.wait(max(0.0, self._began + COMPANY_SECONDS - time.monotonic()))
        if room := self._owner.room:
            # The buffer is bounded in bytes, so what is taken from it has to be bounded in bytes, too.
            self._owner.receive(self._commands.take(room))
        backlog = self._commands.end - self._partition.position.next_command
        self._owner.set_overload(self._context.overload.reason(self._number, backlog))
        self._owner.set_served(self._context.liveness.served(boot_ms()))
        update_policy(self._context, self._partition)
        began, spent = time.monotonic(), self._writer.spent
        result = self._owner.step()
        for alarm in result.alarms:
            self._log.error("internal_error", text=alarm, todo="report this error; the command was refused and skipped")
            self._context.metrics.commands_skipped.inc()
        for skipped in result.skipped:
            self._log.error("message_skipped", text=skipped, todo="find the cause; its receiver continues without it")
            self._context.metrics.messages_skipped.inc()
        if result.written:
            self._began = began
            if dispatches := [event for event in result.events if isinstance(event, AttemptDispatched)]:
                self._sends_ahead = any(event.ahead for event in dispatches)
                self._starts.note(dispatches, boot_ms())
            self._measure(result)
        self._snapshots.step()
        self._context.metrics.step_seconds.observe(time.monotonic() - began - (self._writer.spent - spent))
        self._more = result.written and bool(self._owner.waiting or len(self._commands))
        return self._more

    # -- worker sessions, as the owner's port `Sessions` requests them

    def lapses(self, state: StateView, since: int) -> list[Lapse]:
        """Return what `Liveness.lapses` does."""
        return self._context.liveness.lapses(state, since)

    def offers(self, partition: int, now: int, declined: Mapping[str, int]) -> list[Offer]:
        """Return what `Liveness.offers` does, without sessions whose build cannot read this partition's messages."""
        return readable(self._context, self._partition, self._context.liveness.offers(partition, now, declined))

    def _measure(self, result: BatchResult) -> None:
        metrics = self._context.metrics
        metrics.transaction_seconds.observe(self._writer.seconds)
        metrics.batch_commands.observe(result.consumed)
        metrics.events.observe(result.events, self._partition.state.job)

    @property
    def has_read_fault(self) -> bool:
        """Whether Kafka has reported an error in reading commands since the last one arrived."""
        return self._commands.trouble is not None

    def seconds_until_due(self) -> float:
        """Return for how many seconds no step is due unless something wakes the thread: at most `IDLE_SECONDS`."""
        idle = self._owner.is_settled and self._snapshots.is_idle
        # The watchdog takes a partition for stuck that has not looked for work for so long.
        pause = min(IDLE_SECONDS, self._context.settings.watchdog_seconds / 4) if idle else TICK_SECONDS
        return self._owner.seconds_until_due(pause)

    def close(self) -> None:
        """Stop deciding, and forget what was not committed."""
        self._snapshots.close()
        self._context.overload.forget(self._number)
        self._context.finalized.pop(self._number, None)
        self._writer.close()
        self._context.reader.drop("commands", self._number)
        self._owner.close()
