"""The port below `ftjm.Client`, and its implementation over Kafka. `ftjm.testing` has one in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from ftjm.adapters.avro import codec
from ftjm.adapters.kafka.patience import open_scan, unreachable
from ftjm.adapters.kafka.scan import Scan
from ftjm.client import command_client
from ftjm.client.groups import GROUP_MAX, PAUSE_SECONDS
from ftjm.client.ticket import Ticket
from ftjm.core.identity import partition_for
from ftjm.core.records import events as e
from ftjm.core.records.commands import Command
from ftjm.core.state.model import job_key
from ftjm.history.jobs import JobView, from_snapshot
from ftjm.runtime import logs
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, Unreachable

log = logs.get(__name__)

LISTEN_SECONDS = 0.2
"""The listening thread notices within this time that the client is closed, and that commands are held."""
HELD_SECONDS = 0.02
"""Commands are held until the group is full, another command is sent, or none has followed for so long; the listening
thread looks every `LISTEN_SECONDS`."""
LOOK_SECONDS = 1.0
"""A waiting thread checks its condition at least this often."""
SETTLE_SECONDS = 5.0
"""The longest time for which a client that is closed waits for decisions about what names explicit fields."""
FOLLOW_SECONDS = 0.2
"""Pause between two reads of a log that has nothing new."""
CLOCK_SLACK_MS = 60_000
"""The clocks of this machine and of the brokers may differ by this much."""


class Transport(Protocol):
    """A connection to a cluster. All methods may be called from any thread."""

    def now(self) -> int:
        """The time, ms since the Unix epoch."""

    def send(self, command: Command) -> Ticket:
        """Append a command. The ticket changes when the log has it, and when answers arrive."""

    def add(self, command: Command) -> Ticket:
        """Append a command, which may wait for others that follow, but not for long."""

    def ask(self, ticket: Ticket) -> None:
        """Append a question for the outcome of a submission, under the same correlation. It never creates a job."""

    def forget(self, ticket: Ticket) -> None:
        """Take no more answers for the ticket."""

    def confirm(self, tickets: list[Ticket]) -> None:
        """Wait until the log has the commands of these tickets.

        Raises:
            Unreachable: Kafka does not answer.
            FtjmError: Kafka refuses a command.
        """

    def wait(self, done: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """Wait until `done()` is true, which may change whenever a ticket does. False if the timeout comes first."""

    def events(self, queue: str, job_id: str, since_ms: int) -> Iterator[list[e.Event]]:
        """The job's events from about `since_ms` on: first all that the log has, then the new ones; [] for none."""

    def trimmed_job(self, queue: str, job_id: str, since_ms: int) -> JobView | None:
        """A job whose submission was trimmed from the log, by a snapshot.

        Args:
            queue: the job's queue.
            job_id: the job's id.
            since_ms: when it was submitted, about; 0 if that is not known.

        Returns:
            The job; None if its log was not trimmed, or if no such job is known.

        Raises:
            Unreachable: Kafka does not answer.
            FtjmError: there is no snapshot.
        """

    def close(self) -> None:
        """Disconnect."""


