"""The worker's connection to the log: a producer, a reader for the lane of each session, a reader for the schedulers.

Reports are sent until the log has them: the producer itself tries again, and a report that Kafka refuses is sent again
a second later. A checkpoint is the exception. A newer one of the same attempt replaces it, so that an old checkpoint
never arrives behind a newer one, and one that Kafka refuses for good is dropped.

A worker whose heartbeats arrive but that cannot read its lane would be sent work forever and run none of it. So the
reader of a lane proves that it can read: it asks Kafka several times in a lease, even if the lane is silent. If there
was no answer for a whole lease, the session takes no new attempt (`LaneUnreadable`)."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError, TopicUnknown
from ftjm.adapters.kafka.lane_reader import LaneReader
from ftjm.adapters.kafka.producer import ConfirmingProducer, Delivered, Received
from ftjm.adapters.records import Receipt, Record
from ftjm.core.bounds import confine
from ftjm.core.errors import UndecodableError
from ftjm.core.identity import partition_for
from ftjm.core.records.commands import AttemptReport, CheckpointAttempt, StartAttempt
from ftjm.core.records.levels import LEVEL
from ftjm.core.records.messages import DISPATCHES, DrainWorker, MemberVersion, SchedulerHeartbeat, WorkerHeartbeat
from ftjm.runtime.version import __version__
from ftjm.worker.inbox import (
    HeartbeatAcknowledged,
    Inbox,
    Item,
    LaneOpened,
    LaneUnreadable,
    MessageUndecodable,
    ReportConfirmed,
)

log = structlog.get_logger(__name__)

READ_SECONDS = 0.2
"""A reader notices within this time that it should stop."""
ASK_SECONDS = 2.0
"""How long one request to Kafka may take while the worker starts. Signals are served between two requests."""
AGAIN_SECONDS = 1.0
"""Pause between the refusal of a report by Kafka and the next time it is sent."""
CHECKPOINTS_MAX = 10_000
"""Attempts whose newest checkpoint is remembered."""
PROVE_SECONDS_MAX = 1.0
PROOFS_PER_LEASE = 4
"""How often the reader of a silent lane asks Kafka whether it can be read: a late answer, too, must be within it."""
PROOF_MS_MAX = 250
"""How long a broker waits for a record before it answers that there is none. The first session waits for it."""
ANSWERS_PER_LEASE = 20
"""How many such answers fit into a short lease. With fewer, a session with a lease of 2 s was given up."""
ANNOUNCE_SECONDS = 1.0
"""Least time between two announcements of a session's build: a session whose slots change sends many heartbeats."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 3.0


class Topics:
    """Names of the topics, and the numbers of partitions of `commands` and `dispatch` (lanes) that Kafka reports."""

    def __init__(self, name: Callable[[str], str], partitions: int, lanes: int) -> None:
        self.commands, self.dispatch, self.heartbeats = name("commands"), name("dispatch"), name("heartbeats")
        self.partitions = partitions
        self.lanes = lanes


def discover(producer: ConfirmingProducer, name: Callable[[str], str], wanted: Callable[[], bool]) -> Topics | None:
    """Ask Kafka for the topics until it knows them, with a warning for each time that it does not.

    Args:
        producer: The worker's producer.
        name: Returns the full name of a topic by its short one.
        wanted: Returns whether to continue. It is called before each request to Kafka.

    Returns:
        The topics; None if they are not wanted any more.
    """
    pause = RETRY_SECONDS_MIN
    while wanted():
        try:
            lanes = producer.warm(name("dispatch"), ASK_SECONDS)
            producer.warm(name("heartbeats"), ASK_SECONDS)
            return Topics(name, producer.warm(name("commands"), ASK_SECONDS), lanes)
        except LogError as error:
            todo = "waiting, and trying again; is it running, and were the topics made (`ftjm topics create`)?"
            log.warning("kafka_not_ready", error=str(error), retry_seconds=pause, todo=todo)
        time.sleep(pause)
        pause = min(2 * pause, RETRY_SECONDS_MAX)
    return None


