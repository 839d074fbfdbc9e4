"""The worker's wire over Kafka: one producer, a reader for the lane of each session, one for the schedulers."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from ftjm.adapters import codec
from ftjm.adapters.kafka import MISSED
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.adapters.kafka_outlet import Delivered, Outlet
from ftjm.core.commands import AttemptReport, CheckpointAttempt, StartAttempt
from ftjm.core.errors import UndecodableError
from ftjm.core.identity import partition_for
from ftjm.core.messages import DISPATCHES, DrainWorker, SchedulerHeartbeat, WorkerHeartbeat
from ftjm.worker.inbox import Acknowledged, Confirmed, Deaf, Inbox, Item, Opened, Unreadable

log = structlog.get_logger(__name__)

READ_SECONDS = 0.2
"""A reader that is told to stop notices within this."""
ASK_SECONDS = 2.0
"""No signal is heeded while Kafka is being asked."""
AGAIN_SECONDS = 1.0
"""After Kafka has refused a report, until it is sent once more."""
CHECKPOINTS_MAX = 10_000
PROVE_SECONDS = 1.0
"""A silent lane is asked this often whether it can still be read."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 3.0


class Topics:
    """Names of the topics, and how many partitions and lanes Kafka says that they have."""

    def __init__(self, name: Callable[[str], str], partitions: int, lanes: int) -> None:
        self.commands, self.dispatch, self.heartbeats = name("commands"), name("dispatch"), name("heartbeats")
        self.partitions = partitions
        self.lanes = lanes


def discover(outlet: Outlet, name: Callable[[str], str], wanted: Callable[[], bool]) -> Topics | None:
    """Ask Kafka for the topics, for as long as it takes, saying so; None once it is not `wanted` any more."""
    pause = RETRY_SECONDS_MIN
    while wanted():
        try:
            lanes = outlet.warm(name("dispatch"), ASK_SECONDS)
            outlet.warm(name("heartbeats"), ASK_SECONDS)
            return Topics(name, outlet.warm(name("commands"), ASK_SECONDS), lanes)
        except KafkaException as error:
            todo = "waiting, and trying again; is it running, and were the topics made (`ftjm topics create`)?"
            log.warning("kafka_not_ready", error=str(error.args[0]), retry_seconds=pause, todo=todo)
        time.sleep(pause)
        pause = min(2 * pause, RETRY_SECONDS_MAX)
    return None


class KafkaWire:
    """See `inbox.Wire`. Made once the topics are known."""

    def __init__(
        self, settings: Mapping[str, object], topics: Topics, outlet: Outlet, inbox: Inbox, lease_seconds: float
    ) -> None:
        self._settings = settings
        self._lease_seconds = lease_seconds
        self._topics = topics
        self._outlet = outlet
        self._inbox = inbox
        self._listeners: dict[str, _Listener] = {}
        self._checkpoints: dict[tuple[str, str, int], CheckpointAttempt] = {}
        """The newest of each attempt, until that is over."""
        self._schedulers = _Listener(settings, topics.heartbeats, range(topics.lanes), self._heard_scheduler)
        self._schedulers.start()

    @property
    def fault(self) -> str:
        return "" if self._outlet.fault is None else self._outlet.fault.str()

    def report(self, session: str, command: AttemptReport) -> None:
        if isinstance(command, CheckpointAttempt):
            self._checkpoints.pop(_attempt(command), None)
            self._checkpoints[_attempt(command)] = command
            if len(self._checkpoints) > CHECKPOINTS_MAX:
                self._checkpoints.pop(next(iter(self._checkpoints)), None)
        self._append(session, command)

    def _append(self, session: str, command: AttemptReport) -> None:
        if self._superseded(command):
            self._inbox.put(Confirmed(session))
            return

        def delivered(error: KafkaError | None, _: Message) -> None:
            given_up = isinstance(command, CheckpointAttempt) and error is not None and error.code() not in MISSED
            if error is None or given_up or self._superseded(command):
                if not isinstance(command, CheckpointAttempt | StartAttempt):
                    self._checkpoints.pop(_attempt(command), None)  # one that comes now is stale
                self._inbox.put(Confirmed(session))
                return
            # The outlet tries for ever, so this one's size or the topic's rights are against it; or a broker does not
            # know the topic yet.
            log.error(
                "report_refused",
                job=f"{command.queue}/{command.job_id}",
                error=error.str(),
                todo="mend that, unless the brokers have just come back; it is sent again and again",
            )
            again = threading.Timer(AGAIN_SECONDS, self._append, (session, command))
            again.daemon = True
            again.start()

        key = command.shard_key or command.queue
        self._send(self._topics.commands, command, partition_for(key, self._topics.partitions), key, delivered)

    def _superseded(self, command: AttemptReport) -> bool:
        """A checkpoint that comes late would take the place of one that is newer."""
        newest = self._checkpoints.get(_attempt(command), command)
        return isinstance(command, CheckpointAttempt) and newest is not command

    def beat(self, session: str, token: int, heartbeat: WorkerHeartbeat) -> None:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self._inbox.put(Acknowledged(session, token))

        lane = partition_for(session, self._topics.lanes)
        self._send(self._topics.heartbeats, heartbeat, lane, session, delivered)

    def _send(
        self, topic: str, what: AttemptReport | WorkerHeartbeat, partition: int, key: str, delivered: Delivered
    ) -> None:
        try:
            self._outlet.send(topic, codec.encode(what), partition=partition, key=key.encode(), delivered=delivered)
        except KafkaException:
            if not self.fault:  # of which it is told
                raise

    def listen(self, session: str, lane: int) -> None:
        def dispatched(message: Message) -> Item | None:
            # The lane is shared with other sessions, whose messages need not be decoded.
            if message.key() != session.encode():
                return None
            return _decoded(message, DISPATCHES) or Unreadable(session)

        listener = _Dispatches(self._settings, self._topics.dispatch, [lane], self._into_inbox(dispatched))
        listener.ready = lambda: self._inbox.put(Opened(session))
        listener.deaf = lambda: self._inbox.put(Deaf(session))
        listener.deaf_after_seconds = self._lease_seconds
        self._listeners[session] = listener
        listener.start()

    def leave(self, session: str) -> None:
        if listener := self._listeners.pop(session, None):
            listener.stop()

    def close(self, limit_seconds: float) -> int:
        readers = [self._schedulers, *self._listeners.values()]
        for reader in readers:
            reader.stop()
        left = self._outlet.close(limit_seconds)
        for reader in readers:
            reader.join(limit_seconds)
        return left

    def _heard_scheduler(self, message: Message) -> None:
        # Workers meet in the same lanes; their heartbeats are not for us, but wishes may be.
        if item := _decoded(message, (SchedulerHeartbeat, DrainWorker)):
            self._inbox.put(item)

    def _into_inbox(self, read: Callable[[Message], Item | None]) -> Callable[[Message], None]:
        def put(message: Message) -> None:
            if item := read(message):
                self._inbox.put(item)

        return put


