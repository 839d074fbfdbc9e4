"""The client: sends commands to the log, and receives the answers on a lane.

A command is acknowledged when the replicated log has it, decided when its partition's owner answers, and a submission
with `awaits` ends when the run has ended. Answers come on one lane of the topic `replies`, which the client's session
selects; other sessions share the lane, so each answer has the session as its key. Sending a command about a job twice
does nothing twice, so whatever may not have arrived is sent again, in its order. (A pause counts each time.)

A cluster that does not know explicit fields yet refuses a command that names some. The same command is sent without
their names then, under the same ticket: see `submissions.py`.

An answer may be lost, since answers are not records of the log. Then `ask` asks once more, by a command of its own that
never creates a job (`AwaitJob`): the job may have ended and been forgotten meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Any

import uuid_utils

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.errors import LogError, TopicUnknown
from ftjm.adapters.kafka.patience import QUIET, patiently, unreachable
from ftjm.adapters.kafka.producer import ConfirmingProducer
from ftjm.adapters.records import Receipt
from ftjm.client.answers import Answers
from ftjm.client.groups import GROUP_MAX, grouped
from ftjm.client.lifetime import Lifetime
from ftjm.client.submissions import submission
from ftjm.client.ticket import Ticket, question
from ftjm.client.waiting import TICK_SECONDS, Progress, WaitingForAnswers
from ftjm.core.identity import key_of, partition_for
from ftjm.core.records.commands import Command, SubmitJob
from ftjm.runtime import logs
from ftjm.runtime.actor import actor
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError
from ftjm.specs.job import JobRequest

log = logs.get(__name__)

UNCONFIRMED_MAX = 20_000
"""Commands under way at a time: how many a client holds while Kafka does not answer."""
SILENCE_SECONDS = 3.0
"""After this long without an acknowledgement, a warning is logged that the client waits."""


class Client(WaitingForAnswers):
    """A session with one cluster, for one thread (or one thread that sends, and one that receives).

    Args:
        settings: the settings of the cluster.
        patience_seconds: how long Kafka may be silent before a call raises `Unreachable`. Commands that are in the log
            by then stay there.
        listen: whether answers are received. The lane is read from its end as of now.
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
        self.lifetime = Lifetime()
        self.session = str(uuid_utils.uuid7())
        self.actor = actor()
        self._settings = settings
        self._patience = patience_seconds
        self._changed = threading.Condition()
        self._sent = 0
        self._numbers, self._correlations = count(1), count(1)
        self._acknowledged = 0
        self._failure: LogError | None = None
        self._topic = settings.topic("commands")
        self._unconfirmed: dict[int, tuple[Ticket, Command]] = {}
        """Commands that were sent and not acknowledged yet, by their number, in order."""
        self._missed: set[int] = set()
        """Numbers of the commands to send again: Kafka did not know the topic, or the producer forgot all brokers."""
        self._again_at = 0.0
        self._sent_again = False
        self._patient = "message.timeout.ms" not in (producer or {})
        self._kafka = {**QUIET, **settings.kafka_settings("client"), **(producer or {})}
        self._producer = ConfirmingProducer(self._kafka)
        self._answers: Answers | None = None
        try:
            self._partitions = patiently(lambda: self._producer.warm(self._topic, 5.0), settings, patience_seconds)
            if listen:
                self._answers = patiently(self._listen, settings, patience_seconds)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session. Commands that are not acknowledged may be lost, so call `confirm` before."""
        if not self.lifetime.end():
            return  # the connections are those of the parent process
        if self._answers is not None:
            self._answers.close()
            self._answers = None
        self._producer.close(0)

    @property
    def acknowledged(self) -> int:
        """How many commands of this session are in the replicated log."""
        return self._acknowledged

    @property
    def under_way(self) -> int:
        """How many commands were sent and are not acknowledged yet."""
        return len(self._unconfirmed)

    # ---- sending

    def send(self, command: Command, changed: Callable[[Ticket], None] | None = None) -> Ticket:
        """Hand one command over; `confirm` waits until the log has it. Raises Unreachable if too many are under way."""
        ticket = self.ticket(command, changed)
        self.hand_over([ticket])
        return ticket

    def ticket(self, command: Command, changed: Callable[[Ticket], None] | None = None) -> Ticket:
        """Make the ticket of a command that `hand_over` will send."""
        command.actor = command.actor or self.actor
        command.sent_at = command.sent_at or time.time_ns() // 1_000_000
        ticket = Ticket(command, changed=changed, awaits=isinstance(command, SubmitJob) and command.awaits)
        if self._answers is not None:
            ticket.correlation = str(next(self._correlations))
        return ticket

    def hand_over(self, tickets: Iterable[Ticket]) -> None:
        """Send the commands of these tickets together. Raises Unreachable if too many are under way, and LogError if
        one cannot be sent: those before it are under way then, and the others have a `failure`."""
        self._append([(ticket, ticket.command) for ticket in tickets])

    def ask(self, ticket: Ticket) -> None:
        """Ask for the outcome of a submission, which never creates a job. The answer goes to the same ticket."""
        self._append([(ticket, question(ticket))])

    def _append(self, pairs: Sequence[tuple[Ticket, Command]]) -> None:
        self.lifetime.check()
        waiting = deque(next(self._numbers) for _ in pairs)
        self._sent += len(waiting)
        try:
            if self.under_way >= UNCONFIRMED_MAX:
                self._wait_for_log(UNCONFIRMED_MAX // 2)
            self.mend()
            self._unconfirmed.update(zip(waiting, pairs, strict=True))
            self._hand_over(waiting)
        except BaseException as error:
            self._sent -= len(waiting)
            with self._changed:
                self._missed.difference_update(waiting)
                for number in waiting:
                    self._unconfirmed.pop(number, None)
            for ticket, command in pairs[len(pairs) - len(waiting) :]:
                if ticket.command is command:
                    ticket.failure = f"it was not sent: {error!r}"
                    self.forget(ticket)
            raise
        if self._producer.forgotten:
            self.mend()

    def mend(self) -> None:
        """Connect again if the producer has forgotten all brokers, and send the commands again that may be lost.

        Raises:
            FtjmError: the producer has another fault, or this client cannot be used any more.
        """
        self.lifetime.check()
        if self._producer.fault is not None:
            if not self._producer.forgotten:
                raise self._refusal(self._producer.fault)
            self._producer.close(0)
            self._producer = ConfirmingProducer(self._kafka)
            self._missed, self._again_at = set(self._unconfirmed), 0.0
        if not self._missed or time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + TICK_SECONDS
        with self._changed:
            missed, self._missed = sorted(self._missed & self._unconfirmed.keys()), set()
        try:
            self._hand_over(deque(missed))
        except LogError as error:
            raise self._refusal(error) from error

    def _hand_over(self, waiting: deque[int]) -> None:
        """Send commands in their order, but none before those that wait to be sent again.

        Args:
            waiting: their numbers. What is handed over is removed.
        """
        try:
            while waiting and not self._missed:
                # A group is encoded before: what is handed over right after each other shares requests.
                group = [self._record(number, *self._unconfirmed[number]) for number in islice(waiting, GROUP_MAX)]
                for record in group:
                    if self._missed:
                        break
                    self._producer.send_for_receipt(self._topic, **record)
                    waiting.popleft()
        except LogError:
            if not self._producer.forgotten:
                raise
        finally:
            with self._changed:
                self._missed.update(waiting)

    def _record(self, number: int, ticket: Ticket, command: Command) -> dict[str, Any]:
        headers = []
        if ticket.correlation and self._answers is not None:
            headers.append(("ftjm-reply-to", self._answers.expect(ticket).encode()))
        key = key_of(command)
        return {
            "value": codec.encode(command),
            "partition": partition_for(key, self._partitions),
            "key": key.encode(),
            "headers": headers,
            "received": lambda receipt: self._delivered(number, receipt),
        }

    def forget(self, ticket: Ticket) -> None:
        """Drop answers to this command from now on."""
        if self._answers is not None:
            self._answers.forget(ticket)

    def submit_many(
        self, jobs: Iterable[JobRequest], *, awaits: bool = False, progress: Progress | None = None
    ) -> list[Ticket]:
        """Submit jobs and wait until the log has all of them; every job has an id already.

        Raises:
            Unreachable: if Kafka was silent for too long; the message holds the number of jobs in the log. The same
                jobs may be submitted again: none is doubled.
            FtjmError: if Kafka refuses a record.
        """
        tickets: list[Ticket] = []
        for group in grouped(jobs):
            made = (submission(job, awaits=awaits) for job in group)
            tickets += (sent := [*map(self.ticket, made)])
            self.hand_over(sent)
            # Answers come while commands are still sent; unread, they would pile up in the consumer.
            self.receive(0)
            if progress:
                progress(self._acknowledged)
        self.confirm(progress)
        return tickets

    def confirm(self, progress: Progress | None = None) -> None:
        """Wait until the log has everything that was sent. Raises as `submit_many`."""
        self._wait_for_log(0, progress)

    def _wait_for_log(self, under_way_max: int, progress: Progress | None = None) -> None:
        seen, since, warned = self._acknowledged, time.monotonic(), False
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
                seen, since, warned = self._acknowledged, time.monotonic(), False
            elif silent > self._patience:
                raise unreachable(self._settings, f"no acknowledgement for {self._patience:g} s; {self._so_far()}")
            elif silent > SILENCE_SECONDS and not warned:
                warned = True
                log.warning("kafka_silent", so_far=self._so_far(), todo=f"waiting for at most {self._patience:g} s")

    def _refusal(self, error: LogError) -> FtjmError:
        todo = "mend the cause and run the same again: nothing is doubled"
        return FtjmError("Kafka to take every command", f"{error}; {self._so_far()}", todo)

    def _so_far(self) -> str:
        return f"{self._acknowledged} of {self._sent} commands are in the log"

    def _delivered(self, number: int, receipt: Receipt | LogError) -> None:
        """Called from the producer's thread."""
        with self._changed:
            if self._patient and isinstance(receipt, TopicUnknown):
                self._missed.add(number)
                return
            found = self._unconfirmed.pop(number, None)
            if found is None:
                return
            ticket, _ = found
            if isinstance(receipt, Receipt):
                ticket.acknowledged = True
                ticket.partition, ticket.offset = receipt.partition, receipt.offset
                self._acknowledged += 1
            else:
                ticket.failure = str(receipt)
                self._failure = receipt
            if ticket.failure or not self.under_way or self._acknowledged % 500 == 0:
                self._changed.notify_all()
        if ticket.changed:
            ticket.changed(ticket)

    # ---- receiving

    def receive(self, timeout_seconds: float) -> bool:
        """Receive the answers that have arrived; returns whether one of them was for this session."""
        self.lifetime.check()
        return self._answers is not None and self._answers.receive(timeout_seconds)

    def send_again(self) -> None:
        """Send what was refused for its form in one that the cluster knows. To be called by the thread that sends.
        Raises as `hand_over`."""
        if self._answers is not None and (again := self._answers.take_refused()):
            for ticket in again:
                ticket.correlation = str(next(self._correlations))
            self._sent_again = True
            self.hand_over(again)

    @property
    def has_refused(self) -> bool:
        """Whether `send_again` has something to send."""
        return self._answers is not None and self._answers.has_refused

    @property
    def is_unsettled(self) -> bool:
        """Whether a command may still have to be sent again, or was and is not in the log yet."""
        waits = self._answers is not None and self._answers.has_undecided
        return waits or (self._sent_again and self.under_way > 0)

    def _listen(self) -> Answers:
        settings, topic = QUIET | self._settings.kafka_settings("client"), self._settings.topic("replies")
        return Answers(settings, topic, self._producer.warm(topic, 5.0), self.session)
