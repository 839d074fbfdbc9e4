"""Commands on their way: the synchronous client, bridged to asyncio.

One thread sends, one listens, and the producer's own confirms; the latter two wake the request that waits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ftjm import logs
from ftjm.client import Client
from ftjm.config import Settings
from ftjm.core.commands import Command
from ftjm.errors import FtjmError, Unreachable
from ftjm.tickets import Ticket

log = logs.get(__name__)

UNDER_WAY_MAX = 5_000
"""Commands that wait for the log; more are turned away."""
CONFIRM_SECONDS = 5.0
"""A command that the log has not taken by then is given up: its sender is told, and sends it again."""
CONNECT_SECONDS = 5.0


class LogAway(Exception):
    """The log does not take commands now. Whoever sent one may send the same again: nothing is doubled."""


class Desk:
    """Sends commands for many requests at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="sender")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._sender.shutdown(cancel_futures=True)

    @property
    def open(self) -> bool:
        """Whether Kafka has let it in, once."""
        return self._client is not None

    async def send(self, command: Command) -> Errand:
        """Send a command, and wait until the replicated log has it. Raises LogAway."""
        client = self._client
        if client is None:
            raise LogAway("no Kafka has answered yet")
        if client.under_way >= UNDER_WAY_MAX:
            raise LogAway(f"{UNDER_WAY_MAX} commands wait for the log already")
        errand = Errand(client, command)
        try:
            # On a thread of its own: with a Kafka that is away and large jobs, handing over may wait for room.
            await asyncio.get_running_loop().run_in_executor(self._sender, errand.send)
            if not await errand.until(lambda ticket: ticket.acknowledged or bool(ticket.failure), CONFIRM_SECONDS + 1):
                raise LogAway(f"no acknowledgement for {CONFIRM_SECONDS:g} s")
            if errand.ticket.failure:
                raise LogAway(errand.ticket.failure)
        except BaseException as error:
            errand.close()
            if isinstance(error, FtjmError):
                raise LogAway(str(error)) from error
            raise
        return errand

    def _run(self) -> None:
        while not self._stop.is_set() and self._client is None:
            try:
                self._client = Client(
                    self._settings,
                    patience_seconds=CONNECT_SECONDS,
                    # Who sent it waits, and is told: better than to send it when they have gone.
                    producer={"message.timeout.ms": int(CONFIRM_SECONDS * 1000)},
                )
            except FtjmError as error:
                log.warning("no_submissions", problem=str(error), todo="waiting, and trying again")
                if not isinstance(error, Unreachable):
                    self._stop.wait(CONNECT_SECONDS)
        while not self._stop.is_set() and self._client is not None:
            try:
                self._client.hear(0.1)
            except Exception:  # one bad answer must not silence all others
                log.exception("answer_unreadable", todo="going on")
                time.sleep(0.5)
        if self._client is not None:
            self._client.close()


class Errand:
    """One command, and its answers as they come. A context manager, behind which no answer is waited for."""

    def __init__(self, client: Client, command: Command) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._command = command
        self.ticket = Ticket(command)

    def send(self) -> None:
        """Hand the command over."""
        self.ticket = self._client.send(self._command, self._tell)

    def __enter__(self) -> Errand:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.forget(self.ticket)

    def _tell(self, _: Ticket) -> None:
        """From another thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    async def until(self, happened: Callable[[Ticket], bool], timeout_seconds: float) -> bool:
        """Wait until `happened`; False if it did not in time."""
        deadline = self._loop.time() + timeout_seconds
        while not happened(self.ticket):
            self._news.clear()
            if happened(self.ticket):
                break
            try:
                await asyncio.wait_for(self._news.wait(), max(0.0, deadline - self._loop.time()))
            except TimeoutError:
                return happened(self.ticket)
        return True

    async def decided(self, timeout_seconds: float) -> bool:
        """Wait for the decision."""
        return await self.until(lambda ticket: ticket.reply is not None, timeout_seconds)

    async def ended(self, timeout_seconds: float) -> bool:
        """Wait for the outcome, or the refusal."""
        return await self.until(lambda ticket: ticket.outcome is not None or ticket.refused, timeout_seconds)

    @property
    def token(self) -> str:
        """The command's place in the log, by which a read can ask to see what became of it."""
        return f"{self.ticket.partition}-{self.ticket.offset}"