def _attempt(report: AttemptReport) -> tuple[str, str, int]:
    return report.queue, report.job_id, report.attempt


class _Listener(threading.Thread):
    """Reads lanes from their ends on, as they are when Kafka first answers."""

    PROVING = False

    def __init__(
        self,
        settings: Mapping[str, object],
        topic: str,
        lanes: Sequence[int],
        heard: Callable[[Message], None],
    ) -> None:
        super().__init__(name=f"listener-{topic}", daemon=True)
        self._settings = settings
        self._topic = topic
        self._lanes = list(lanes)
        self._heard = heard
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop soon; safe in any thread."""
        self._stopped.set()

    def run(self) -> None:
        reader = self._open()
        if reader is None:
            return
        while not self._stopped.is_set():
            for message in reader.read(READ_SECONDS):
                self._heard(message)
            self._judge(reader)
        reader.close()

    def _judge(self, reader: LaneReader) -> None:
        """Called whenever something was read, or nothing for a while."""

    def _open(self) -> LaneReader | None:
        pause = RETRY_SECONDS_MIN
        while not self._stopped.is_set():
            try:
                return LaneReader(self._settings, self._topic, self._lanes, proving=self.PROVING)
            except KafkaException as error:
                log.warning("lane_not_readable", topic=self._topic, error=str(error.args[0]), retry_seconds=pause)
            self._stopped.wait(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)
        return None


class _Dispatches(_Listener):
    """Reads the lane of a session, and knows that it can: a worker whose heartbeats arrive and that hears nothing would
    be sent work for as long as that lasts."""

    PROVING = True
    ready: Callable[[], None]
    """Called once the lane has been read."""
    deaf: Callable[[], None]
    """Called once it could not be read for so long."""
    deaf_after_seconds: float

    def run(self) -> None:
        self._opened = self._given_up = False
        self._asked_at = time.monotonic()
        super().run()

    def _judge(self, reader: LaneReader) -> None:
        now, answered = time.monotonic(), reader.answered_at
        if answered is None:
            return
        if not self._opened:
            self._opened = True
            self.ready()
        if now - max(answered, self._asked_at) >= PROVE_SECONDS:
            self._asked_at = now
            reader.ask()
        if now - answered >= self.deaf_after_seconds and not self._given_up:
            self._given_up = True
            self.deaf()


def _decoded(message: Message, types: tuple[type, ...]) -> Item | None:
    value = message.value() or b""
    if codec.type_of(value) not in types:
        return None
    try:
        item: Item = codec.decode(value)
    except UndecodableError as error:
        log.warning("undecodable", topic=message.topic(), offset=message.offset(), error=str(error))
        return None
    return item
