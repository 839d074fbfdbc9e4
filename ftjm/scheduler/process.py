"""One scheduler process: makes its parts, joins the consumer group, works until it is stopped, and leaves."""

import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError
from ftjm.adapters.kafka.membership import Membership
from ftjm.adapters.kafka.nudge import Nudge
from ftjm.adapters.kafka.offsets import topic_id
from ftjm.adapters.kafka.partition_log import KafkaLog
from ftjm.adapters.kafka.partition_reader import Kind, PartitionReader
from ftjm.adapters.kafka.patience import UnknownTopic
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.engine.liveness import Liveness
from ftjm.engine.member_versions import MemberVersions
from ftjm.runtime import logs
from ftjm.runtime.clock import boot_ms
from ftjm.runtime.config import Settings
from ftjm.runtime.directory_lock import DirectoryLock
from ftjm.runtime.errors import FtjmError
from ftjm.scheduler.context import Context
from ftjm.scheduler.heartbeats import Heartbeats
from ftjm.scheduler.lane_marks import MARK
from ftjm.scheduler.log_trimmer import Trimmer
from ftjm.scheduler.metrics import SchedulerMetrics
from ftjm.scheduler.overload import Overload
from ftjm.scheduler.ownership import Role
from ftjm.scheduler.partition_runner import Runner
from ftjm.scheduler.snapshotter import Snapshotter
from ftjm.scheduler.standby_placement import StandbyPlacement
from ftjm.scheduler.status import SchedulerStatus
from ftjm.scheduler.watchdog import Watchdog
from ftjm.snapshots.repository import Repository
from ftjm.telemetry.process_metrics import registry
from ftjm.telemetry.server import Health, serve

log = logs.get(__name__)

PUBLISH_SECONDS = 5.0
"""Pause between two commits of positions to the consumer group."""
POLL_SECONDS = 0.05
"""How long one poll of the consumer group waits."""
LEAVE_SECONDS_MAX = 10.0
"""How long a leaving scheduler keeps deciding for its partitions, until others have taken them over."""
CHECK_SECONDS = 0.02
"""Pause between two checks of whether others have taken over, or of whether the stores have caught up."""
END_SECONDS_MAX = 3.0
"""How long the end of the process waits for the partitions' threads."""
WARM_SECONDS_MAX = 10.0
"""How long the process waits for its stores to catch up before it joins the group."""
JOIN_SECONDS = 0.25
"""Pause between two checks of whether to join the group."""
CONNECT_SECONDS_MAX = 5.0
"""Longest pause between two tries to reach Kafka."""


