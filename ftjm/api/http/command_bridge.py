"""Sends the commands of many requests: a bridge from asyncio to the synchronous client.

Three threads take part. One hands commands to the client, which may block; one reads the answers, and asks the first to
send again what was refused for its form; and the Kafka producer's own confirms that the log has a command. The latter
two wake the request that waits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ftjm.client.command_client import Client
from ftjm.client.ticket import Ticket
from ftjm.core.records.commands import Command
from ftjm.runtime import logs
from ftjm.runtime.config import Settings
from ftjm.runtime.errors import FtjmError, Unreachable

log = logs.get(__name__)

UNCONFIRMED_MAX = 5_000
"""Commands that wait for the log; further ones are refused."""
CONFIRM_SECONDS = 5.0
"""After this long, a command that the log has not confirmed is given up: the client gets an error, may send again."""
CONNECT_SECONDS = 5.0


class LogUnavailable(Exception):
    """The log takes no commands now. The same may be sent again: a job's command is not carried out twice."""


class CommandBridge:
    """Sends commands for many requests at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="command-bridge", daemon=True)
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="sender")

    def start(self) -> None:
        """Start to connect, on a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the threads, and wait for their ends."""
        self._stop.set()
        self._thread.join()
        self._sender.shutdown(cancel_futures=True)

    @property
    def is_connected(self) -> bool:
        """Whether Kafka has accepted the client once."""
        return self._client is not None

    async def send(self, command: Command) -> PendingCommand:
        """Send a command, and wait until the replicated log has it. Raises LogUnavailable."""
        client = self._client
        if client is None:
            raise LogUnavailable("Kafka has not answered since the API was started")
        if client.under_way >= UNCONFIRMED_MAX:
            raise LogUnavailable(f"{UNCONFIRMED_MAX} commands wait for the log already")
        pending = PendingCommand(client, command)
        try:
            # On a thread of its own: while Kafka does not answer, handing over a large job may wait for room.
            await asyncio.get_running_loop().run_in_executor(self._sender, pending.send)
            if not await pending.wait_for(
                lambda ticket: ticket.acknowledged or bool(ticket.failure), CONFIRM_SECONDS + 1
            ):
                raise LogUnavailable(f"no acknowledgement for {CONFIRM_SECONDS:g} s")
            if pending.ticket.failure:
                raise LogUnavailable(pending.ticket.failure)
        except BaseException as error:
            pending.close()
            if isinstance(error, FtjmError):
                raise LogUnavailable(str(error)) from error
            raise
        return pending

    def _run(self) -> None:
        while not self._stop.is_set() and self._client is None:
            try:
                self._client = Client(
                    self._settings,
                    patience_seconds=CONNECT_SECONDS,
                    # The sender of a command waits for it. The log must not get the command after the sender was
                    # answered that it failed.
                    producer={"message.timeout.ms": int(CONFIRM_SECONDS * 1000)},
                )
            except FtjmError as error:
                log.warning("no_submissions", error=str(error), todo="waiting, and trying again")
                if not isinstance(error, Unreachable):
                    self._stop.wait(CONNECT_SECONDS)
        while not self._stop.is_set() and self._client is not None:
            try:
                self._client.receive(0.1)
                if self._client.has_refused:
                    self._sender.submit(self._client.send_again)
            except Exception:  # one answer that cannot be read must not stop all others
                log.exception("answer_unreadable", todo="going on")
                time.sleep(0.5)
        if self._client is not None:
            self._client.close()


class PendingCommand:
    """One command, and its answers as they arrive.

    A context manager: when it is left, the client stops to wait for answers to this command.
    """

    def __init__(self, client: Client, command: Command) -> None:
        """To be called on the event loop."""
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._command = command
        self.ticket = Ticket(command)

    def send(self) -> None:
        """Hand the command to the client. May block."""
        self.ticket = self._client.send(self._command, self._ticket_changed)

    def __enter__(self) -> PendingCommand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop waiting for answers."""
        self._client.forget(self.ticket)

    def _ticket_changed(self, _: Ticket) -> None:
        """Called from another thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def wait_for(self, condition: Callable[[Ticket], bool], timeout_seconds: float) -> bool:
        """Wait until the condition holds. Returns whether it does, which is False after the timeout."""
        deadline = self._loop.time() + timeout_seconds
        while not condition(self.ticket):
            self._changed.clear()
            if condition(self.ticket):
                break
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - self._loop.time()))
            except TimeoutError:
                return condition(self.ticket)
        return True

    async def decided(self, timeout_seconds: float) -> bool:
        """Wait for the decision. Returns whether it has come."""
        return await self.wait_for(lambda ticket: ticket.reply is not None, timeout_seconds)

    async def ended(self, timeout_seconds: float) -> bool:
        """Wait for the run's outcome, or for the command's refusal. Returns whether one of them has come."""
        return await self.wait_for(lambda ticket: ticket.outcome is not None or ticket.refused, timeout_seconds)

    @property
    def token(self) -> str:
        """The command's place in the log, `PARTITION-OFFSET`: a read that is given it waits until it is applied."""
        return f"{self.ticket.partition}-{self.ticket.offset}"