class KafkaTransport:
    """Over Kafka. One thread at a time sends; a thread of its own reads the answers."""

    def __init__(self, settings: Settings, patience_seconds: float) -> None:
        """Connect. Raises Unreachable, FtjmError."""
        self._settings = settings
        self._patience = patience_seconds
        self._client = command_client.Client(settings, patience_seconds=patience_seconds)
        self._sending = threading.Lock()
        self._group: list[Ticket] = []
        """Tickets of commands that are held, to be sent together."""
        self._added_at = 0.0
        self._changed = threading.Condition()
        self._waiters = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="ftjm-client", daemon=True)
        self._thread.start()

    def now(self) -> int:
        """See `Transport.now`."""
        return time.time_ns() // 1_000_000

    def send(self, command: Command) -> Ticket:
        """See `Transport.send`."""
        self._client.lifetime.check()
        with self._sending:
            self._send_group()
            return self._client.send(command, self._notify_waiters)

    def add(self, command: Command) -> Ticket:
        """See `Transport.add`. One that comes more than `PAUSE_SECONDS` after the one before waits for no other."""
        self._client.lifetime.check()
        with self._sending:
            waited = time.monotonic() - self._added_at
            ticket = self._client.ticket(command, self._notify_waiters)
            self._group.append(ticket)
            if len(self._group) >= GROUP_MAX or waited > PAUSE_SECONDS:
                self._send_group()
            self._added_at = time.monotonic()
        if ticket.failure:
            raise _not_taken(ticket.failure)
        return ticket

    def _send_group(self) -> None:
        """Send what is held. What cannot be sent gets a `failure`, which tells it to whoever has added it.

        Raises:
            Unreachable: Kafka does not answer, which concerns all.
        """
        try:
            if self._group:
                self._client.hand_over(self._group)
        except Unreachable:
            raise
        except Exception as error:  # noqa: BLE001  (one thread sends what another has added)
            log.warning("jobs_not_sent", error=str(error), todo="those who wait for them are told")
        finally:
            self._group = []

    def _send_held(self) -> None:
        """Send what is held, if nothing has followed it, and what has to be sent again. Called by the listening thread,
        which must not wait."""
        is_due = bool(self._group) and time.monotonic() - self._added_at >= HELD_SECONDS
        if not (is_due or self._client.has_refused):
            return
        if self._client.under_way < command_client.UNCONFIRMED_MAX and self._sending.acquire(blocking=False):
            try:
                self._send_group()
                self._client.send_again()
            finally:
                self._sending.release()

    def ask(self, ticket: Ticket) -> None:
        """See `Transport.ask`."""
        self._client.lifetime.check()
        with self._sending:
            self._send_group()
            self._client.ask(ticket)

    def forget(self, ticket: Ticket) -> None:
        """See `Transport.forget`."""
        self._client.forget(ticket)

    def confirm(self, tickets: list[Ticket]) -> None:
        """See `Transport.confirm`."""
        at = 0

        def confirmed() -> bool:
            nonlocal at
            while at < len(tickets) and (tickets[at].acknowledged or tickets[at].failure):
                at += 1
            return at == len(tickets)

        self._client.lifetime.check()
        with self._sending:
            self._send_group()
        before, since = -1, time.monotonic()
        while not self.wait(confirmed, LOOK_SECONDS):
            with self._sending:
                self._client.mend()
            if at != before:
                before, since = at, time.monotonic()
            elif time.monotonic() - since > self._patience:
                found = f"no acknowledgement for {self._patience:g} s; {at} of {len(tickets)} commands are in the log"
                raise unreachable(self._settings, found)
        if failure := next((ticket.failure for ticket in tickets if ticket.failure), ""):
            raise _not_taken(failure)

    def wait(self, done: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """See `Transport.wait`."""
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._changed:
            self._waiters += 1
            try:
                while not done():
                    self._client.lifetime.check()
                    left = LOOK_SECONDS if end is None else end - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(min(left, LOOK_SECONDS))
                return True
            finally:
                self._waiters -= 1

    def events(self, queue: str, job_id: str, since_ms: int) -> Iterator[list[e.Event]]:
        """See `Transport.events`."""
        self._client.lifetime.check()
        key = job_key(queue, job_id).encode()
        with open_scan(self._settings, "events") as scan:
            partition = partition_for(queue, scan.partitions)
            start = scan.offset_at(partition, max(0, since_ms - CLOCK_SLACK_MS))
            found, start = _read(scan, partition, start, key)
            if not any(isinstance(event, e.JobSubmitted) for event in found):
                found, start = _read(scan, partition, 0, key)
            while True:
                yield found
                if not found:
                    time.sleep(FOLLOW_SECONDS)
                found, start = _read(scan, partition, start, key)

    def trimmed_job(self, queue: str, job_id: str, since_ms: int) -> JobView | None:
        """See `Transport.trimmed_job`."""
        if since_ms:
            with open_scan(self._settings, "events") as scan:
                partition = partition_for(queue, scan.partitions)
                if scan.offset_at(partition, max(0, since_ms - CLOCK_SLACK_MS)) > scan.bounds(partition)[0]:
                    return None  # the log has older events still
        return from_snapshot(self._settings, (queue, job_id))

    def close(self) -> None:
        """See `Transport.close`."""
        self._stop.set()
        self._thread.join()
        end = time.monotonic() + SETTLE_SECONDS
        with suppress(FtjmError):  # Kafka does not answer, or this process was forked from the one that has connected
            while self._client.is_unsettled and time.monotonic() < end:
                self._client.receive(LISTEN_SECONDS)
                self._client.send_again()
        self._client.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                self._client.receive(LISTEN_SECONDS)
                self._send_held()
            except FtjmError:
                self._stop.wait(LISTEN_SECONDS)  # it is closed, or Kafka does not answer: callers are told themselves
            except Exception:  # without this thread no answer would arrive
                log.exception("listening_failed", todo="report this; listening continues")
                self._stop.wait(LISTEN_SECONDS)

    def _notify_waiters(self, _: Ticket) -> None:
        # A thread that begins to wait after this check finds the change before it waits.
        if self._waiters:
            with self._changed:
                self._changed.notify_all()


def _not_taken(failure: str) -> FtjmError:
    todo = "mend the cause, and submit again; with job ids of your own, nothing is doubled"
    return FtjmError("Kafka to take every command", failure, todo)


def _read(scan: Scan, partition: int, start: int, key: bytes) -> tuple[list[e.Event], int]:
    """The job's events from offset `start` to the end of the partition, and the offset to continue from."""
    found: list[e.Event] = []
    for record in scan.read({partition: start}):
        start = record.offset + 1
        if record.key == key:
            found.append(codec.decode(record.value))
    return found, start
