"""What the client's public face stands on: Kafka here, a cluster in memory in `ftjm.testing`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from ftjm import client, jobhistory
from ftjm.adapters import codec
from ftjm.adapters.kafka_scan import Scan
from ftjm.config import Settings
from ftjm.core import events as e
from ftjm.core.commands import Command
from ftjm.core.identity import partition_for
from ftjm.core.model import job_key
from ftjm.errors import FtjmError
from ftjm.patience import unreachable
from ftjm.tickets import Ticket

LISTEN_SECONDS = 0.2
LOOK_SECONDS = 1.0
FOLLOW_SECONDS = 0.2
CLOCK_SLACK_MS = 60_000
"""Our clock and the brokers' may differ by so much."""


class Transport(Protocol):
    """A session with a cluster. All of it may be called from any thread."""

    retention_ms: int
    """Ended jobs are kept at least so long if they do not say."""

    def now(self) -> int:
        """ms since the Unix epoch."""

    def send(self, command: Command) -> Ticket:
        """Append a command, and hear what becomes of it."""

    def again(self, ticket: Ticket) -> None:
        """Append the same command once more, under the same correlation."""

    def forget(self, ticket: Ticket) -> None:
        """Nobody waits for it any more."""

    def confirm(self, tickets: list[Ticket]) -> None:
        """Wait until the log has them. Raises Unreachable, FtjmError."""

    def wait(self, done: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """Wait until `done`, which may change whenever a ticket does; whether it is."""

    def events(self, queue: str, job_id: str, since_ms: int) -> Iterator[list[e.Event]]:
        """The job's events from about `since_ms` on: first all that are there, then what comes, [] for nothing."""

    def close(self) -> None:
        """End the session."""


class KafkaTransport:
    """One low-level client: one thread at a time sends, a thread of ours listens."""

    def __init__(self, settings: Settings, patience_seconds: float) -> None:
        """Raises Unreachable, FtjmError."""
        self.retention_ms = int(settings.retention_seconds * 1000)
        self._settings = settings
        self._patience = patience_seconds
        self._client = client.Client(settings, patience_seconds=patience_seconds)
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._waiters = 0
        self._open = True
        self._thread = threading.Thread(target=self._listen, name="ftjm-client", daemon=True)
        self._thread.start()

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def send(self, command: Command) -> Ticket:
        with self._sending:
            return self._client.send(command, self._told)

    def again(self, ticket: Ticket) -> None:
        with self._sending:
            self._client.again(ticket)

    def forget(self, ticket: Ticket) -> None:
        self._client.forget(ticket)

    def confirm(self, tickets: list[Ticket]) -> None:
        at = 0

        def confirmed() -> bool:
            nonlocal at
            while at < len(tickets) and (tickets[at].acknowledged or tickets[at].failure):
                at += 1
            return at == len(tickets)

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
            raise FtjmError("Kafka to take every command", failure, "mend that and submit again: nothing is doubled")

    def wait(self, done: Callable[[], bool], timeout_seconds: float | None) -> bool:
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        with self._changed:
            self._waiters += 1
            try:
                while not done():
                    left = LOOK_SECONDS if end is None else end - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(min(left, LOOK_SECONDS))
                return True
            finally:
                self._waiters -= 1

    def events(self, queue: str, job_id: str, since_ms: int) -> Iterator[list[e.Event]]:
        key = job_key(queue, job_id).encode()
        with jobhistory.open_scan(self._settings, "events") as scan:
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

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self._client.close()

    def _listen(self) -> None:
        while self._open:
            with suppress(FtjmError):
                self._client.hear(LISTEN_SECONDS)

    def _told(self, _: Ticket) -> None:
        # Who begins to wait now looks once more by itself.
        if self._waiters:
            with self._changed:
                self._changed.notify_all()


def _read(scan: Scan, partition: int, start: int, key: bytes) -> tuple[list[e.Event], int]:
    """The job's events from `start` to the end, and where to go on."""
    found: list[e.Event] = []
    for record in scan.read({partition: start}):
        start = record.offset + 1
        if record.key == key:
            found.append(codec.decode(record.value))
    return found, start
