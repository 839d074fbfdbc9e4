"""Many simulated workers in one process: a worker that does nothing costs a session, not a process.

Each has the real rules, and so a session, a lease, heartbeats and numbered messages of its own. All share one producer
and one reader of all lanes; a real worker has its own. Their attempts end at once, as those of `instant_worker.py`.
"""

from __future__ import annotations

import heapq
import selectors
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing

from msgspec.structs import replace

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.patience import patiently
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.core.records.messages import (
    DISPATCHES,
    Dispatch,
    DrainWorker,
    MemberVersion,
    OfferTaken,
    PartitionReport,
    SchedulerHeartbeat,
)
from ftjm.runtime import logs
from ftjm.runtime.clock import boot_ms, wall_ms
from ftjm.runtime.config import Settings
from ftjm.worker.attempts.protocol import Ended
from ftjm.worker.inbox import (
    HeartbeatAcknowledged,
    Inbox,
    Item,
    LaneOpened,
    LaneUnreadable,
    LeaveRequested,
    LogPort,
    MessageUndecodable,
    ReportConfirmed,
)
from ftjm.worker.log_link import LogLink, discover
from ftjm.worker.process import make_rules
from ftjm.worker.rules.actions import Action, OpenLane, Report, Run, SendHeartbeat
from ftjm.worker.rules.worker_life import WorkerRules

SessionItem = Dispatch | HeartbeatAcknowledged | LaneOpened | LaneUnreadable | MessageUndecodable | ReportConfirmed
READ_SECONDS = 0.2
PATIENCE_SECONDS = 30.0
CLOSE_SECONDS_MAX = 10.0


class FleetLink(LogLink):
    """The link of all workers: lanes are read by one thread, from the start of the process on."""

    def listen(self, session: str, lane: int) -> None:  # noqa: ARG002 -- every lane is being read
        """See `LogPort.listen`."""
        self._inbox.put(LaneOpened(session))

    def leave(self, session: str) -> None:
        """See `LogPort.leave`."""


