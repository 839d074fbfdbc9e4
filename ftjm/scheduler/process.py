"""The composition of one scheduler process, and its threads beside the partitions'."""

import os
import socket
import threading
import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Message

from ftjm import logs
from ftjm.adapters import codec
from ftjm.adapters.kafka import LaneReader, Outlet, topic_id
from ftjm.adapters.kafka_feed import Feed
from ftjm.adapters.kafka_group import Membership
from ftjm.adapters.kafka_log import KafkaLog
from ftjm.clock import boot_ms, wall_ms
from ftjm.config import Settings
from ftjm.core.errors import UndecodableError
from ftjm.core.identity import partition_for
from ftjm.core.messages import SchedulerHeartbeat, WorkerHeartbeat
from ftjm.engine.liveness import Liveness, plausible
from ftjm.errors import FtjmError
from ftjm.locks import DirectoryLock
from ftjm.metrics.process import registry
from ftjm.metrics.scheduler import SchedulerMetrics
from ftjm.metrics.server import Health, serve
from ftjm.scheduler.context import Context
from ftjm.scheduler.inside import Inside
from ftjm.scheduler.runner import Role, Runner

log = logs.get(__name__)

HEARTBEAT_SECONDS = 1.0
HEARTBEAT_SECONDS_MIN = 0.02
"""Between two heartbeats that tell of changes."""
TELL_SECONDS = 5.0
LEAVE_SECONDS_MAX = 3.0
WARM_SECONDS_MAX = 10.0
"""A store that needs longer is folded while others, or nobody, decide."""
PEER_SECONDS = 3.0
"""An instance that was heard within this is there."""
CONNECT_SECONDS_MAX = 5.0


