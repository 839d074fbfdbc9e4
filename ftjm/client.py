"""The client: puts commands into the log, and hears what became of them on a lane of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import uuid_utils
from confluent_kafka import KafkaError, KafkaException, Message

from ftjm import logs
from ftjm.actor import actor
from ftjm.adapters import codec
from ftjm.adapters.kafka import MISSED, offset_of
from ftjm.adapters.kafka_lanes import LaneReader
from ftjm.adapters.kafka_outlet import Outlet
from ftjm.config import Settings
from ftjm.core.commands import Command, SubmitJob
from ftjm.core.errors import UndecodableError
from ftjm.core.identity import partition_for
from ftjm.core.messages import CommandReply, JobOutcome
from ftjm.errors import FtjmError
from ftjm.inputs import JobRequest
from ftjm.patience import QUIET, patiently, unreachable
from ftjm.tickets import Ticket

log = logs.get(__name__)

UNCONFIRMED_MAX = 20_000
"""Commands under way at a time: what a dead Kafka can make a client hold."""
LINGER_MS = 2
TICK_SECONDS = 0.2
SILENCE_SECONDS = 3.0
"""After which people are told that we wait."""

Progress = Callable[[int], None]
"""Told how many commands the log has acknowledged so far."""


class Client:
    """A session with one cluster; used from one thread (or sending from one, and hearing from another).

    Args:
        patience_seconds: how long Kafka may be silent before a call gives up with `Unreachable`; the log says
            meanwhile that it waits. What is in the log by then stays there.
        listen: whether answers will be asked for. The lane is read from its end as of now, so this is settled
            before the first command.
        producer: settings of the producer beside those of `settings`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        patience_seconds: float = 120.0,
        listen: bool = True,
        producer: Mapping[str, object] | None = None,
    ) -> None:
        self.session = str(uuid_utils.uuid7())
        self.actor = actor()
        self._settings = settings
        self._patience = patience_seconds
        self._changed = threading.Condition()
        self._waiting: dict[str, Ticket] = {}
        self._sent = 0
        self._acknowledged = 0
        self._failure: KafkaError | None = None
        self._topic = settings.topic("commands")
        self._unconfirmed: dict[int, Ticket] = {}
        """What was sent and is under way, in order, by how many were before."""
        self._missed: set[int] = set()
        """What of it is to be sent again: Kafka did not know the topic, or the client below no broker any more."""
        self._again_at = 0.0
        self._patient = "message.timeout.ms" not in (producer or {})
        self._kafka = {**QUIET, **settings.kafka_settings("client"), **(producer or {})}
        self._outlet = Outlet(self._kafka, linger_ms=LINGER_MS)
        self._reader: LaneReader | None = None
        try:
            self._partitions = patiently(lambda: self._outlet.warm(self._topic, 5.0), settings, patience_seconds)
            if listen:
                self._reader = patiently(self._listen, settings, patience_seconds)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session. Call `confirm` before: what is still under way may be lost."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._outlet.close(0)

    @property
    def acknowledged(self) -> int:
        """How many commands of this session are in the replicated log."""
        return self._acknowledged

    @property
    def under_way(self) -> int:
        """How many commands were sent of which it is not known yet whether the log has them."""
        return len(self._unconfirmed)

    # ---- sending

    def send(self, command: Command, changed: Callable[[Ticket], None] | None = None) -> Ticket:
        """Hand one command over; `confirm` waits until the log has it. Raises Unreachable if too many are under way."""
        if self.under_way >= UNCONFIRMED_MAX:
            self._wait_for_log(UNCONFIRMED_MAX // 2)
        command.actor = command.actor or self.actor
        command.sent_at = command.sent_at or time.time_ns() // 1_000_000
        ticket = Ticket(command, changed=changed)
        if self._reader is not None:
            ticket.correlation = str(self._sent + 1)
        self._append(ticket)
        return ticket

    def again(self, ticket: Ticket) -> None:
        """Append its command once more, for an answer that may have been lost; the answer goes to the same ticket."""
        self._append(ticket)

    def _append(self, ticket: Ticket) -> None:
        self.mend()
        self._sent += 1
        self._unconfirmed[self._sent] = ticket
        try:
            self._hand_over([self._sent])
        except BaseException:
            with self._changed:
                del self._unconfirmed[self._sent]
                self._missed.discard(self._sent)
            self._sent -= 1
            raise
        if self._outlet.forgotten:
            self.mend()

    def mend(self) -> None:
        """Connect anew where the client below knows no broker any more, and send what may not have arrived again, which
        does nothing twice. Raises FtjmError for other faults."""
        if self._outlet.fault is not None:
            if not self._outlet.forgotten:
                raise self._refusal(self._outlet.fault)
            self._outlet.close(0)
            self._outlet = Outlet(self._kafka, linger_ms=LINGER_MS)
            self._missed, self._again_at = set(self._unconfirmed), 0.0
        if not self._missed or time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + TICK_SECONDS
        with self._changed:
            missed, self._missed = sorted(self._missed & self._unconfirmed.keys()), set()
        try:
            self._hand_over(missed)
        except KafkaException as error:
            raise self._refusal(error.args[0]) from error

    def _hand_over(self, numbers: Iterable[int]) -> None:
        """In their order, and none before what waits to be sent again."""
        waiting = deque(numbers)
        try:
            while waiting and not self._missed:
                self._produce(waiting[0], self._unconfirmed[waiting[0]])
                waiting.popleft()
        except KafkaException:
            if not self._outlet.forgotten:
                raise
        finally:
            with self._changed:
                self._missed.update(waiting)

    def _misses(self, error: KafkaError) -> bool:
        return self._patient and error.code() in MISSED

    def _produce(self, number: int, ticket: Ticket) -> None:
        command, headers = ticket.command, []
        if ticket.correlation:
            self._waiting[ticket.correlation] = ticket
            headers.append(("ftjm-reply-to", f"{self._lane}/{self.session}/{ticket.correlation}".encode()))
        key = command.shard_key or command.queue
        self._outlet.send(
            self._topic,
            codec.encode(command),
            partition=partition_for(key, self._partitions),
            key=key.encode(),
            headers=headers,
            delivered=lambda error, message: self._delivered(number, error, message),
        )

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits for answers to this command any more."""
        self._waiting.pop(ticket.correlation, None)

    def submit_many(
        self, jobs: Iterable[JobRequest], *, awaits: bool = False, progress: Progress | None = None
    ) -> list[Ticket]:
        """Submit jobs and wait until the log has all of them; every job has an id already.

        Raises:
            Unreachable: if Kafka was silent for too long; the message says how many jobs are in the log. The same
                jobs may be submitted again: none is doubled.
            FtjmError: if Kafka refuses a record.
        """
        tickets = []
        for job in jobs:
            tickets.append(self.send(SubmitJob(queue=job.queue, job_id=job.job_id, spec=job.spec, awaits=awaits)))
            if len(tickets) % 500 == 0:
                # Answers come while we still send; read late, they would pile up in the consumer.
                self.hear(0)
                if progress:
                    progress(self._acknowledged)
        self.confirm(progress)
        return tickets

    def confirm(self, progress: Progress | None = None) -> None:
        """Wait until the log has everything that was sent. Raises as `submit_many`."""
        self._wait_for_log(0, progress)

    def _wait_for_log(self, under_way_max: int, progress: Progress | None = None) -> None:
        seen, since, told = self._acknowledged, time.monotonic(), False
        while True:
            with self._changed:
                self._changed.wait(0 if self.under_way <= under_way_max else TICK_SECONDS)
            if progress:
                progress(self._acknowledged)
            self.mend()
            if self._failure is not None:
                raise self._refusal(self._failure)
            if self.under_way <= under_way_max:
                return
            silent = time.monotonic() - since
            if self._acknowledged != seen:
                seen, since, told = self._acknowledged, time.monotonic(), False
            elif silent > self._patience:
                raise unreachable(self._settings, f"no acknowledgement for {self._patience:g} s; {self._so_far()}")
            elif silent > SILENCE_SECONDS and not told:
                told = True
                log.warning("kafka_silent", so_far=self._so_far(), todo=f"waiting for at most {self._patience:g} s")

    def _refusal(self, error: KafkaError) -> FtjmError:
        todo = "mend the cause and run the same again: nothing is doubled"
        return FtjmError("Kafka to take every command", f"{error.str()}; {self._so_far()}", todo)

    def _so_far(self) -> str:
        return f"{self._acknowledged} of {self._sent} commands are in the log"

    def _delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        """Called from the outlet's thread."""
        with self._changed:
            if error is not None and self._misses(error):
                self._missed.add(number)
                return
            ticket = self._unconfirmed.pop(number, None)
            if ticket is None:
                return
            if error is None:
                ticket.acknowledged = True
                ticket.partition, ticket.offset = message.partition() or 0, offset_of(message)
                self._acknowledged += 1
            else:
                ticket.failure = error.str()
                self._failure = error
            if error or not self.under_way or self._acknowledged % 500 == 0:
                self._changed.notify_all()
        if ticket.changed:
            ticket.changed(ticket)

    # ---- hearing

    def decided(self, tickets: Iterable[Ticket], timeout_seconds: float) -> bool:
        """Wait until each is decided; False if `timeout_seconds` pass without any answer."""
        return self._hear_until(tickets, lambda ticket: ticket.reply is None, timeout_seconds)

    def ended(self, tickets: Iterable[Ticket], timeout_seconds: float, progress: Progress | None = None) -> bool:
        """Wait until each submission (sent with `awaits`) is refused or its run has ended; False as in `decided`."""

        def is_open(ticket: Ticket) -> bool:
            return not ticket.refused and ticket.outcome is None

        return self._hear_until(tickets, is_open, timeout_seconds, progress)

    def _hear_until(
        self,
        tickets: Iterable[Ticket],
        is_open: Callable[[Ticket], bool],
        timeout_seconds: float,
        progress: Progress | None = None,
    ) -> bool:
        everything = list(tickets)
        still = [ticket for ticket in everything if is_open(ticket)]
        deadline = time.monotonic() + timeout_seconds
        while still:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if self.hear(min(left, TICK_SECONDS)):
                deadline = time.monotonic() + timeout_seconds
                still = [ticket for ticket in still if is_open(ticket)]
                if progress:
                    progress(len(everything) - len(still))
        return True

    def hear(self, timeout_seconds: float) -> bool:
        """Take in the answers that have arrived; True if one of them was for us."""
        if self._reader is None:
            return False
        ours = [self._take(message) for message in self._reader.read(timeout_seconds)]
        return any(ours)

    def _take(self, message: Message) -> bool:
        # Others share the lane: the key tells them apart without decoding.
        if message.key() != self.session.encode():
            return False
        try:
            answer = codec.decode(message.value() or b"")
        except UndecodableError:
            return False
        ticket = self._waiting.get(answer.correlation) if isinstance(answer, CommandReply | JobOutcome) else None
        if ticket is None:
            return False
        if isinstance(answer, CommandReply):
            ticket.reply = answer
        else:
            ticket.outcome = answer
        awaits = isinstance(ticket.command, SubmitJob) and ticket.command.awaits
        if ticket.refused or (ticket.reply and (ticket.outcome or not awaits)):
            self.forget(ticket)
        if ticket.changed:
            ticket.changed(ticket)
        return True

    def _listen(self) -> LaneReader:
        settings, topic = QUIET | self._settings.kafka_settings("client"), self._settings.topic("replies")
        lanes = self._outlet.warm(topic, 5.0)
        self._lane = partition_for(self.session, lanes)
        return LaneReader(settings, topic, [self._lane])
