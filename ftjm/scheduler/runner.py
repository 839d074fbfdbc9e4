"""One partition's thread: follow, take over, decide, step back."""

import threading
import time
from enum import StrEnum

from confluent_kafka import KafkaException

from ftjm import logs
from ftjm.adapters.kafka_channel import LostPosition
from ftjm.adapters.kafka_log import KafkaWriter
from ftjm.adapters.rocks import RocksStore
from ftjm.clock import boot_ms
from ftjm.core.decide import Policy
from ftjm.engine.partition import Partition
from ftjm.engine.ports import CommitUnknown, Fenced
from ftjm.scheduler import standing
from ftjm.scheduler.context import Context
from ftjm.scheduler.faults import Faults
from ftjm.scheduler.following import Follower
from ftjm.scheduler.leader import TICK_SECONDS, Leader
from ftjm.scheduler.opening import open_store
from ftjm.scheduler.resuming import Resuming

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
        self.led = -1
        """Epoch of the newest batch as the last leadership here ended."""
        self.orphaned = -1
        """Epoch of the newest batch, where we were fenced behind it by somebody who has not written yet; else -1."""
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
        self._faults = Faults(self._path, self._log, context.metrics)
        self._commands = Resuming(context, number, self.wake, self._log)
        self._store: RocksStore | None = None
        self._prove = False
        self._revoked = False
        """Whether somebody else may have been nominated since we fenced."""
        self._survey = standing.Survey()
        self.standing = standing.Standing()
        """How its queues stand, while we own it."""
        self._alive_at = time.monotonic()
        self.failed = False
        """Whether it has stopped with a fault, and not decided since."""
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
        # What a standby has recovered from is nothing that an owner has.
        self.failed = self.failed and self.role is not Role.STANDBY
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
                self._become(Role.BROKEN)
                self.failed = True
                self._close()
                self._faults.handle(error, pause)
                self._context.stopping.wait(pause)
                healthy = time.monotonic() - began > BROKEN_SECONDS_MAX
                pause = RETRY_SECONDS if healthy else min(BROKEN_SECONDS_MAX, pause * 2)
        self._close()

    def _close(self) -> None:
        self._commands.rest()
        self._context.feed.drop("events", self.number)
        if self._store is not None:
            self._store.close()
            self._store = None

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
            if self.role is not Role.COLD:
                self._become(Role.COLD)
            self._wait(TICK_SECONDS)
            return
        self._become(Role.OPENING)
        opened = time.monotonic()
        self._store = open_store(self._context, self.number, self._path, self._log, self._got_on)
        self._partition = Partition(self._policy, self._store, self._context.codec, self._context.log.log_id)
        self._follower = Follower(self._context, self.number, self._partition, self.wake)
        while self._wanted and not self._context.stopping.is_set():
            folded = self._fold_some()
            if self.role is Role.OPENING and self._follower.caught_up:
                self.role = Role.STANDBY
                self._context.metrics.replay_seconds.observe(time.monotonic() - opened)
            self._tell()
            # Whoever is to be fenced decides until then, so all that there was when it was opened is folded first.
            if self._called and self._follower.caught_up and (writer := self._take_over()):
                self._lead(writer)
            elif not folded:
                self._wait(TICK_SECONDS)
        self._close()

    def _become(self, role: Role) -> None:
        """Take on a role in which there is nothing to tell of the partition but that."""
        self.role = role
        self.report = standing.nothing(self.number, role)
        self._context.changed.set()

    def _wait(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def _got_on(self, _done: int = 0, _all: int = 0) -> None:
        """A long opening is no standstill, but for one that has led to nothing before."""
        if not self.failed:
            self._alive_at = time.monotonic()

    def _fold_some(self) -> bool:
        """Fold what has arrived; whether there was anything."""
        aside = self.role is Role.OPENING and not self._called and self._context.others_decide()
        folded = self._follower.fold_aside() if aside else self._follower.fold_some()
        if folded:
            self._got_on()
        return folded

    # -- taking over

    def _take_over(self) -> KafkaWriter | None:
        """Fence, read the log's end, fold to it. What we may decide with now.

        Raises: LostPosition, Diverged.
        """
        context = self._context
        if not context.clock_is_right(self._log, "set the clock; until then this instance takes nothing over"):
            self._wait(TICK_SECONDS)
            return None
        if self._prove and self.nominated and not self._still_member():
            self._wait(PROOF_EVERY_SECONDS)
            return None
        began, heir = time.monotonic(), not self.nominated
        self.role = Role.TAKING_OVER
        self._tell()
        try:
            # Read while the fence is set, so that deciding can begin at once; what the old owner still decides is left
            # out.
            self._waiting = self._commands.resume(self._partition.position)
            writer = context.log.fence(self.number)
            end = context.log.end(self.number)
        except KafkaException as error:
            if context.seldom.due():
                self._log.warning("takeover_failed", error=str(error), todo="trying again")
            self._leave_alone()
            self._wait(RETRY_SECONDS)
            return None
        try:
            writer.expect(end)
            self._follower.require(end)
            self._fold_to(end)
        except BaseException:
            writer.close()
            raise
        if context.stopping.is_set():
            # Perhaps not folded to the end.
            writer.close()
            return None
        if heir:
            # Whoever thought himself the heir as well, and was first, is fenced now.
            self._heir_of = max(self._heir_of, self._partition.position.owner_epoch)
        if not self._called:
            # Taken away while we fenced. The next owner may have been first, and then does not know that we fenced
            # it: were we to decide, it would not look until it has something to write.
            writer.close()
            self._prove = True
            self._leave_alone()
            return None
        seconds, before = time.monotonic() - began, self._partition.position
        context.metrics.takeover_seconds.observe(seconds)
        self._log.info("took_over", epoch=before.owner_epoch + 1, before=before.owner, seconds=round(seconds, 3))
        return writer

    def _leave_alone(self) -> None:
        self._commands.rest()
        self.role = Role.STANDBY

    def _still_member(self) -> bool:
        assert self._context.membership is not None
        return self._context.membership.prove(self.number, self._partition.position.next_command)

    def _fold_to(self, end: int) -> None:
        while not self._follower.reaches(end):
            if not self._fold_some():
                self._wait(TICK_SECONDS)
            if self._context.stopping.is_set():
                return

    # -- leading

    def _lead(self, writer: KafkaWriter) -> None:
        """Decide until somebody fences us or the process stops."""
        context = self._context
        self._follower.rest()
        self._prove = True
        self._revoked = False
        self._commands.begun()
        leader = Leader(context, self._partition, writer, self._waiting)
        self.role = Role.OWNER
        try:
            while not context.stopping.is_set():
                more = leader.step()
                if not leader.cut_off:
                    self._alive_at, self.failed = time.monotonic(), False
                if not more:
                    self._wait(leader.patience())
                self._tell()
                self._reconsider()
        except LostPosition:
            self._commands.lost()
            raise
        except (Fenced, CommitUnknown) as error:
            self._log.info("stepped_back", reason=str(error), kind=type(error).__name__)
        finally:
            leader.close()
        self.role = Role.STANDBY
        self.led = self.orphaned = self._partition.position.owner_epoch
        self._follower.follow()
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
            if not self._follower.resting:
                self._follower.rest()
        elif self._follower.resting:
            self._follower.follow()
        elif self._follower.newer():
            raise Fenced("a newer owner has written")

    def _tell(self) -> None:
        """Keep the report that heartbeats carry up to date."""
        state, owns, now = self._partition.state, self.role is Role.OWNER, boot_ms()
        self.last = (state.position.owner, state.position.owner_epoch)
        if self.orphaned < state.position.owner_epoch or owns:
            self.orphaned = -1
        self.standing = self._survey.look(state, now) if owns else standing.Standing()
        liveness = self._context.liveness if owns else None
        report = standing.report(self.number, self._context.partitions, self.role, state, self.standing, liveness, now)
        if standing.news(self.report, report):
            self._context.changed.set()
        self.report = report