class Scheduler:
    """Runs until `stop` is called. Any number of them share the partitions of a cluster."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._stop = threading.Event()
        self._peers: dict[str, float] = {}
        self._runners: dict[int, Runner] = {}
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
        pause = 0.1
        while not self._stop.is_set():
            self._health.pulse()
            outlet = Outlet(settings, **{"linger.ms": 1})
            try:
                return self._compose(settings, outlet)
            except KafkaException as error:
                outlet.close(0)
                code = error.args[0].code()
                if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
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
        topic = self._settings.topic
        partitions = outlet.warm(topic("commands"))
        lanes = outlet.warm(topic("replies"))
        outlet.warm(topic("dispatch"))
        self._lanes = outlet.warm(topic("heartbeats"))
        context = Context(
            settings=self._settings,
            instance=f"{self._name}@{socket.gethostname()}:{os.getpid()}",
            stores=self._settings.data_dir / self._name,
            codec=codec,
            log=KafkaLog(settings, self._settings.cluster, topic_id(settings, topic("events")), self._stop.is_set),
            feed=Feed(settings, self._settings.cluster),
            outlet=outlet,
            liveness=Liveness(boot_ms()),
            partitions=partitions,
            lanes=lanes,
            metrics=self._metrics,
        )
        self._reader = LaneReader(settings, topic("heartbeats"), range(self._lanes))
        context.membership = Membership(
            settings,
            self._settings.cluster,
            self._settings.session_timeout_ms,
            self._settings.heartbeat_interval_ms,
            lambda p: self._runners[p].nominate(),
            self._revoked,
        )
        return context

    def _revoked(self, partition: int, lost: bool) -> None:
        log.info("revoked", partition=partition, lost=lost)
        self._runners[partition].revoke()

    def _work(self, context: Context) -> None:
        self._context = context
        self._runners = {p: Runner(context, p) for p in range(context.partitions)}
        self._inside.context, self._inside.partitions = context, self._runners
        log.info("scheduler_started", instance=context.instance, partitions=context.partitions)
        for runner in self._runners.values():
            runner.start()
        listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        teller = threading.Thread(target=self._tell, name="teller", daemon=True)
        listener.start()
        teller.start()
        self._belong()
        context.stopping.set()
        for runner in self._runners.values():
            runner.wake()
        deadline = time.monotonic() + LEAVE_SECONDS_MAX
        for runner in self._runners.values():
            runner.join(max(0.1, deadline - time.monotonic()))
        context.changed.set()
        listener.join()
        teller.join()
        self._reader.close()
        context.feed.close()
        context.outlet.close()
        log.info("scheduler_stopped", instance=context.instance)

    # -- membership

    def _belong(self) -> None:
        """Be a member until stopped; then leave, and go on deciding until others have taken over."""
        membership = self._context.membership
        assert membership is not None
        self._warm_up()
        membership.join()
        told = time.monotonic()
        while not self._stop.is_set():
            membership.poll(0.1)
            self._health.pulse()
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                owned = {p: r.report.next_command for p, r in self._runners.items() if r.role is Role.OWNER}
                if owned:
                    membership.tell(owned)
        membership.leave()
        for runner in self._runners.values():
            runner.revoke()
        deadline = time.monotonic() + LEAVE_SECONDS_MAX
        while time.monotonic() < deadline and self._others() and self._owns():
            self._context.changed.wait(0.02)

    def _warm_up(self) -> None:
        """Let the stores catch up before the group may nominate us: a cold owner is a slow one."""
        deadline = time.monotonic() + WARM_SECONDS_MAX
        while any(runner.role is Role.OPENING for runner in self._runners.values()):
            if self._stop.wait(0.02) or time.monotonic() > deadline:
                return

    def _owns(self) -> bool:
        return any(runner.role in (Role.OWNER, Role.TAKING_OVER) for runner in self._runners.values())

    def _others(self) -> bool:
        now = time.monotonic()
        return any(now - at < PEER_SECONDS for name, at in list(self._peers.items()) if name != self._context.instance)

    # -- heartbeats

    def _listen(self) -> None:
        """Read all lanes of heartbeats: workers' for the leases and offers, schedulers' to know of each other."""
        liveness = self._context.liveness
        while not self._context.stopping.is_set():
            try:
                self._hear(self._reader.read(0.05))
                liveness.tick(boot_ms())
                if liveness.suspects(boot_ms()):
                    self._confirm()
            except KafkaException as error:
                log.warning("heartbeats_unreadable", error=str(error.args[0]), todo="waiting, and trying again")
                self._context.stopping.wait(0.5)

    def _confirm(self) -> None:
        """Read the lanes to the ends that they have now: then silence is known, and not only assumed."""
        now = boot_ms()
        ends = self._reader.ends()
        while not self._reader.reached(ends) and not self._context.stopping.is_set():
            self._hear(self._reader.read(0.05))
            self._context.liveness.tick(boot_ms())
        self._context.liveness.confirm(now)

    def _hear(self, messages: Iterable[Message]) -> None:
        before = self._context.liveness.changed
        for message in messages:
            try:
                heartbeat = codec.decode(message.value() or b"")
            except UndecodableError as error:
                log.warning("heartbeat_undecodable", error=str(error), offset=message.offset())
                continue
            if isinstance(heartbeat, WorkerHeartbeat) and plausible(heartbeat):
                self._context.liveness.heard(heartbeat, boot_ms())
            elif isinstance(heartbeat, SchedulerHeartbeat):
                self._peers[heartbeat.instance] = time.monotonic()
                self._inside.heard(heartbeat)
        if self._context.liveness.changed != before:
            for runner in self._runners.values():
                runner.wake()

    def _tell(self) -> None:
        """Tell the others of this process: every second, and soon after something changed."""
        context = self._context
        lane = partition_for(context.instance, self._lanes)
        while not context.stopping.is_set():
            context.changed.clear()
            heartbeat = SchedulerHeartbeat(
                instance=context.instance,
                host=socket.gethostname(),
                pid=os.getpid(),
                port=self._server.port,
                partitions=[runner.report for runner in self._runners.values()],
            )
            context.outlet.send(
                self._settings.topic("heartbeats"),
                codec.encode(heartbeat),
                partition=lane,
                key=context.instance.encode(),
                delivered=self._compare_clocks,
            )
            context.stopping.wait(HEARTBEAT_SECONDS_MIN)
            context.changed.wait(HEARTBEAT_SECONDS)

    def _compare_clocks(self, error: KafkaError | None, message: Message) -> None:
        """The broker's time of a heartbeat's append is between its sending and now."""
        if error is None:
            self._inside.told()
            now, latency = wall_ms(), int((message.latency() or 0.0) * 1000)
            appended = message.timestamp()[1]
            behind = appended - now
            ahead = now - latency - appended
            first = self._context.clock_error_ms is None
            self._context.clock_error_ms = -behind if behind > 0 else max(0, ahead)
            if first:
                for runner in self._runners.values():
                    runner.wake()
