"""One partition's thread: follow, take over, decide, step back."""

import shutil
import threading
import time
from collections import deque
from enum import StrEnum

from confluent_kafka import KafkaException

from ftjm import logs
from ftjm.adapters.kafka import AWAY, offset_of
from ftjm.adapters.kafka_feed import Channel
from ftjm.adapters.kafka_log import KafkaWriter, command_record, event_record
from ftjm.adapters.rocks import DamagedStore, RocksStore
from ftjm.clock import boot_ms, wall_ms
from ftjm.core.decide import Policy
from ftjm.core.errors import UndecodableError
from ftjm.core.messages import PartitionReport
from ftjm.core.state import load_position
from ftjm.engine.outbox import Outbox
from ftjm.engine.partition import Diverged, Partition, lineage
from ftjm.engine.ports import CommandRecord, CommitUnknown, Fenced, Store
from ftjm.scheduler import standing
from ftjm.scheduler.context import CLOCK_ERROR_MAX_MS, Context

TICK_SECONDS = 0.1
"""Between looks at what nobody wakes us for: leases, offers that went stale."""
TAKE_MAX = 1_000
SETTLE_MS = 200
"""After its last batch an idle partition records how far its outbox is."""
FLUSH_MS = 30_000
"""A hard exit costs the folding of at most this much."""
RETRY_SECONDS = 0.25
PROOF_EVERY_SECONDS = 0.05
BROKEN_SECONDS_MAX = 30.0


class Role(StrEnum):
    """What this process is to a partition."""

    OPENING = "opening"
    STANDBY = "standby"
    TAKING_OVER = "taking-over"
    OWNER = "owner"
    BROKEN = "broken"


class LostPosition(Exception):
    """The log no longer holds what this store would have to read next."""


SUSPECT = (Diverged, DamagedStore, AssertionError, UndecodableError)
"""Faults that may be the store's: it is made anew from the log. If they are the log's, they come again, loudly."""


def _check(channel: Channel, topic: str, offset: int) -> None:
    if channel.fault is not None:
        raise LostPosition(f"expected offset {offset} of {topic} to be in the log, but {channel.fault.str()}")