class Fleet:
    """Drives the rules of all workers, in one thread. It takes the place of as many supervisors."""

    def __init__(self, workers: Iterable[WorkerRules], link: LogPort, inbox: Inbox) -> None:
        """
        Args:
            workers: the rules of each worker.
            link: the log.
            inbox: gets what the log brings.
        """
        self._workers = list(workers)
        self._link = link
        self._inbox = inbox
        self._by_session: dict[str, int] = {}
        """The number of the worker that began each session."""
        self._due_at = [0] * len(self._workers)
        """When each worker has something to do, CLOCK_BOOTTIME, ms."""
        self._due = [(0, number) for number in range(len(self._workers))]
        """A heap of these times and workers, and of times that were replaced since: those are dropped at the top."""
        self._draining = False

    @property
    def finished(self) -> bool:
        """Whether all workers have left."""
        return self._draining and all(worker.finished for worker in self._workers)

    def next_due(self) -> int:
        """Return when `step` must be called at the latest."""
        return self._due[0][0]

    def step(self, now: int) -> None:
        """Handle what has arrived, and do what is due."""
        touched: set[int] = set()
        for item in self._inbox.take():
            touched |= self._handle(item, now)
        while self._due and self._due[0][0] <= now:
            time_ms, number = heapq.heappop(self._due)
            if time_ms == self._due_at[number]:
                touched.add(number)
        for number in touched:
            worker = self._workers[number]
            self._do(number, worker.tick(now), now)
            self._due_at[number] = worker.wake_at(now)
            heapq.heappush(self._due, (self._due_at[number], number))

    def _handle(self, item: Item, now: int) -> set[int]:
        """Pass an item to the workers that it is for. Return those that have something to do because of it."""
        match item:
            case SchedulerHeartbeat():
                self._scheduler_heartbeat(item, now)
                return set(range(len(self._workers)))
            case MemberVersion():
                for worker in self._workers:
                    worker.scheduler_version(item)
                return set()
            case LeaveRequested():
                self._draining = True
                for number, worker in enumerate(self._workers):
                    self._do(number, worker.drain(), now)
                return set(range(len(self._workers)))
            case DrainWorker():
                return set()
            case _:
                found = self._by_session.get(item.session)
                return set() if found is None else self._pass(found, item, now)

    def _scheduler_heartbeat(self, heartbeat: SchedulerHeartbeat, now: int) -> None:
        """Pass it on to all workers: to each with what was taken of its own offers, and not of a thousand others."""
        own: defaultdict[int, list[PartitionReport]] = defaultdict(list)
        for report in heartbeat.partitions:
            taken: defaultdict[int, list[OfferTaken]] = defaultdict(list)
            for offer in report.taken:
                if (number := self._by_session.get(offer.session)) is not None:
                    taken[number].append(offer)
            for number, offers in taken.items():
                own[number].append(replace(report, taken=offers))
        common = replace(heartbeat, partitions=[replace(report, taken=[]) for report in heartbeat.partitions])
        for number, worker in enumerate(self._workers):
            worker.scheduler_heartbeat(common, now)
            if number in own:
                worker.scheduler_heartbeat(replace(heartbeat, partitions=own[number]), now)

    def _pass(self, number: int, item: SessionItem, now: int) -> set[int]:
        """Pass an item to the one worker that it is for."""
        worker = self._workers[number]
        match item:
            case HeartbeatAcknowledged(session, token, logged_ms):
                self._do(number, worker.heartbeat_acknowledged(session, token, now, logged_ms), now)
            case ReportConfirmed(session):
                self._do(number, worker.report_confirmed(session), now)
            case LaneOpened(session):
                self._do(number, worker.lane_opened(session), now)
            case MessageUndecodable(session) | LaneUnreadable(session):
                self._do(number, worker.session_unreadable(session), now)
            case _:
                self._do(number, worker.message_received(item, now), now)
        return {number}

    def _do(self, number: int, actions: Iterable[Action], now: int) -> None:
        """Carry out actions of a worker. Its clock is `now`, since the rules measure times between two calls."""
        worker = self._workers[number]
        for action in actions:
            match action:
                case OpenLane(session, lane):
                    self._by_session[session] = number
                    self._link.listen(session, lane)
                case SendHeartbeat(session, token, heartbeat):
                    self._link.beat(session, token, heartbeat)
                case Report(session, command):
                    command.sent_at = wall_ms()
                    self._link.report(session, command)
                case Run(key):
                    at = wall_ms()
                    end = Ended(key=key, started_at=at, ended_at=at, result=b"%d" % time.time_ns())
                    self._do(number, worker.attempt_ended(end, now), now)
                case _:
                    """Nothing runs that could be stopped, and no guard asks for a deadline."""


def run(settings: Settings, *, queues: Sequence[str], slots: int, count: int) -> int:
    """Run `count` workers with `slots` slots each until SIGTERM. Return the exit status."""
    logs.configure("json", "info")
    inbox = Inbox()
    signal.signal(signal.SIGTERM, lambda *_: inbox.put(LeaveRequested()))
    kafka = settings.kafka_settings("worker-fleet")
    producer = ConfirmingProducer(kafka)
    topics = discover(producer, settings.topic, lambda: True)
    assert topics is not None
    workers = [make_rules(settings, topics, name=f"fleet-{n}", queues=queues, slots=slots) for n in range(count)]
    reader = patiently(lambda: LaneReader(kafka, topics.dispatch, range(topics.lanes)), settings, PATIENCE_SECONDS)
    link = FleetLink(kafka, topics, producer, inbox, settings.lease_seconds)
    stopped = threading.Event()
    reading = threading.Thread(target=_read, args=(reader, inbox, stopped), name="dispatches", daemon=True)
    reading.start()
    fleet = Fleet(workers, link, inbox)
    with closing(selectors.DefaultSelector()) as selector:
        selector.register(inbox, selectors.EVENT_READ)
        while not fleet.finished and not link.fault:
            selector.select(max(0, fleet.next_due() - boot_ms()) / 1000)
            fleet.step(boot_ms())
    stopped.set()
    return 1 if link.close(CLOSE_SECONDS_MAX) else 0


def _read(reader: LaneReader, inbox: Inbox, stopped: threading.Event) -> None:
    """Put the messages of all sessions into the inbox."""
    while not stopped.is_set():
        for record in reader.read(READ_SECONDS):
            if codec.type_of(record.value) in DISPATCHES:
                message: Dispatch = codec.decode(record.value)
                inbox.put(message)
    reader.close()