class LogLink:
    """`inbox.LogPort` over Kafka."""

    def __init__(
        self,
        settings: Mapping[str, object],
        topics: Topics,
        producer: ConfirmingProducer,
        inbox: Inbox,
        lease_seconds: float,
    ) -> None:
        """Start to read what schedulers publish.

        Args:
            settings: The settings of the Kafka client.
            topics: The topics, as `discover` returns them.
            producer: The worker's producer.
            inbox: Gets all answers and messages.
            lease_seconds: A lane that cannot be read for this long is reported.
        """
        self._settings = settings
        self._lease_seconds = lease_seconds
        self._topics = topics
        self._producer = producer
        self._inbox = inbox
        self._listeners: dict[str, _Listener] = {}
        self._checkpoints: dict[tuple[str, str, int], CheckpointAttempt] = {}
        """The newest checkpoint of each attempt, until the attempt ends. The key is queue, job id and attempt."""
        self._announced = ("", 0.0)
        """The session that announced this build last, and when."""
        self._schedulers = _Listener(settings, topics.heartbeats, range(topics.lanes), self._scheduler_record, inbox)
        self._schedulers.start()

    @property
    def fault(self) -> str:
        """See `LogPort.fault`."""
        return "" if self._producer.fault is None else str(self._producer.fault)

    def report(self, session: str, command: AttemptReport) -> None:
        """See `LogPort.report`."""
        if isinstance(command, CheckpointAttempt):
            self._checkpoints.pop(_attempt(command), None)
            self._checkpoints[_attempt(command)] = command
            if len(self._checkpoints) > CHECKPOINTS_MAX:
                self._checkpoints.pop(next(iter(self._checkpoints)), None)
        self._append(session, command)

    def _append(self, session: str, command: AttemptReport) -> None:
        if self._superseded(command):
            self._inbox.put_patiently(ReportConfirmed(session))
            return

        def delivered(error: LogError | None) -> None:
            given_up = isinstance(command, CheckpointAttempt) and not isinstance(error, TopicUnknown)
            if error is None or given_up or self._superseded(command):
                if self._checkpoints and not isinstance(command, (CheckpointAttempt, StartAttempt)):
                    self._checkpoints.pop(_attempt(command), None)  # a checkpoint that arrives now is stale
                self._inbox.put_patiently(ReportConfirmed(session))
                return
            # The producer tries again after errors that pass. So this report is too large, or the topic's rights forbid
            # it, or a broker does not know the topic yet.
            log.error(
                "report_refused",
                job=f"{command.queue}/{command.job_id}",
                error=str(error),
                todo="mend the cause, unless the brokers have just come back; the report is sent again every second",
            )
            again = threading.Timer(AGAIN_SECONDS, self._append, (session, command))
            again.daemon = True
            again.start()

        key = command.shard_key or command.queue
        self._send(self._topics.commands, command, partition_for(key, self._topics.partitions), key, delivered)

    def _superseded(self, command: AttemptReport) -> bool:
        """Whether it is a checkpoint, and a newer one of its attempt exists."""
        newest = self._checkpoints.get(_attempt(command)) if isinstance(command, CheckpointAttempt) else None
        return newest is not None and newest is not command

    def beat(self, session: str, token: int, heartbeat: WorkerHeartbeat) -> None:
        """See `LogPort.beat`."""

        def received(receipt: Receipt | LogError) -> None:
            if isinstance(receipt, Receipt):
                self._inbox.put(HeartbeatAcknowledged(session, token, max(0, receipt.time_ms)))

        lane = partition_for(session, self._topics.lanes)
        self._announce(heartbeat, lane)
        self._send(self._topics.heartbeats, heartbeat, lane, session, received=received)

    def _announce(self, heartbeat: WorkerHeartbeat, lane: int) -> None:
        """Announce this build on the lane of the session, before the heartbeat, once in `ANNOUNCE_SECONDS`."""
        session, now = heartbeat.session, time.monotonic()
        if self._announced[0] == session and now - self._announced[1] < ANNOUNCE_SECONDS:
            return
        self._announced = session, now
        name = f"{heartbeat.worker}@{heartbeat.host}:{heartbeat.pid}"
        version = MemberVersion(
            member=session, name=name, role="worker", release=__version__, level=LEVEL, state_version=0
        )
        self._send(self._topics.heartbeats, version, lane, session)

    def _send(
        self,
        topic: str,
        what: AttemptReport | WorkerHeartbeat | MemberVersion,
        partition: int,
        key: str,
        delivered: Delivered | None = None,
        received: Received | None = None,
    ) -> None:
        data = codec.encode(what)
        try:
            if received is not None:
                self._producer.send_for_receipt(topic, data, partition=partition, key=key.encode(), received=received)
            else:
                self._producer.send(topic, data, partition=partition, key=key.encode(), delivered=delivered)
        except LogError:
            if not self.fault:  # the supervisor reads `fault`
                raise

    def listen(self, session: str, lane: int) -> None:
        """See `LogPort.listen`."""

        def dispatched(record: Record) -> Item | None:
            # The lane is shared with other sessions, whose messages need not be decoded.
            if record.key != session.encode():
                return None
            return _decoded(self._topics.dispatch, record, DISPATCHES) or MessageUndecodable(session)

        listener = _Dispatches(self._settings, self._topics.dispatch, [lane], dispatched, self._inbox)
        listener.proof_ms = min(PROOF_MS_MAX, int(1_000 * self._lease_seconds / ANSWERS_PER_LEASE))
        listener.ready = lambda: self._inbox.put(LaneOpened(session))
        listener.unreadable = lambda: self._inbox.put(LaneUnreadable(session))
        listener.lease_seconds = self._lease_seconds
        self._listeners[session] = listener
        listener.start()

    def leave(self, session: str) -> None:
        """See `LogPort.leave`."""
        if listener := self._listeners.pop(session, None):
            listener.stop()

    def close(self, limit_seconds: float) -> int:
        """See `LogPort.close`."""
        readers = [self._schedulers, *self._listeners.values()]
        for reader in readers:
            reader.stop()
        left = self._producer.close(limit_seconds)
        for reader in readers:
            reader.join(limit_seconds)
        return left

    def _scheduler_record(self, record: Record) -> Item | None:
        # The same lanes carry what other workers report, and requests.
        item = _decoded(self._topics.heartbeats, record, (SchedulerHeartbeat, DrainWorker, MemberVersion))
        wanted = item and not confine(item) and (not isinstance(item, MemberVersion) or item.role == "scheduler")
        return item if wanted else None


