"""One partition's thread, with its store, Kafka and its reports. It carries out what `scheduler/ownership.py` asks for
(follow, take over, decide, step back); that file explains a takeover."""

import threading
import time

from ftjm.adapters.calendar.calendar import LocalCalendar
from ftjm.adapters.kafka.errors import LogError, LostPosition
from ftjm.adapters.kafka.partition_log import KafkaWriter
from ftjm.adapters.rocksdb import RocksStore
from ftjm.core.decide.decision import Policy
from ftjm.engine.partition import Partition
from ftjm.engine.ports import CommitUnknown, Fenced
from ftjm.runtime import logs
from ftjm.runtime.clock import boot_ms
from ftjm.scheduler.command_reader import CommandReader
from ftjm.scheduler.context import Context
from ftjm.scheduler.fault_handling import FaultHandler
from ftjm.scheduler.follower import Follower
from ftjm.scheduler.leader import TICK_SECONDS, Leader
from ftjm.scheduler.ownership import Action, Claim, Ownership, Role
from ftjm.scheduler.partition_report import QueueStatistics, Reporter, must_report_soon, role_report
from ftjm.scheduler.queue_starts import QueueStarts
from ftjm.scheduler.store_recovery import open_store

REST_SECONDS = 5.0
"""Pause between two looks of a partition that is not decided here. Every change of what it has to do wakes it."""
RETRY_SECONDS = 0.25
"""Pause after a failed takeover, and after the first fault."""
ASK_AGAIN_SECONDS = 0.02
"""Pause after a failed proof of membership of the group, and between two nudges for the log's end."""
BROKEN_SECONDS_MAX = 30.0
"""Longest pause after a fault. The pause doubles with each fault, until the partition works for this long."""