class Runner:
    """Drives one `Partition`. Other threads only set `nominated` and call `wake`."""

    def __init__(self, context: Context, number: int) -> None:
        self.number = number
        self.role = Role.OPENING
        self.nominated = False
        self._context = context
        self._log = logs.get(__name__, partition=number)
        self._woken = threading.Event()
        self._policy = Policy(
            number,
            context.partitions,
            retention_ms=int(context.settings.retention_seconds * 1000),
            inline_bytes_max=context.settings.inline_limit_bytes,
        )
        self._path = context.stores / f"partition-{number}"
        self._store: RocksStore | None = None
        self._prove = False
        self._doubtful = False
        """Whether somebody else may have been nominated since we fenced."""
        self._survey = standing.Survey()
        self.standing = standing.Standing()
        """How its queues stand, while we own it."""
        self._thread = threading.Thread(target=self._run, name=f"partition-{number}", daemon=True)
        self.report = PartitionReport(
            partition=number, role=self.role, owner_epoch=0, applied_offset=-1, next_command=0, demand=[], taken=[]
        )

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def wake(self) -> None:
        self._woken.set()

    def nominate(self) -> None:
        """The group gives us the partition."""
        self.nominated = True
        self.wake()

    def revoke(self) -> None:
        """The group gives it to another, who will fence us. Until then we go on deciding."""
        self.nominated = False
        self._doubtful = True
        self.wake()

    # -- the thread

    def _run(self) -> None:
        pause = RETRY_SECONDS
        while not self._context.stopping.is_set():
            began = time.monotonic()
            try:
                self._live()
            except Exception as error:  # noqa: BLE001  (whatever stops a partition, the process and the others go on)
                self.role = Role.BROKEN
                self._log.exception("partition_stopped", todo="rebuilding it from the log", again_in_s=pause)
                self._close(discard=isinstance(error, SUSPECT))
                self._context.stopping.wait(pause)
                healthy = time.monotonic() - began > BROKEN_SECONDS_MAX
                pause = RETRY_SECONDS if healthy else min(BROKEN_SECONDS_MAX, pause * 2)
        self._close(discard=False)

    def _close(self, discard: bool) -> None:
        self._context.feed.drop("commands", self.number)
        self._context.feed.drop("events", self.number)
        if self._store is not None:
            self._store.close()
            self._store = None
        if discard:
            shutil.rmtree(self._path, ignore_errors=True)

    def _live(self) -> None:
        self.role = Role.OPENING
        self._opened = time.monotonic()
        self._partition = Partition(self._policy, self._open(), self._context.codec, self._context.log.log_id)
        self._events: Channel | None = None
        self._follow()
        while not self._context.stopping.is_set():
            if not self._fold_some() and not (self.nominated and self._take_over() and self._lead()):
                self._wait(TICK_SECONDS)

    def _open(self) -> RocksStore:
        log = self._context.log
        # Known before it is checked, so that whatever the check raises, it is closed.
        store = self._store = RocksStore(self._path)
        reason = self._why_foreign(store)
        if reason is not None:
            self._log.warning("store_discarded", reason=reason, todo="rebuilding it from the log", log_id=log.log_id)
            store.clear()
        return store

    def _why_foreign(self, store: RocksStore) -> str | None:
        at = load_position(store).applied_offset
        log = self._context.log
        try:
            return lineage(store, log.log_id, log.events(self.number, at, at + 1), self._context.codec)
        except KafkaException as error:
            if error.args[0].code() in AWAY:
                raise
            return f"the log cannot be read at its offset {at}: {error.args[0].str()}"

    def _wait(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    # -- following

    def _follow(self) -> None:
        start = self._partition.position.applied_offset + 1
        self._events = self._context.feed.follow("events", self.number, start, self.wake)

    def _fold_some(self) -> bool:
        """Fold what has arrived; whether there was anything."""
        assert self._events is not None
        _check(self._events, "events", self._partition.position.applied_offset + 1)
        messages = self._events.take(TAKE_MAX)
        for message in messages:
            record = event_record(message)
            if record.offset > self._partition.position.applied_offset:
                self._partition.fold(record)
        if self.role is Role.OPENING and self._events.ended and not messages:
            self.role = Role.STANDBY
            self._context.metrics.replay_seconds.observe(time.monotonic() - self._opened)
        self._tell()
        return bool(messages)

    # -- taking over

    def _take_over(self) -> bool:
        """Fence, read the log's end, fold to it. Whether we may decide now."""
        context = self._context
        if context.clock_error_ms is None or abs(context.clock_error_ms) > CLOCK_ERROR_MAX_MS:
            if context.clock_error_ms is not None:
                self._log.error(
                    "clock_wrong",
                    expected=f"a clock within {CLOCK_ERROR_MAX_MS} ms of the brokers'",
                    found=f"{context.clock_error_ms} ms",
                    todo="set the clock; until then this instance owns nothing",
                )
                self._wait(1.0)
            return False
        if self._prove and not self._still_member():
            self._wait(PROOF_EVERY_SECONDS)
            return False
        began = time.monotonic()
        self.role = Role.TAKING_OVER
        try:
            writer = context.log.fence(self.number)
            end = context.log.end(self.number)
        except KafkaException as error:
            self._log.warning("takeover_failed", error=str(error), todo="trying again")
            self.role = Role.STANDBY
            self._wait(RETRY_SECONDS)
            return False
        self._fold_to(end)
        if not self.nominated:
            # Taken away while we fenced. The next owner may have been first, and then does not know that we fenced
            # it: were we to decide, it would not look until it has something to write.
            writer.close()
            self._prove = True
            self.role = Role.STANDBY
            return False
        self._partition.lead(writer, context.instance)
        seconds, before = time.monotonic() - began, self._partition.position
        context.metrics.takeover_seconds.observe(seconds)
        self._log.info("took_over", epoch=before.owner_epoch + 1, before=before.owner, seconds=round(seconds, 3))
        return True

    def _still_member(self) -> bool:
        assert self._context.membership is not None
        return self._context.membership.prove(self.number)

    def _fold_to(self, end: int) -> None:
        assert self._events is not None
        while self._events.reached < end or len(self._events):
            if not self._fold_some():
                self._wait(TICK_SECONDS)
            if self._context.stopping.is_set():
                return

    # -- leading

    def _lead(self) -> bool:
        """Decide until somebody fences us or the process stops."""
        partition, context = self._partition, self._context
        context.feed.drop("events", self.number)
        self._events = None
        self._prove = True
        self._doubtful = not self.nominated
        commands = context.feed.follow("commands", self.number, partition.position.next_command, self.wake)
        outbox = Outbox(self.number, context.codec, context.send, partition.position.outbox_sent)
        leader = _Leader(self, partition, commands, outbox)
        leader.resend()
        self.role = Role.OWNER
        try:
            while not context.stopping.is_set():
                if not leader.step():
                    self._wait(leader.patience())
                self._tell()
                if self._doubtful:
                    self._reconsider()
        except (Fenced, CommitUnknown) as error:
            self._log.info("stepped_back", reason=str(error), kind=type(error).__name__)
        assert partition.leadership is not None
        writer = partition.leadership.writer
        assert isinstance(writer, KafkaWriter)
        writer.close()
        context.feed.drop("commands", self.number)
        partition.reopen()
        self.role = Role.STANDBY
        self._follow()
        self._tell()
        return True

    def _reconsider(self) -> None:
        """Once revoked, look at the log: what we did not write, our successor did. Nominated again, fence again.

        Raises: Fenced.
        """
        if self.nominated:
            raise Fenced("the partition was ours, another's and ours again")
        if self._events is None:
            self._follow()
            return
        applied = self._partition.position.applied_offset
        if any(offset_of(message) > applied for message in self._events.take(TAKE_MAX)):
            raise Fenced("a newer owner has written")

    def _tell(self) -> None:
        """Keep the report that heartbeats carry up to date."""
        state, owns, now = self._partition.state, self.role is Role.OWNER, boot_ms()
        self.standing = self._survey.look(state, now) if owns else standing.Standing()
        liveness = self._context.liveness if owns else None
        report = standing.report(self.number, self.role, state, self.standing, liveness, now)
        if standing.news(self.report, report):
            self._context.changed.set()
        self.report = report


class _Leader:
    """One leadership: from the fence to being fenced."""

    def __init__(self, runner: Runner, partition: Partition, commands: Channel, outbox: Outbox) -> None:
        self._runner = runner
        self._context = runner._context
        self._log = runner._log
        self._partition = partition
        self._channel = commands
        self._outbox = outbox
        self._waiting: deque[CommandRecord] = deque()
        self._declined: dict[str, int] = {}
        self._since = boot_ms()
        self._wrote_at = 0
        self._flushed_at = boot_ms()

    def resend(self) -> None:
        """Send what the owner before us may not have sent."""
        self._outbox.ship(self._partition.state, list(self._partition.state.outbox(self._outbox.sent)))

    def step(self) -> bool:
        """One batch; whether there may be more to do at once."""
        _check(self._channel, "commands", self._partition.position.next_command)
        room = TAKE_MAX - len(self._waiting)
        self._waiting += [command_record(m, self._context.lanes) for m in self._channel.take(room)]
        now = boot_ms()
        before = self._partition.position.batch_no
        consumed = self._partition.work(
            wall_ms(),
            list(self._waiting),
            lapses=self._context.liveness.lapses(self._partition.state, self._since),
            offers=self._context.liveness.offers(self._runner.number, now, self._declined),
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
            self._partition.settle(wall_ms(), self._outbox.sent)
        self._flush(now)
        return wrote and bool(self._waiting or len(self._channel))

    def _ship(self) -> None:
        self._outbox.ship(self._partition.state, self._partition.to_ship)
        self._partition.to_ship = []
        for alarm in self._partition.alarms:
            self._log.error("internal_error", text=alarm, todo="report it: the command was refused and skipped")
        self._partition.alarms.clear()

    def _measure(self, consumed: int) -> None:
        partition, metrics = self._partition, self._context.metrics
        assert partition.leadership is not None
        writer = partition.leadership.writer
        assert isinstance(writer, KafkaWriter)
        metrics.transaction_seconds.observe(writer.seconds)
        metrics.batch_commands.observe(consumed)
        metrics.events.observe(partition.committed, partition.state.job)

    def _flush(self, now: int) -> None:
        store: Store = self._partition.store
        if now - self._flushed_at > FLUSH_MS and isinstance(store, RocksStore):
            store.flush()
            self._flushed_at = now

    def patience(self) -> float:
        """How long nothing will be due."""
        due = self._partition.state.next_due()
        if due is None:
            return TICK_SECONDS
        return max(0.0, min(TICK_SECONDS, (due - wall_ms()) / 1000))