class Scheduler:
    """One scheduler process, which runs until `stop` is called. All schedulers of a cluster share its partitions."""

    def __init__(self, settings: Settings, name: str, *, passive: bool = False) -> None:
        """
        Args:
            settings: the settings of the cluster and of this process.
            name: name of this scheduler. Its stores have it, too, so it must be the only process of that name.
            passive: whether it is a passive standby: it follows all partitions, and joins the group only when no active
                scheduler is left.
        """
        self._settings = settings
        self._name = name
        self._passive = passive
        self._stop = threading.Event()
        self._runners: dict[int, Runner] = {}
        self._fault: FtjmError | None = None
        """The fault for which this instance leaves without being stopped; None if there is none."""
        self._status = SchedulerStatus()
        self._health = Health(self._status.why_not_ready)
        self._registry = registry("scheduler")
        self._metrics = SchedulerMetrics(self._registry, self._status)

    def stop(self) -> None:
        """Request a clean end. Any thread may call this, but no signal handler: it takes a lock."""
        self._stop.set()

    def run(self) -> None:
        """Join the group, work until stopped, and leave.

        Waits for a Kafka that cannot be reached.

        Raises:
            FtjmError: the topics are missing; the directory of the stores or the port for metrics is in use; or a fault
                has made this instance leave.
        """
        stores = self._settings.data_dir / self._name
        lock = DirectoryLock(stores, "lock")
        lock.acquire()
        try:
            self._server = serve(self._settings, "scheduler", self._registry, self._health)
            try:
                context = self._connect()
                if context is not None:
                    self._work(context)
            finally:
                self._server.close()
        finally:
            lock.release()

    def _connect(self) -> Context | None:
        """Make what needs Kafka, as soon as Kafka answers. Returns None if the process is stopped before."""
        settings = self._settings.kafka_settings(self._name)
        pause, unknown = 0.1, UnknownTopic()
        while not self._stop.is_set():
            self._health.pulse()
            producer = ConfirmingProducer(settings, stopping=self._stop.is_set)
            try:
                return self._make_context(settings, producer)
            except LogError as error:
                producer.close(0)
                if unknown.is_missing(error):
                    raise self._no_topics() from error
                log.warning("kafka_unreachable", error=str(error), todo="trying again")
                self._stop.wait(pause)
                pause = min(CONNECT_SECONDS_MAX, pause * 2)
        return None

    def _no_topics(self) -> Exception:
        return FtjmError(
            f"the topics of cluster {self._settings.cluster}", "no such topics", "create them: ftjm topics create"
        )

    def _make_context(self, settings: dict[str, object], producer: ConfirmingProducer) -> Context:
        """Make the context and the parts that need it. Raises LogError; then every part that was made is closed."""
        topic = self._settings.topic
        partitions = producer.warm(topic("commands"))
        lanes = producer.warm(topic("replies"))
        producer.warm(topic("dispatch"))
        nudge = _nudge(producer, topic("heartbeats"))
        ids = {kind: topic_id(settings, topic(kind)) for kind in ("events", "commands")}
        stores, log_id = self._settings.data_dir / self._name, ids["events"]
        at_hand: list[tuple[Kind, int]] = [("commands", partition) for partition in range(min(2, partitions))]
        repository = Repository(settings, self._settings.cluster, log_id, self._settings.snapshot_place)
        trimmer = Trimmer(self._settings, settings, ids)
        with ExitStack() as made:
            context = Context(
                settings=self._settings,
                instance=f"{self._name}@{socket.gethostname()}:{os.getpid()}",
                stores=stores,
                codec=codec,
                log=made.enter_context(closing(KafkaLog(settings, self._settings.cluster, log_id, self._stop.is_set))),
                reader=made.enter_context(
                    closing(
                        PartitionReader(settings, self._settings.cluster, lanes=lanes, at_hand=at_hand, nudge=nudge)
                    )
                ),
                producer=producer,
                liveness=Liveness(boot_ms()),
                members=MemberVersions(boot_ms()),
                partitions=partitions,
                lanes=lanes,
                metrics=self._metrics,
                repository=repository,
                overload=Overload(self._settings),
                snapshotter=made.enter_context(
                    closing(Snapshotter(repository, stores / ".snapshots", self._metrics, trimmer, self._stop))
                ),
            )
            context.membership = Membership(
                settings,
                self._settings.cluster,
                self._settings.session_timeout_ms,
                self._settings.heartbeat_interval_ms,
                lambda p: self._runners[p].nominate(),
                self._revoked,
            )
            made.callback(context.membership.leave)
            self._runners = {p: Runner(context, p) for p in range(partitions)}
            self._placement = made.enter_context(
                closing(StandbyPlacement(self._settings, context.instance, self._runners))
            )
            context.others_decide = lambda: self._placement.has_active_peer
            port, passive = self._server.port, lambda: self._passive
            self._heartbeats = Heartbeats(context, self._runners, self._placement, self._status, port, passive)
            made.pop_all()
        return context

    def _revoked(self, partition: int, lost: bool) -> None:
        log.info("revoked", partition=partition, lost=lost)
        self._runners[partition].revoke()

    def _work(self, context: Context) -> None:
        self._context = context
        self._status.context, self._status.partitions = context, self._runners
        # What was made until here lives as long as the process, so later garbage collections pass over it. A batch
        # makes thousands of objects and hardly any cycle, so there are few collections.
        gc.set_threshold(10_000, 20, 20)
        gc.collect()
        gc.freeze()
        log.info("scheduler_started", instance=context.instance, partitions=context.partitions, passive=self._passive)
        for runner in self._runners.values():
            runner.start()
        self._heartbeats.start()
        self._run_as_member()
        context.stopping.set()
        for runner in self._runners.values():
            runner.wake()
        deadline = time.monotonic() + END_SECONDS_MAX
        for runner in self._runners.values():
            runner.join(max(0.1, deadline - time.monotonic()))
        self._heartbeats.close()
        self._placement.close()
        context.reader.close()
        context.log.close()
        context.snapshotter.close()
        context.repository.close()
        context.producer.close()
        log.info("scheduler_stopped", instance=context.instance)
        if self._fault is not None:
            raise self._fault

    # -- membership

    def _run_as_member(self) -> None:
        """Join the group, and stay a member until stopped or until a fault; then leave."""
        context, membership = self._context, self._context.membership
        assert membership is not None
        self._warm_up()
        self._status.placed = True
        while self._fault is None and not self._ready_to_join() and not self._stop.wait(JOIN_SECONDS):
            self._health.pulse()
            self._fault = self._newer_log()
        self._fault = self._newer_log()
        if self._fault is not None:
            return  # this instance is no member yet, and owns nothing
        membership.join()
        published_at = time.monotonic()
        limit = self._settings.watchdog_seconds
        watchdog = Watchdog(
            self._runners, limit, lambda: self._status.answered, context.log.answers, self._placement.has_warm_peer
        )
        while not self._stop.is_set() and self._fault is None:
            membership.poll(POLL_SECONDS)
            self._health.pulse()
            self._fault = self._find_fault(watchdog, membership)
            if time.monotonic() - published_at > PUBLISH_SECONDS:
                published_at = time.monotonic()
                owned = {p: r.report.next_command for p, r in self._runners.items() if r.role is Role.OWNER}
                if owned:
                    membership.publish_positions(owned)
        self._leave(membership)

    def _ready_to_join(self) -> bool:
        """Whether to join the group: this host's clock is right, and this instance is active.

        A passive standby becomes active here when it is certain that no active scheduler is left.
        """
        if not self._context.clock_is_right(log, "set the clock; until then, this instance does not join the group"):
            return False
        if self._passive and self._placement.alone:
            reason = "no other active scheduler is present"
            log.warning("standby_activated", reason=reason, todo="nothing: it stays active")
            self._passive = False
            self._context.heartbeat_due.set()
        return not self._passive

    def _find_fault(self, watchdog: Watchdog, membership: Membership) -> FtjmError | None:
        """Return a fault for which this instance must leave the group and be started again; None if there is none."""
        if (newer := self._newer_log()) is not None:
            return newer
        if (stalled := watchdog.stalled()) is not None:
            expected = f"partition {stalled} to make progress in this process"
            todo = "start this process again, and report the log line partition_stalled"
            return FtjmError(expected, "it was stuck", todo)
        if membership.lost:
            found = "no broker: its client has forgotten all of them"
            return FtjmError("a connection to the consumer group", found, "start this process again")
        if (fault := self._context.producer.fault) is not None:
            todo = "start this process again; it leaves now, so that other instances take over"
            log.error("producer_failed", error=str(fault), todo=todo)
            return FtjmError("a producer that can send messages", str(fault), "start this process again")
        return None

    def _newer_log(self) -> FtjmError | None:
        """Return the error if a partition's upgrade to a newer build is final: this build must leave. Else None."""
        if (error := self._context.newer_log) is None:
            return None
        todo = "start a build that knows these versions; no store and no record was changed. See docs/upgrades.md"
        return FtjmError(error.expected, error.found, todo)

    def _leave(self, membership: Membership) -> None:
        """Leave the group, and keep deciding until others have taken over, for at most `LEAVE_SECONDS_MAX`."""
        self._context.leaving.set()
        self._context.heartbeat_due.set()
        membership.leave()
        for runner in self._runners.values():
            runner.revoke()
        deadline = time.monotonic() + LEAVE_SECONDS_MAX
        while time.monotonic() < deadline and self._has_partitions_to_hand_over():
            self._context.stopping.wait(CHECK_SECONDS)

    def _warm_up(self) -> None:
        """Wait until the stores are warm, for at most `WARM_SECONDS_MAX`: a takeover with a cold store is slow."""
        deadline = time.monotonic() + WARM_SECONDS_MAX
        self._placement.placed.wait(WARM_SECONDS_MAX)
        while any(runner.opening or runner.role is Role.BROKEN for runner in self._runners.values()):
            if self._stop.wait(CHECK_SECONDS) or time.monotonic() > deadline:
                break

    def _has_partitions_to_hand_over(self) -> bool:
        """Whether this instance still owns a partition that another instance will take over."""
        owned = [p for p, runner in self._runners.items() if runner.role in (Role.OWNER, Role.TAKING_OVER)]
        return bool(owned) and (self._placement.has_active_peer or any(map(self._placement.has_warm_peer, owned)))


def _nudge(producer: ConfirmingProducer, heartbeats: str) -> Nudge:
    """Make the nudge of the partition reader. It writes marks into lanes of heartbeats, whose readers ignore them."""

    def write(lane: int, delivered: Callable[[], None]) -> None:
        producer.send(heartbeats, MARK, partition=lane, delivered=lambda _error: delivered())

    return Nudge(heartbeats, write)