class Runner:
    """The thread of one partition. Other threads only send requests to its `ownership`, and wake it."""

    def __init__(self, context: Context, number: int) -> None:
        self.number = number
        self.ownership = Ownership()
        self._context = context
        self._log = logs.get(__name__, partition=number)
        self._woken = threading.Event()
        self._policy = Policy(
            number,
            context.partitions,
            retention_ms=int(context.settings.retention_seconds * 1000),
            inline_bytes_max=context.settings.inline_limit_bytes,
            calendar=LocalCalendar(),
        )
        self._path = context.stores / f"partition-{number}"
        self._faults = FaultHandler(self._path, self._log, context)
        self._commands = CommandReader(context, number, self.wake, self._log)
        self._store: RocksStore | None = None
        self._starts = QueueStarts()
        self._reporter = Reporter(number, context.partitions, context.liveness, self._starts)
        self.queues = QueueStatistics()
        """The statistics of its queues; empty unless it is owned here."""
        self._alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"partition-{number}", daemon=True)
        self.report = role_report(number, Role.COLD)
        """The report on the partition that heartbeats carry."""

    def start(self) -> None:
        """Start the thread. It ends when the process stops."""
        self._thread.start()

    def join(self, timeout_seconds: float) -> bool:
        """Wait until the thread has ended, for at most `timeout_seconds`. Returns whether it has."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def role(self) -> Role:
        return self.ownership.role

    @property
    def failed(self) -> bool:
        """Whether a fault has stopped the partition, and nothing was decided since."""
        return self.ownership.failed

    @property
    def alive_at(self) -> float:
        """When the partition last made progress in deciding or opening, monotonic seconds. While the group has not
        nominated this instance, it is the present time."""
        return self._alive_at if self.ownership.nominated else time.monotonic()

    @property
    def thread_id(self) -> int | None:
        return self._thread.ident

    def wake(self) -> None:
        """Wake the thread: there is something to do."""
        self._woken.set()

    def nominate(self) -> None:
        """The group gives the partition to this instance."""
        self._alive_at = self.alive_at
        self.ownership.nominate()
        self.wake()

    def revoke(self) -> None:
        """The group gives the partition to another instance. This one keeps deciding until the other one fences it."""
        self.ownership.revoke()
        self.wake()

    def follow(self, wanted: bool) -> None:
        """Stand by for the partition, or stop doing so."""
        self.ownership.follow(wanted)
        self.wake()

    def take_over_from(self, epoch: int) -> None:
        """Take over the partition, because its owner of this epoch has died and this instance is the heir."""
        self.ownership.take_over_from(epoch)
        self.wake()

    # -- the thread

    def _run(self) -> None:
        pause = RETRY_SECONDS
        while not self._context.stopping.is_set():
            began = time.monotonic()
            try:
                self._open_if_wanted()
            except Exception as error:  # noqa: BLE001  (a fault of one partition must not stop the others)
                self.ownership.broke()
                self._report_role()
                self._close()
                self._faults.handle(error, pause)
                self._context.stopping.wait(pause)
                healthy = time.monotonic() - began > BROKEN_SECONDS_MAX
                pause = RETRY_SECONDS if healthy else min(BROKEN_SECONDS_MAX, pause * 2)
        self._close()

    def _close(self) -> None:
        self._commands.stop()
        self._context.reader.drop("events", self.number)
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def opening(self) -> bool:
        """See `Ownership.is_opening`."""
        return self.ownership.is_opening

    def _open_if_wanted(self) -> None:
        """Open the partition if this instance needs its state, and follow it then."""
        match self.ownership.action():
            case Action.OPEN:
                self._follow_and_lead()
            case Action.CLOSE:
                self.ownership.closed()
                self._report_role()
                self._wait(TICK_SECONDS)
            case Action.REST:
                self._wait(REST_SECONDS)

    def _follow_and_lead(self) -> None:
        """Follow the partition while this instance needs its state, and decide for it while it should own it."""
        ownership = self.ownership
        ownership.opened()
        self._report_role()
        opened = time.monotonic()
        self._store = open_store(self._context, self.number, self._path, self._log, self._note_progress)
        self._partition = Partition(self._policy, self._store, self._context.codec, self._context.log.log_id)
        ownership.folded(self._partition.position.owner, self._partition.position.owner_epoch)
        self._follower = Follower(self._context, self.number, self._partition, self.wake)
        while not self._context.stopping.is_set():
            folded = self._fold_some()
            self._update_report()
            match ownership.action(self._follower.caught_up):
                case Action.STAND_BY:
                    ownership.caught_up()
                    self._context.metrics.replay_seconds.observe(time.monotonic() - opened)
                case Action.CLOSE:
                    ownership.closed()
                    self._report_role()
                    break
                case Action.PROVE | Action.TAKE_OVER as action:
                    if writer := self._take_over(prove=action is Action.PROVE):
                        self._lead(writer)
                case Action.FOLD if not folded:
                    if ownership.is_opening:
                        self._context.reader.nudge_brokers()
                    self._wait(TICK_SECONDS if ownership.is_opening else REST_SECONDS)
        self._close()

    def _report_role(self) -> None:
        """Report only the role: there is no state to report."""
        self.report = role_report(self.number, self.role)
        self._context.heartbeat_due.set()

    def _wait(self, seconds: float) -> None:
        self._woken.wait(seconds)
        self._woken.clear()

    def _note_progress(self, _done: int = 0, _all: int = 0) -> None:
        """Note that opening or folding makes progress. It does not count after a fault until something is decided."""
        if not self.failed:
            self._alive_at = time.monotonic()

    def _fold_some(self) -> bool:
        """Fold records that have arrived. Returns whether there were any."""
        unhurried = self.ownership.is_opening and self.ownership.claim is Claim.NONE
        in_background = unhurried and self._context.others_decide()
        folded = self._follower.fold_in_background() if in_background else self._follower.fold_some()
        if folded:
            self._note_progress()
        return folded

    # -- taking over

    def _take_over(self, *, prove: bool) -> KafkaWriter | None:
        """Fence, read the log's end, and fold to it.

        Args:
            prove: whether this instance has to prove first that it is a member of the group.

        Returns:
            The writer to decide with; None if this instance does not decide now.

        Raises:
            LostPosition: the log does not hold the next record.
            Diverged: the state differs from the log.
        """
        context = self._context
        if not context.clock_is_right(self._log, "set the clock; until then, this instance takes no partition over"):
            self._wait(TICK_SECONDS)
            return None
        if prove and not self._still_member():
            self._wait(ASK_AGAIN_SECONDS)
            return None
        began = time.monotonic()
        self.ownership.takeover_began()
        self._update_report()
        try:
            # Commands are read before the fence, so that deciding can begin at once after it. Those that the old owner
            # still decides are dropped later.
            self._waiting = self._commands.resume(self._partition.position)
            writer = context.log.fence(self.number)
            end = context.log.end(self.number)
        except LogError as error:
            if context.throttle.due():
                self._log.warning("takeover_failed", error=str(error), todo="trying again")
            self._commands.stop()
            self.ownership.takeover_failed()
            self._wait(RETRY_SECONDS)
            return None
        try:
            writer.expect(end)
            self._follower.require_end(end)
            self._fold_to(end)
        except BaseException:
            writer.close()
            raise
        if context.stopping.is_set():
            # Perhaps the log is not folded to the end.
            writer.close()
            return None
        self.ownership.fenced(self._partition.position.owner, self._partition.position.owner_epoch)
        match self.ownership.action():
            case Action.LEAD:
                seconds, before = round(time.monotonic() - began, 3), self._partition.position
                context.metrics.takeover_seconds.observe(seconds)
                self._log.info("took_over", epoch=before.owner_epoch + 1, before=before.owner, seconds=seconds)
                return writer
            case Action.WITHDRAW:
                writer.close()
                self._commands.stop()
                self.ownership.withdrew()
                return None
            case action:
                raise AssertionError(f"expected an action behind a fence, but found: {action}")

    def _still_member(self) -> bool:
        assert self._context.membership is not None
        return self._context.membership.prove(self.number, self._partition.position.next_command)

    def _fold_to(self, end: int) -> None:
        while not self._follower.folded_to(end):
            if not self._fold_some():
                self._context.reader.nudge_brokers()
                self._wait(ASK_AGAIN_SECONDS)
            if self._context.stopping.is_set():
                return

    # -- leading

    def _lead(self, writer: KafkaWriter) -> None:
        """Decide until another owner fences this one, or the process stops."""
        context = self._context
        self._follower.stop()
        self._commands.position_confirmed()
        leader = Leader(context, self._partition, writer, self._waiting, self._starts)
        self.ownership.started_to_lead()
        try:
            while not context.stopping.is_set():
                more = leader.step(jobs_wait=self.queues.waiting_jobs > 0)
                if not leader.has_read_fault:
                    self._alive_at = time.monotonic()
                    self.ownership.decided()
                self._update_report()
                if not more:
                    self._wait(leader.seconds_until_due())
                    self._update_report()
                self._check_ownership()
        except LostPosition:
            self._commands.note_loss()
            raise
        except (Fenced, CommitUnknown) as error:
            self._log.info("stepped_back", reason=str(error), kind=type(error).__name__)
        finally:
            leader.close()
        self.ownership.stepped_back(self._partition.position.owner, self._partition.position.owner_epoch)
        self._follower.start()
        self._update_report()

    def _check_ownership(self) -> None:
        """Read the log while another instance may take over: a record that is not of this owner is of its successor.

        A nominated owner need not read the log: its next commit fails when it is fenced.

        Raises:
            Fenced: another instance owns the partition, or has owned it in between.
        """
        match self.ownership.action():
            case Action.DECIDE:
                if not self._follower.stopped:
                    self._follower.stop()
            case Action.WATCH:
                if self._follower.stopped:
                    self._follower.start()
                elif self._follower.finds_newer_records():
                    raise Fenced("a newer owner has written")
            case Action.STEP_BACK:
                raise Fenced("the group revoked the partition, and nominated this instance again")

    def _update_report(self) -> None:
        """Bring the report that heartbeats carry up to date."""
        state = self._partition.state
        self.ownership.folded(state.position.owner, state.position.owner_epoch)
        if (changes := self._reporter.changes(self.role, state, boot_ms())) is not None:
            self.queues, report = changes
            if must_report_soon(self.report, report):
                self._context.heartbeat_due.set()
            self.report = report