def _attempt(report: AttemptReport) -> tuple[str, str, int]:
    return report.queue, report.job_id, report.attempt


class _Listener(threading.Thread):
    """A thread that reads lanes, from the ends that they have when Kafka first answers."""

    proof_ms: int | None = None
    """How long a broker waits for a record before its answer proves that the lane can be read; None: no proofs."""

    def __init__(
        self,
        settings: Mapping[str, object],
        topic: str,
        lanes: Sequence[int],
        read: Callable[[Record], Item | None],
        inbox: Inbox,
    ) -> None:
        super().__init__(name=f"listener-{topic}", daemon=True)
        self._settings = settings
        self._topic = topic
        self._lanes = list(lanes)
        self._read = read
        self._inbox = inbox
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop soon; safe in any thread."""
        self._stopped.set()

    def run(self) -> None:
        reader = self._open()
        if reader is None:
            return
        while not self._stopped.is_set():
            # They are put together, so that they wake the supervisor once.
            if items := [item for record in reader.read(READ_SECONDS) if (item := self._read(record))]:
                self._inbox.put_all(items)
            self._check(reader)
        reader.close()

    def _check(self, reader: LaneReader) -> None:
        """Called after each read, whether it brought something or not."""

    def _open(self) -> LaneReader | None:
        pause = RETRY_SECONDS_MIN
        while not self._stopped.is_set():
            try:
                return LaneReader(self._settings, self._topic, self._lanes, proof_ms=self.proof_ms)
            except LogError as error:
                todo = "see that Kafka answers, and that this worker may read the topic; trying again"
                log.warning("lane_not_readable", topic=self._topic, error=str(error), retry_seconds=pause, todo=todo)
            self._stopped.wait(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)
        return None


class _Dispatches(_Listener):
    """Reads the lane of a session, and proves that it can be read."""

    ready: Callable[[], None]
    """Called when the lane is read for the first time."""
    unreadable: Callable[[], None]
    """Called once the lane could not be read for a lease."""
    lease_seconds: float

    def run(self) -> None:
        self._opened = self._given_up = False
        self._asked_at = time.monotonic()
        super().run()

    def _check(self, reader: LaneReader) -> None:
        now, answered = time.monotonic(), reader.answered_at
        if answered is None:
            return
        if not self._opened:
            self._opened = True
            self.ready()
        if now - max(answered, self._asked_at) >= min(PROVE_SECONDS_MAX, self.lease_seconds / PROOFS_PER_LEASE):
            self._asked_at = now
            reader.reassign()
        if now - answered >= self.lease_seconds and not self._given_up:
            self._given_up = True
            self.unreadable()


def _decoded(topic: str, record: Record, types: tuple[type, ...]) -> Item | None:
    if codec.type_of(record.value) not in types:
        return None
    try:
        return codec.decode(record.value)  # type: ignore[no-any-return]
    except UndecodableError as error:
        todo = "upgrade this worker if its schedulers are of a newer build; the record is skipped"
        log.warning("undecodable", topic=topic, offset=record.offset, error=str(error), todo=todo)
        return None
