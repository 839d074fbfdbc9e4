"""One partition's thread: follow, take over, decide, step back."""

import shutil
import threading
import time
from enum import StrEnum

from confluent_kafka import KafkaException

from ftjm import logs
from ftjm.adapters.kafka import offset_of
from ftjm.adapters.kafka_feed import Channel
from ftjm.adapters.kafka_log import KafkaWriter, event_record
from ftjm.adapters.rocks import DamagedStore, RocksStore
from ftjm.clock import boot_ms
from ftjm.core.decide import Policy
from ftjm.core.errors import UndecodableError
from ftjm.engine.partition import Diverged, Partition
from ftjm.engine.ports import CommitUnknown, Fenced
from ftjm.scheduler import standing
from ftjm.scheduler.context import CLOCK_ERROR_MAX_MS, Context
from ftjm.scheduler.leader import TAKE_MAX, TICK_SECONDS, Leader
from ftjm.scheduler.opening import open_store

RETRY_SECONDS = 0.25
PROOF_EVERY_SECONDS = 0.05
BROKEN_SECONDS_MAX = 30.0


class Role(StrEnum):
    """What this process is to a partition."""

    COLD = "cold"
    """Not followed here."""
    OPENING = "opening"
    STANDBY = "standby"
    TAKING_OVER = "taking-over"
    OWNER = "owner"
    BROKEN = "broken"


SUSPECT = (Diverged, DamagedStore, AssertionError, UndecodableError)
"""Faults that may be the store's: it is made anew from the log. If they are the log's, they come again, loudly."""


