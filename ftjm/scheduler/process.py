"""The composition of one scheduler process, and its threads beside the partitions'."""

import os
import socket
import threading
import time
from contextlib import ExitStack, closing

from confluent_kafka import KafkaException

from ftjm import logs
from ftjm.adapters import codec
from ftjm.adapters.kafka import topic_id
from ftjm.adapters.kafka_feed import Feed, Kind
from ftjm.adapters.kafka_group import Membership
from ftjm.adapters.kafka_log import KafkaLog
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.clock import boot_ms
from ftjm.config import Settings
from ftjm.engine.liveness import Liveness
from ftjm.errors import FtjmError
from ftjm.locks import DirectoryLock
from ftjm.metrics.process import registry
from ftjm.metrics.scheduler import SchedulerMetrics
from ftjm.metrics.server import Health, serve
from ftjm.patience import Missing
from ftjm.repository import Repository
from ftjm.scheduler.context import Context
from ftjm.scheduler.heartbeats import Heartbeats
from ftjm.scheduler.inside import Inside
from ftjm.scheduler.neighbours import Neighbours
from ftjm.scheduler.pressure import Pressure
from ftjm.scheduler.runner import Role, Runner
from ftjm.scheduler.snapshots import Snapshotter
from ftjm.scheduler.trimming import Trimmer
from ftjm.scheduler.watchdog import Watchdog

log = logs.get(__name__)

TELL_SECONDS = 5.0
POLL_SECONDS = 0.05
LEAVE_SECONDS_MAX = 10.0
"""So long what is owned here is decided for until others have taken it over."""
LOOK_SECONDS = 0.02
END_SECONDS_MAX = 3.0
WARM_SECONDS_MAX = 10.0
"""A store that needs longer is folded while others, or nobody, decide."""
PLACE_SECONDS = 0.25
CONNECT_SECONDS_MAX = 5.0