class Runner:
    """Drives one `Partition`. Other threads only set `nominated` and call `wake`."""

    def __init__(self, context: Context, number: int) -> None:
        self.number = number
        self.role = Role.COLD
        self.nominated = False
        self.followed = False
        """Whether this instance stands by for it."""
        self.last = ("", -1)
        """Who wrote the newest batch that was folded here, and its epoch."""
        self._heir_of = -1
        """Epoch of a dead owner whose partition falls to us, whatever the group says; -1 if there is none."""
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
        self._revoked = False
        """Whether somebody else may have been nominated since we fenced."""
        self._survey = standing.Survey()
        self.standing = standing.Standing()
        """How its queues stand, while we own it."""
        self._alive_at = time.monotonic()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name=f"partition-{number}", daemon=True)
        self.report = standing.nothing(number, Role.COLD)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def alive_at(self) -> float:
        """When it last did what it is there for: it decided, or got on with opening, or could leave that to others."""
        return self._alive_at if self.nominated else time.monotonic()

    @property
    def thread_id(self) -> int | None:
        return self._thread.ident

    def wake(self) -> None:
        self._woken.set()

    def nominate(self) -> None:
        """The group gives us the partition."""
        self._alive_at = self.alive_at
        self.nominated = True
        self.wake()

    def revoke(self) -> None:
        """The group gives it to another, who will fence us. Until then we go on deciding."""
        self.nominated = False
        self._revoked = True
        self.wake()

    def follow(self, wanted: bool) -> None:
        """Stand by for the partition, or stop doing so."""
        self.followed = wanted
        self.wake()

    def inherit(self, epoch: int) -> None:
        """The owner of this epoch has died, and the partition falls to us until the group nominates somebody."""
        self._heir_of = epoch
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
                self._failed = True
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

    @property
    def _wanted(self) -> bool:
        return self.followed or self.nominated

    @property
    def _called(self) -> bool:
        """Whether it is ours to take: nominated, or heir of a dead owner until a newer one writes."""
        return self.nominated or self._heir_of >= self._partition.position.owner_epoch

    @property
    def opening(self) -> bool:
        """Whether the state is wanted here, and not folded yet."""
        return self.role is Role.OPENING or (self.role is Role.COLD and self._wanted)

    def _live(self) -> None:
        """Follow the partition, and lead it whenever it is ours, as long as it is wanted here."""
        if not self._wanted:
            self.role = Role.COLD
            self.report = standing.nothing(self.number, self.role)
            self._wait(TICK_SECONDS)
            return
        self.role = Role.OPENING
        self._opened = time.monotonic()
        self._store = open_store(self._context, self.number, self._path, self._log, self._got_on)
        self._partition = Partition(self._policy, self._store, self._context.codec, self._context.log.log_id)
        self._events: Channel | None = None
        self._follow()
        while self._wanted and not self._context.stopping.is_set():
            if self._fold_some():
                continue
            if self._called and (writer := self._take_over()):
                self._lead(writer)
            else:
                self._wait(TICK_SECONDS)
        self._close(discard=False)

    def _wait(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def _got_on(self, _done: int = 0, _all: int = 0) -> None:
        """A long opening is no standstill, but for one that has led to nothing before."""
        if not self._failed:
            self._alive_at = time.monotonic()

    # -- following

    def _follow(self) -> None:
        start = self._partition.position.applied_offset + 1
        self._events = self._context.feed.follow("events", self.number, start, self.wake)

    def _fold_some(self) -> bool:
        """Fold what has arrived; whether there was anything."""
        assert self._events is not None
        messages = self._events.take(TAKE_MAX)
        if messages:
            self._got_on()
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

    def _take_over(self) -> KafkaWriter | None:
        """Fence, read the log's end, fold to it. What we may decide with now."""
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
            return None
        if self._prove and self.nominated and not self._still_member():
            self._wait(PROOF_EVERY_SECONDS)
            return None
        began = time.monotonic()
        self.role = Role.TAKING_OVER
        # Read while the fence is set, so that deciding can begin at once; what the old owner still decides is left out.
        self._commands = context.feed.follow("commands", self.number, self._partition.position.next_command, self.wake)
        try:
            writer = context.log.fence(self.number)
            end = context.log.end(self.number)
        except KafkaException as error:
            self._log.warning("takeover_failed", error=str(error), todo="trying again")
            context.feed.drop("commands", self.number)
            self.role = Role.STANDBY
            self._wait(RETRY_SECONDS)
            return None
        self._fold_to(end)
        if context.stopping.is_set():
            # Perhaps not folded to the end.
            writer.close()
            return None
        if not self._called:
            # Taken away while we fenced. The next owner may have been first, and then does not know that we fenced
            # it: were we to decide, it would not look until it has something to write.
            writer.close()
            context.feed.drop("commands", self.number)
            self._prove = True
            self.role = Role.STANDBY
            return None
        seconds, before = time.monotonic() - began, self._partition.position
        context.metrics.takeover_seconds.observe(seconds)
        self._log.info("took_over", epoch=before.owner_epoch + 1, before=before.owner, seconds=round(seconds, 3))
        return writer

    def _still_member(self) -> bool:
        assert self._context.membership is not None
        return self._context.membership.prove(self.number, self._partition.position.next_command)

    def _fold_to(self, end: int) -> None:
        assert self._events is not None
        while self._events.reached < end or len(self._events):
            if not self._fold_some():
                self._wait(TICK_SECONDS)
            if self._context.stopping.is_set():
                return

    # -- leading

    def _lead(self, writer: KafkaWriter) -> None:
        """Decide until somebody fences us or the process stops."""
        context = self._context
        context.feed.drop("events", self.number)
        self._events = None
        self._prove = True
        self._revoked = False
        leader = Leader(context, self._partition, writer, self._commands)
        self.role = Role.OWNER
        try:
            while not context.stopping.is_set():
                more = leader.step()
                self._alive_at, self._failed = time.monotonic(), False
                if not more:
                    self._wait(leader.patience())
                self._tell()
                self._reconsider()
        except (Fenced, CommitUnknown) as error:
            self._log.info("stepped_back", reason=str(error), kind=type(error).__name__)
        finally:
            leader.close()
        self.role = Role.STANDBY
        self._follow()
        self._tell()

    def _reconsider(self) -> None:
        """While not nominated, look at the log: what we did not write, our successor did.

        An heir that is nominated in the end has nobody to fear. Who was nominated, revoked and nominated again fences
        again: between, it was another's.

        Raises: Fenced.
        """
        if self.nominated:
            if self._revoked:
                raise Fenced("the partition was ours, another's and ours again")
            if self._events is not None:
                self._context.feed.drop("events", self.number)
                self._events = None
            return
        if self._events is None:
            self._follow()
            return
        applied = self._partition.position.applied_offset
        if any(offset_of(message) > applied for message in self._events.take(TAKE_MAX)):
            raise Fenced("a newer owner has written")

    def _tell(self) -> None:
        """Keep the report that heartbeats carry up to date."""
        state, owns, now = self._partition.state, self.role is Role.OWNER, boot_ms()
        self.last = (state.position.owner, state.position.owner_epoch)
        self.standing = self._survey.look(state, now) if owns else standing.Standing()
        liveness = self._context.liveness if owns else None
        report = standing.report(self.number, self._context.partitions, self.role, state, self.standing, liveness, now)
        if standing.news(self.report, report):
            self._context.changed.set()
        self.report = report