class Scheduler:
    """Runs until `stop` is called. Any number of them share the partitions of a cluster."""

    def __init__(self, settings: Settings, name: str, *, passive: bool = False) -> None:
        """A `passive` one follows everything, and joins the others only when no active one is left."""
        self._settings = settings
        self._name = name
        self._passive = passive
        self._stop = threading.Event()
        self._runners: dict[int, Runner] = {}
        self._fault: FtjmError | None = None
        """Why this instance leaves, though nobody has told it to."""
        self._inside = Inside()
        self._health = Health(self._inside.why_not_ready)
        self._registry = registry("scheduler")
        self._metrics = SchedulerMetrics(self._registry, self._inside)

    def stop(self) -> None:
        """Ask for a clean end; may be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Join, work until stopped, leave.

        Raises FtjmError where the topics are missing, or the store directory or the metrics' port is in use. Waits
        for a Kafka that cannot be reached.
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
        """Everything that needs a Kafka that answers; None if stopped before it did."""
        settings = self._settings.kafka_settings(self._name)
        pause, missing = 0.1, Missing()
        while not self._stop.is_set():
            self._health.pulse()
            outlet = Outlet(settings, stopping=self._stop.is_set, linger_ms=1)
            try:
                return self._compose(settings, outlet)
            except KafkaException as error:
                outlet.close(0)
                if missing.for_good(error):
                    raise self._no_topics() from error
                log.warning("kafka_unreachable", error=str(error.args[0]), todo="waiting, and trying again")
                self._stop.wait(pause)
                pause = min(CONNECT_SECONDS_MAX, pause * 2)
        return None

    def _no_topics(self) -> Exception:
        return FtjmError(
            f"the topics of cluster {self._settings.cluster}", "none of that name", "make them: ftjm topics create"
        )

    def _compose(self, settings: dict[str, object], outlet: Outlet) -> Context:
        """Raises KafkaException, and leaves nothing behind then, where a part of it cannot be made yet."""
        topic = self._settings.topic
        partitions = outlet.warm(topic("commands"))
        lanes = outlet.warm(topic("replies"))
        outlet.warm(topic("dispatch"))
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
                feed=made.enter_context(closing(Feed(settings, self._settings.cluster, at_hand=at_hand))),
                outlet=outlet,
                liveness=Liveness(boot_ms()),
                partitions=partitions,
                lanes=lanes,
                metrics=self._metrics,
                repository=repository,
                pressure=Pressure(self._settings),
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
            self._neighbours = made.enter_context(closing(Neighbours(self._settings, context.instance, self._runners)))
            context.others_decide = lambda: self._neighbours.active
            port, passive = self._server.port, lambda: self._passive
            self._heartbeats = Heartbeats(context, self._runners, self._neighbours, self._inside, port, passive)
            made.pop_all()
        return context

    def _revoked(self, partition: int, lost: bool) -> None:
        log.info("revoked", partition=partition, lost=lost)
        self._runners[partition].revoke()

    def _work(self, context: Context) -> None:
        self._context = context
        self._inside.context, self._inside.partitions = context, self._runners
        log.info("scheduler_started", instance=context.instance, partitions=context.partitions, passive=self._passive)
        for runner in self._runners.values():
            runner.start()
        self._heartbeats.start()
        self._belong()
        context.stopping.set()
        for runner in self._runners.values():
            runner.wake()
        deadline = time.monotonic() + END_SECONDS_MAX
        for runner in self._runners.values():
            runner.join(max(0.1, deadline - time.monotonic()))
        self._heartbeats.close()
        self._neighbours.close()
        context.feed.close()
        context.log.close()
        context.snapshotter.close()
        context.repository.close()
        context.outlet.close()
        log.info("scheduler_stopped", instance=context.instance)
        if self._fault is not None:
            raise self._fault

    # -- membership

    def _belong(self) -> None:
        """Be a member until stopped; then leave, and go on deciding until others have taken over."""
        context, membership = self._context, self._context.membership
        assert membership is not None
        self._warm_up()
        self._inside.placed = True
        while not self._ready_to_join() and not self._stop.wait(PLACE_SECONDS):
            self._health.pulse()
        membership.join()
        told = time.monotonic()
        limit = self._settings.watchdog_seconds
        watchdog = Watchdog(
            self._runners, limit, lambda: self._inside.answered, context.log.answers, self._neighbours.warm
        )
        while not self._stop.is_set() and self._fault is None:
            membership.poll(POLL_SECONDS)
            self._health.pulse()
            self._fault = self._faulty(watchdog, membership)
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                owned = {p: r.report.next_command for p, r in self._runners.items() if r.role is Role.OWNER}
                if owned:
                    membership.tell(owned)
        self._leave(membership)

    def _ready_to_join(self) -> bool:
        """Whether the group may nominate this instance: with a clock that is right, and active."""
        if not self._context.clock_is_right(log, "set the clock; until then this instance does not join the others"):
            return False
        if self._passive and self._neighbours.alone:
            log.warning("standby_activated", reason="no active scheduler was heard", todo="nothing: it goes on so")
            self._passive = False
            self._context.changed.set()
        return not self._passive

    def _faulty(self, watchdog: Watchdog, membership: Membership) -> FtjmError | None:
        """Why this instance should leave its partitions to others, and be started anew."""
        if (stalled := watchdog.stalled()) is not None:
            expected = f"partition {stalled} to be decided for here"
            return FtjmError(expected, "it was stuck", "look at partition_stalled in the log; start this process again")
        if membership.lost:
            return FtjmError("the group's coordinator to be there", "no broker, for good", "start this process again")
        if (fault := self._context.outlet.fault) is not None:
            log.error("outlet_failed", error=fault.str(), todo="leaving, so that others take over: start it again")
            return FtjmError("to send what was decided", fault.str(), "start this process again")
        return None

    def _leave(self, membership: Membership) -> None:
        """Leave the group, and go on deciding until others have taken over."""
        self._context.leaving.set()
        self._context.changed.set()
        membership.leave()
        for runner in self._runners.values():
            runner.revoke()
        deadline = time.monotonic() + LEAVE_SECONDS_MAX
        while time.monotonic() < deadline and self._owned_for_others():
            self._context.stopping.wait(LOOK_SECONDS)

    def _warm_up(self) -> None:
        """Let the stores catch up before the group may nominate us: a cold owner is a slow one."""
        deadline = time.monotonic() + WARM_SECONDS_MAX
        self._neighbours.placed.wait(WARM_SECONDS_MAX)
        while any(runner.opening or runner.role is Role.BROKEN for runner in self._runners.values()):
            if self._stop.wait(0.02) or time.monotonic() > deadline:
                break

    def _owned_for_others(self) -> bool:
        """Whether something is still decided for here that another instance will take over."""
        owned = [p for p, runner in self._runners.items() if runner.role in (Role.OWNER, Role.TAKING_OVER)]
        return bool(owned) and (self._neighbours.active or any(map(self._neighbours.warm, owned)))
